"""Temperatures that fall during the search, as a pure function of progress."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from darts_hpo.errors import ConfigError, unknown_name

SHAPES: Mapping[str, Callable[[float, float, float], float]] = {
    "exponential": lambda initial, final, progress: initial * (final / initial) ** progress,
    "linear": lambda initial, final, progress: initial + (final - initial) * progress,
}
"""Ways from an initial to a final value, by progress in [0, 1]."""


@dataclass(frozen=True)
class Annealing:
    """A temperature from ``initial`` at the first step of a search to ``final`` at its last.

    Args:
        initial: temperature at progress 0, above 0.
        final: temperature at progress 1, above 0.
        shape: one of :data:`SHAPES`. ``exponential`` falls by the same factor in equal times, as in Jang et al.
            (https://arxiv.org/abs/1611.01144); ``linear`` by the same amount, as GDAS does.

    Raises:
        ConfigError: a temperature is not positive, or the shape is unknown.
    """

    initial: float
    final: float
    shape: str = "exponential"

    def __post_init__(self) -> None:
        for name, value in (("temperature", self.initial), ("final_temperature", self.final)):
            if not 0 < value < math.inf:
                raise ConfigError(f"relaxation.{name}={value}: expected a number above 0, for example 1.0.")
        if self.shape not in SHAPES:
            raise ConfigError(unknown_name("relaxation.annealing", self.shape, SHAPES))

    def at(self, progress: float) -> float:
        """The temperature at a point of the search, 0 to 1; exactly ``initial`` and ``final`` at the ends."""
        if progress >= 1:
            return self.final
        return SHAPES[self.shape](self.initial, self.final, max(progress, 0.0))
