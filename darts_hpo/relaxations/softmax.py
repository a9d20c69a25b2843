"""The continuous relaxation of DARTS: every option, weighted by a softmax (https://arxiv.org/abs/1806.09055)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from darts_hpo.relaxations.annealing import Annealing
from darts_hpo.relaxations.base import Phase, Relaxation
from darts_hpo.space import Space
from darts_hpo.supernet import Gate


class Softmax(Relaxation):
    """All options are computed and mixed by softmax(logits / temperature) (DARTS, equation 2, at temperature 1).

    A temperature that falls below 1 sharpens the mixture towards the end of the search, as an entropy weight does;
    unlike it, it decides nothing by itself, it only weighs what the logits already say.

    Args:
        space: the supernet's choices, all categorical.
        fixed: as in :class:`~darts_hpo.relaxations.base.Relaxation`.
        init_std: likewise.
        entropy_weight: likewise.
        entropy_start: likewise.
        temperature: at the first step, above 0.
        final_temperature: at the last step, above 0.
        annealing: ``exponential`` or ``linear``, between the two.
        generator: as in :class:`~darts_hpo.relaxations.base.Relaxation`.

    Raises:
        ConfigError: a temperature is out of range, or the annealing is unknown.
    """

    kinds = {"weights": "mixture", "arch": "mixture", "eval": "mixture"}

    def __init__(
        self,
        space: Space,
        *,
        fixed: Mapping[str, str] | None = None,
        init_std: float = 1e-3,
        entropy_weight: float = 0.0,
        entropy_start: float = 0.0,
        temperature: float = 1.0,
        final_temperature: float = 1.0,
        annealing: str = "exponential",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            space,
            fixed=fixed,
            init_std=init_std,
            entropy_weight=entropy_weight,
            entropy_start=entropy_start,
            generator=generator,
        )
        self.annealing = Annealing(temperature, final_temperature, annealing)

    def distribution(self, logits: Tensor) -> Tensor:
        """softmax(logits / temperature), what the options are weighted by."""
        return (logits / self.annealing.at(self.progress)).softmax(dim=-1)

    def gate(self, name: str, logits: Tensor, phase: Phase, generator: torch.Generator) -> Gate:
        """The weights of all options; gradient only in an arch step. Nothing is drawn."""
        del name, generator
        weights = self.distribution(logits)
        return Gate(weights if phase == "arch" else weights.detach(), tuple(range(len(logits))))
