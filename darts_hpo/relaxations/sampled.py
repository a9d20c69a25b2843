"""What relaxations share that draw options instead of mixing them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError
from darts_hpo.relaxations.base import Relaxation
from darts_hpo.space import Space


class SampledRelaxation(Relaxation):
    """A relaxation whose gates are random: a step may average over several draws.

    The mean over ``n`` independent draws has the expectation of one and ``1 / n`` of its variance. Draws are
    evaluated one after another, so memory is that of one and time ``n`` times as long.

    Args:
        space: the supernet's choices, all categorical.
        fixed: as in :class:`~darts_hpo.relaxations.base.Relaxation`.
        init_std: likewise.
        entropy_weight: likewise.
        entropy_start: likewise.
        draws: gates drawn for one step of the logits, at least 1.
        weight_draws: gates drawn for one step of the weights, at least 1.
        generator: as in :class:`~darts_hpo.relaxations.base.Relaxation`.

    Raises:
        ConfigError: a number of draws is below 1.
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
        for name, number in (("draws", draws), ("weight_draws", weight_draws)):
            if number < 1:
                raise ConfigError(f"relaxation.{name}={number}: expected a number of at least 1.")
        self.draws, self.weight_draws = draws, weight_draws


def drawn_position(p: Tensor, generator: torch.Generator) -> int:
    """The position of an option drawn with probabilities ``p`` of shape `n_options`, on the CPU on every device."""
    return int(torch.multinomial(p.detach().cpu(), 1, generator=generator))


def one_hot_like(p: Tensor, position: int) -> Tensor:
    """One at a position, zero elsewhere, without gradient, in the shape of ``p``."""
    one_hot = torch.zeros_like(p, requires_grad=False)
    one_hot[position] = 1.0
    return one_hot


def straight_through(soft: Tensor, one_hot: Tensor) -> Tensor:
    """A tensor with exactly the value of ``one_hot`` and the gradient of ``soft``.

    The usual ``one_hot + soft - soft.detach()`` rounds: 1 + p - p is not always 1.
    """
    value: Tensor = _OneHotValue.apply(soft, one_hot)
    return value


class _OneHotValue(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, soft: Tensor, one_hot: Tensor) -> Tensor:
        del ctx, soft
        return one_hot.clone()

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> tuple[Tensor, None]:
        del ctx
        return grads[0], None
