"""The Gumbel-softmax relaxation, hard or soft (https://arxiv.org/abs/1611.01144, https://arxiv.org/abs/1611.00712)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from darts_hpo.relaxations.annealing import Annealing
from darts_hpo.relaxations.base import Phase
from darts_hpo.relaxations.sampled import SampledRelaxation, one_hot_like, straight_through
from darts_hpo.space import Space
from darts_hpo.supernet import Gate


class GumbelSoftmax(SampledRelaxation):
    """Gates softmax((logits + g) / temperature) with Gumbel noise g (Jang et al., equation 2).

    Whatever the temperature, the largest entry is an option drawn with the probabilities softmax(logits)
    (the Gumbel-max trick).

    * ``hard`` (straight-through, Jang et al. section 2.2): the drawn option alone is computed, with a weight of
      exactly one; the gradient is the soft sample's. A :class:`~darts_hpo.supernet.MixedOp` gives a gradient to the
      drawn entry of the gate alone, from where the soft sample's Jacobian carries it to every logit: that is GDAS
      (https://arxiv.org/abs/1910.04465). A supernet that reads the whole weight vector, as one of quantum
      circuits does, also learns from the entries of the options that were not drawn (QuantumDARTS). The estimate is
      biased, less so at a low temperature, where its variance is large.
    * soft: the sample itself mixes all options (SNAS, https://arxiv.org/abs/1812.09926). The gradient is exact for
      the mixture; memory and time are those of all options.

    In evaluation the noise is left out: the most probable option, or where soft the mixture at the present
    temperature.

    Args:
        space: the supernet's choices, all categorical.
        fixed: as in :class:`~darts_hpo.relaxations.base.Relaxation`.
        init_std: likewise.
        entropy_weight: likewise.
        entropy_start: likewise.
        draws: as in :class:`~darts_hpo.relaxations.sampled.SampledRelaxation`.
        weight_draws: likewise.
        hard: whether the drawn option alone is computed.
        temperature: at the first step, above 0 (GDAS: 10; SNAS: 1).
        final_temperature: at the last step, above 0 (GDAS: 0.1; SNAS: 0.03).
        annealing: ``exponential`` or ``linear``, between the two.
        generator: as in :class:`~darts_hpo.relaxations.base.Relaxation`.

    Raises:
        ConfigError: a temperature or a number of draws is out of range, or the annealing is unknown.
    """

    def __init__(
        self,
        space: Space,
        *,
        fixed: Mapping[str, str] | None = None,
        init_std: float = 1e-3,
        entropy_weight: float = 0.0,
        entropy_start: float = 0.0,
        draws: int = 1,
        weight_draws: int = 1,
        hard: bool = True,
        temperature: float = 1.0,
        final_temperature: float = 0.1,
        annealing: str = "exponential",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            space,
            fixed=fixed,
            init_std=init_std,
            entropy_weight=entropy_weight,
            entropy_start=entropy_start,
            draws=draws,
            weight_draws=weight_draws,
            generator=generator,
        )
        self.hard = hard
        self.kinds = dict.fromkeys(("weights", "arch", "eval"), "path" if hard else "mixture")
        self.annealing = Annealing(temperature, final_temperature, annealing)

    def gate(self, name: str, logits: Tensor, phase: Phase, generator: torch.Generator) -> Gate:
        """A drawn option with the soft sample's gradient, or the soft sample."""
        del name
        perturbed = logits if phase == "eval" else logits + _gumbel_noise(logits, generator)
        soft = (perturbed / self.annealing.at(self.progress)).softmax(dim=-1)
        if not self.hard:
            return Gate(soft if phase == "arch" else soft.detach(), tuple(range(len(soft))))
        position = int(perturbed.argmax())
        one_hot, log_prob = one_hot_like(soft, position), logits.log_softmax(dim=-1)[position]
        if phase != "arch":
            return Gate(one_hot, (position,), log_prob=log_prob.detach())
        return Gate(straight_through(soft, one_hot), (position,), log_prob=log_prob)


def _gumbel_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    # The same numbers on every device and at every precision. An exponential draw of exactly 0 would be infinite noise.
    exponential = torch.empty(len(like), dtype=torch.float64).exponential_(generator=generator)
    return -exponential.clamp_min(torch.finfo(torch.float64).tiny).log().to(like)
