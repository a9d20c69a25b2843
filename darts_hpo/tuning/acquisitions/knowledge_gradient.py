"""The knowledge gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.acquisitions.base import Acquisition, Score, Situation


class KnowledgeGradient(Acquisition):
    """How much one more answer is expected to raise the largest posterior mean.

    ``E[max_a mu(a | y(x))] - max_a mu(a)``, where ``a`` runs over the most promising rows and ``x`` itself: the
    discrete form (Frazier et al. 2009, eq. 13; Scott et al. 2011). The expectation is taken by quadrature over the
    one number that an answer is. Answers still out count as if they came exactly as expected, see
    :attr:`Situation.believed`.

    Args:
        alternatives: how many rows the best mean is looked for among.
        quadrature: at how many quantiles of the answer.

    Raises:
        ConfigError: a number is below 1.
    """

    def __init__(self, alternatives: int = 64, quadrature: int = 32) -> None:
        if alternatives < 1 or quadrature < 1:
            raise ConfigError(f"alternatives={alternatives}, quadrature={quadrature}: expected at least one of each.")
        self.alternatives, self.quadrature = alternatives, quadrature

    def score(self, situation: Situation) -> Score:  # noqa: D102 - described by the base class
        process = situation.believed
        rows = torch.cat([situation.candidates, process.x])
        mean, variance = process.posterior(rows)
        promise = (mean + variance.sqrt()).argsort(descending=True, stable=True)[: self.alternatives]
        rows, mean = rows[promise], mean[promise]
        now = mean.max()
        quantiles = (torch.arange(self.quadrature, dtype=torch.float64) + 0.5) / self.quadrature
        standard = torch.special.ndtri(quantiles)

        def score(x: Tensor) -> Tensor:
            here, influence, own = process.influence(x, rows)
            # An answer one standard deviation above its expectation moves the mean at a by influence(x, a).
            elsewhere = mean + standard[:, None, None] * influence
            at_x = here + standard[:, None] * own
            largest = torch.maximum(elsewhere.max(dim=-1).values, at_x)
            return (largest - torch.maximum(now, here)).mean(dim=0)

        return score
