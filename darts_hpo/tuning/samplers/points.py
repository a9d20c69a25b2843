"""Small things that samplers share: which points were tried, and points from the unit cube."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeAlias

from darts_hpo.space import Categorical, Int, Point, Space, Value
from darts_hpo.tuning.history import History

Key: TypeAlias = frozenset[tuple[str, str, Hashable]]


def key(point: Point) -> Key:
    """What makes a point the same point: names and values, with their types (1 is neither True nor ``"1"``)."""
    return frozenset((name, type(value).__name__, value) for name, value in point.items())


def tried(history: History) -> Counter[Key]:
    """How often each point was proposed, in whatever state its trial is; repetitions on other seeds left aside."""
    return Counter(key(trial.point) for trial in history.proposals)


def first_new(points: Iterable[Point], history: History) -> dict[str, Value] | None:
    """The first of the points that was not proposed yet; the last one where all were, None where there is none.

    In a finite space, repeating a point rarely tells anything new, but a sampler must not run dry.
    """
    known, last = tried(history), None
    for point in points:
        last = dict(point)
        if key(point) not in known:
            break
    return last


def from_cube(space: Space, position: Sequence[float]) -> dict[str, Value]:
    """The point at a position of the unit cube, one coordinate per parameter; constraints are not checked.

    Floats and integers by their own scale, the options of a categorical as equal bins. Coordinates of inactive
    parameters are ignored.
    """
    values: dict[str, Value] = {}
    for name, unit in zip(space, position, strict=True):
        parameter = space[name]
        if isinstance(parameter, Categorical):
            k = len(parameter.options)
            values[name] = parameter.options[min(int(unit * k), k - 1)]
        else:
            values[name] = parameter.from_unit(float(unit))
    return {name: values[name] for name in space.active(values)}


def integer_bin(parameter: Int, value: int) -> tuple[float, float]:
    """The stretch of the unit interval that belongs to an integer."""
    low, high = parameter.low - 0.5, parameter.high + 0.5
    if parameter.log:
        span = math.log(high) - math.log(low)
        return (math.log(value - 0.5) - math.log(low)) / span, (math.log(value + 0.5) - math.log(low)) / span
    return (value - 0.5 - low) / (high - low), (value + 0.5 - low) / (high - low)
