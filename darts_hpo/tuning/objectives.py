"""What a study optimizes, what must hold besides, and what a unit of budget means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from darts_hpo.errors import ConfigError, DartsHPOError, unknown_name

Direction: TypeAlias = Literal["maximize", "minimize"]


class ObjectiveError(DartsHPOError):
    """What a trial returned is no value of the study's objectives, and no other trial's would be."""


@dataclass(frozen=True)
class Objective:
    """A number that every trial returns.

    Args:
        name: as the trial reports it; a trial that returns a bare number reports its only objective.
        direction: whether more or less is better.

    Raises:
        ConfigError: the direction is neither.
    """

    name: str = "value"
    direction: Direction = "maximize"

    def __post_init__(self) -> None:
        if self.direction not in ("maximize", "minimize"):
            raise ConfigError(unknown_name(f"direction of {self.name!r}", self.direction, ("maximize", "minimize")))

    def gain(self, value: float) -> float:
        """The value, turned so that more is better."""
        return value if self.direction == "maximize" else -value


@dataclass(frozen=True)
class OutcomeConstraint:
    """A metric of the finished trial that must not pass a bound, for example ``params <= 2e6``.

    Raises:
        ConfigError: the comparison is neither ``<=`` nor ``>=``, or the bound is not finite.
    """

    name: str
    comparison: Literal["<=", ">="]
    bound: float

    def __post_init__(self) -> None:
        if self.comparison not in ("<=", ">="):
            raise ConfigError(unknown_name(f"comparison of constraint {self.name!r}", self.comparison, ("<=", ">=")))
        if not math.isfinite(self.bound):
            raise ConfigError(f"The bound of constraint {self.name!r} is {self.bound}; expected a finite number.")

    def violation(self, value: float) -> float:
        """By how much a value misses the bound; at most 0 where it holds."""
        return value - self.bound if self.comparison == "<=" else self.bound - value


@dataclass(frozen=True)
class Fidelity:
    """The budget of a trial.

    Args:
        minimum: smallest budget a scheduler or sampler may give.
        maximum: the full budget, whose score counts.
        resumes: whether a larger budget continues the trial (epochs) or starts it afresh (a larger data fraction).
        integer: whether budgets are whole numbers.

    Raises:
        ConfigError: not ``0 < minimum <= maximum``, or fractions where whole numbers are wanted.
    """

    minimum: float
    maximum: float
    resumes: bool = True
    integer: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.minimum <= self.maximum < math.inf:
            raise ConfigError(f"A budget from {self.minimum} to {self.maximum}: expected 0 < minimum <= maximum.")
        if self.integer and not (float(self.minimum).is_integer() and float(self.maximum).is_integer()):
            raise ConfigError(
                f"A budget from {self.minimum} to {self.maximum} in whole numbers: round these, or say integer=false."
            )

    def rounded(self, budget: float) -> float:
        """The nearest budget that can be given."""
        within = min(max(budget, self.minimum), self.maximum)
        return float(round(within)) if self.integer else within


def read_values(
    returned: Any, objectives: Sequence[Objective], constraints: Sequence[OutcomeConstraint] = ()
) -> dict[str, float]:
    """The metrics of what a trial returned.

    Args:
        returned: a number (one objective), a sequence of numbers (one per objective, in order), or a mapping of
            metric names to numbers, which may hold more than is asked for.
        objectives: what must be there.
        constraints: whose metrics must be there too.

    Returns:
        Metric name to number; NaN and infinities are kept for the caller to judge.

    Raises:
        ObjectiveError: nothing, text or a wrong number of values was returned, or a metric is missing.
    """
    needed = [*(objective.name for objective in objectives), *(constraint.name for constraint in constraints)]
    if isinstance(returned, Mapping):
        given = {str(name): value for name, value in returned.items()}
        for name in needed:
            if name not in given:
                raise ObjectiveError(f"The trial returned no such metric. {unknown_name('metric', name, given)}")
    elif isinstance(returned, (list, tuple)):
        if len(returned) != len(objectives) or constraints:
            raise ObjectiveError(
                f"The trial returned {len(returned)} values; expected {len(objectives)} ({', '.join(needed)}). "
                "Return a mapping of names to numbers where constraints need metrics too."
            )
        given = {objective.name: value for objective, value in zip(objectives, returned, strict=True)}
    else:
        if len(needed) != 1:
            raise ObjectiveError(
                f"The trial returned {returned!r}, but the study needs {', '.join(needed)}; return a mapping of them "
                f"(with this project's train.py: objective=[{','.join(needed)}])."
            )
        given = {needed[0]: returned}
    values = {}
    for name, value in given.items():
        number = _number(value)
        if number is not None:
            values[name] = number
        elif name in needed:
            raise ObjectiveError(
                f"The trial returned {value!r} (a {type(value).__name__}) as {name!r}; expected a number. "
                "Does the objective function return its score?"
            )
    return values


def _number(value: Any) -> float | None:
    if hasattr(value, "item") and not isinstance(value, (int, float)):
        try:
            value = value.item()  # a NumPy or torch scalar
        except (ValueError, RuntimeError):
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)
