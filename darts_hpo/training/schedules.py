"""Learning rate and momentum as a pure function of progress."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from darts_hpo.errors import ConfigError, unknown_name

DECAYS: Mapping[str, Callable[[float], float]] = {
    "linear": lambda progress: 1 - progress,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    "constant": lambda progress: 1.0,
}
"""How much of the way from the final to the full learning rate is left, by progress in [0, 1]."""


@dataclass(frozen=True)
class ScheduleValues:
    """What the optimizer is set to for one step.

    Args:
        lr: learning rate of weights, ``decay`` and ``no_decay`` alike.
        bias_lr: learning rate of biases.
        momentum: momentum, or the first beta of Adam.
    """

    lr: float
    bias_lr: float
    momentum: float


@dataclass(frozen=True)
class Schedule:
    """Warm-up, then decay.

    During warm-up, linearly in the step: the weights' rate from 0 to ``lr``, the biases' from
    ``warmup_bias_lr`` to ``lr``, momentum from ``warmup_momentum`` to ``momentum``, whichever is larger.
    Decay begins where warm-up ends, so the first step after it uses exactly ``lr`` and ``momentum``: what an
    outer loop proposes is what trains. (The YOLOv9 recipe decays during warm-up already and then never
    reaches its configured rate.) The last step uses exactly ``lr * final_factor``, unless the decay is
    ``constant``.

    Args:
        lr: learning rate, above 0.
        momentum: in [0, 1).
        decay: ``linear``, ``cosine`` or ``constant``, updated every step.
        final_factor: last rate over ``lr``, in [0, 1].
        warmup_epochs: length of the warm-up, may be a fraction.
        warmup_min_steps: lower bound of that length, for small data sets.
        warmup_bias_lr: first rate of biases.
        warmup_momentum: first momentum, in [0, 1).

    Raises:
        ConfigError: a value is out of range or the decay unknown.
    """

    lr: float
    momentum: float
    decay: str = "linear"
    final_factor: float = 0.01
    warmup_epochs: float = 3.0
    warmup_min_steps: int = 100
    warmup_bias_lr: float = 0.1
    warmup_momentum: float = 0.8
    _decay: Callable[[float], float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _require("lr", self.lr, self.lr > 0, "above 0")
        _require("momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)")
        _require("final_factor", self.final_factor, 0 <= self.final_factor <= 1, "in [0, 1]")
        _require("warmup_epochs", self.warmup_epochs, self.warmup_epochs >= 0, "at least 0")
        _require("warmup_min_steps", self.warmup_min_steps, self.warmup_min_steps >= 0, "at least 0")
        _require("warmup_bias_lr", self.warmup_bias_lr, self.warmup_bias_lr >= 0, "at least 0")
        _require("warmup_momentum", self.warmup_momentum, 0 <= self.warmup_momentum < 1, "in [0, 1)")
        if self.decay not in DECAYS:
            raise ConfigError(unknown_name("learning rate decay", self.decay, DECAYS))
        object.__setattr__(self, "_decay", DECAYS[self.decay])

    def warmup_steps(self, steps_per_epoch: int, epochs: int) -> int:
        """Steps before the configured values are reached; never more than half of the training."""
        if self.warmup_epochs == 0:
            return 0
        wanted = max(round(self.warmup_epochs * steps_per_epoch), self.warmup_min_steps)
        return min(wanted, steps_per_epoch * epochs // 2)

    def at(self, step: int, steps_per_epoch: int, epochs: int) -> ScheduleValues:
        """Values for one step.

        Args:
            step: optimizer steps done before, from 0; at or beyond the end the last values hold.
            steps_per_epoch: optimizer steps in an epoch.
            epochs: length of the full training, also where it may be stopped earlier.
        """
        warmup = self.warmup_steps(steps_per_epoch, epochs)
        if step < warmup:
            share = step / warmup
            return ScheduleValues(
                lr=share * self.lr,
                bias_lr=_between(self.warmup_bias_lr, self.lr, share),
                momentum=_between(self.warmup_momentum, self.momentum, share),
            )
        last = steps_per_epoch * epochs - 1
        progress = min((step - warmup) / (last - warmup), 1.0) if last > warmup else 0.0
        factor = _between(self.final_factor, 1.0, self._decay(progress))
        return ScheduleValues(self.lr * factor, self.lr * factor, self.momentum)


def _between(start: float, end: float, share: float) -> float:
    return start + (end - start) * share if share < 1 else end


def _require(name: str, value: float, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{name} must be {expected}, not {value!r}.")
