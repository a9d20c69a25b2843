"""A cost in the loss of the architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from darts_hpo.costs.base import Cost
from darts_hpo.costs.model import CostModel
from darts_hpo.errors import ConfigError, TrainingError, unknown_name
from darts_hpo.supernet import Gate

Form: TypeAlias = Literal["add", "mul"]
Excess: TypeAlias = Literal["linear", "positive", "absolute"]

_EXCESS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda relative: relative,
    "positive": torch.relu,
    "absolute": torch.abs,
}


class CostPenalty:
    """Adds to a loss `L`, or multiplies it by, how far the expected cost `E` lies from a target `T`.

    The penalized loss is, with the excess `x = f(E / T - 1)`:

    * ``add``: `L + weight * x`. With `f` linear this is ProxylessNAS' `L + lambda * (E - T) / T`
      (https://arxiv.org/abs/1812.00332, section 3.3, normalised as in its released code).
    * ``mul``: `L * (1 + x) ** weight`. With `f` linear this is MnasNet's soft constraint
      `L * (E / T) ** weight` (https://arxiv.org/abs/1807.11626, equation 2, as a loss).

    A loss that may be negative, such as an energy, needs ``add``: to multiply it would reward the cost.

    Being relative, the weight means the same for milliseconds, GFLOPs and parameters.

    Args:
        cost: what is penalized.
        weight: strength, at least 0.
        target: `T` in the cost's unit, positive; None takes the cost of the reference architecture.
        form: ``add`` or ``mul``.
        excess: `f`: ``linear`` always pulls the cost down, ``positive`` only while it exceeds the target, and
            ``absolute`` pulls it to the target from both sides.

    Raises:
        ConfigError: a value is out of range or a name unknown.
    """

    def __init__(
        self,
        cost: Cost,
        weight: float,
        target: float | None = None,
        form: Form = "add",
        excess: Excess = "linear",
    ) -> None:
        if not weight >= 0:
            raise ConfigError(f"The penalty's weight={weight}: expected a number >= 0.")
        if target is not None and not target > 0:
            raise ConfigError(f"The penalty's target={target}: expected a positive number of {cost.unit}, or null.")
        if form not in ("add", "mul"):
            raise ConfigError(unknown_name("form of a penalty", str(form), ("add", "mul")))
        if excess not in _EXCESS:
            raise ConfigError(unknown_name("excess of a penalty", str(excess), _EXCESS))
        self.cost, self.weight, self.target, self.form, self.excess = cost, weight, target, form, excess

    def __call__(self, loss: Tensor, model: CostModel, gates: Mapping[str, Gate] | Mapping[str, Tensor]) -> Tensor:
        """The penalized loss: `L` plus :meth:`term`."""
        return loss + self.term(loss, model, gates)

    def term(self, loss: Tensor, model: CostModel, gates: Mapping[str, Gate] | Mapping[str, Tensor]) -> Tensor:
        """What is added to the loss: the penalized loss minus `L`.

        Args:
            loss: `L`, a scalar; at least 0 where the form is ``mul``.
            model: cost model of :attr:`cost`.
            gates: as in :meth:`CostModel.expected <darts_hpo.costs.model.CostModel.expected>`.

        Returns:
            A scalar, differentiable in the loss and in the weights of the gates.

        Raises:
            ConfigError: the reference costs nothing, so that a target must be given.
            TrainingError: the form is ``mul`` and the loss negative.
        """
        target = model.reference if self.target is None else self.target
        if not target > 0:
            raise ConfigError(f"The reference's {model.name} is {target}; give the penalty a target > 0.")
        excess = _EXCESS[self.excess](model.expected(gates) / target - 1.0)
        if self.form == "add":
            return self.weight * excess
        if float(loss.detach()) < 0:
            raise TrainingError(
                f"The arch loss is {float(loss.detach()):.4g}, and penalty.form=mul makes a negative loss the better "
                "the more the architecture costs; use penalty.form=add."
            )
        return loss * ((1.0 + excess) ** self.weight - 1.0)
