"""Searching a space for the point with the greatest acquisition value, without gradients.

Forests have none, mixed and conditional spaces have no place for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from darts_hpo.space import Categorical, Int, Point, Space, Value
from darts_hpo.tuning.history import History
from darts_hpo.tuning.samplers.points import key, tried

Score: TypeAlias = Callable[[Sequence[Point]], NDArray[np.float64]]
"""Points to their acquisition values, shape ``[n]``."""


def search(
    score: Score,
    history: History,
    rng: Random,
    starts: Iterable[Point] = (),
    *,
    random_points: int = 1000,
    random_starts: int = 5,
    steps: int = 12,
) -> dict[str, Value] | None:
    """The best point found by random search, then local search (SMAC: Hutter et al. 2011, section 4.3).

    Local searches begin at the given points, usually the best of the study, and at the best random ones. All climb
    at the same time, so that a score costs one call per step.

    Args:
        score: greater is better, finite.
        history: whose points are not proposed again.
        rng: the only source of randomness.
        starts: valid points.
        random_points: drawn uniformly.
        random_starts: how many of them are climbed from.
        steps: of each local search at most.

    Returns:
        None where every point met was tried before, as happens at the end of a finite space.
    """
    space, known = history.space, tried(history)
    points: list[dict[str, Value]] = [space.sample(rng) for _ in range(random_points)]
    points.extend(dict(point) for point in starts)
    values = score(points)
    order = np.argsort(-values[:random_points], kind="stable")[:random_starts]
    climbers = [*order.tolist(), *range(random_points, len(points))]
    current, heights = [points[i] for i in climbers], [float(values[i]) for i in climbers]
    met = {key(point): (float(value), point) for point, value in zip(points, values, strict=True)}
    widths = [0.2] * len(current)
    for _ in range(steps):
        fans = [neighbours(space, point, rng, width) for point, width in zip(current, widths, strict=True)]
        flat = [point for fan in fans for point in fan]
        if not flat:
            break
        flat_values, offset = score(flat), 0
        met.update((key(point), (float(value), point)) for point, value in zip(flat, flat_values, strict=True))
        for climber, fan in enumerate(fans):
            own = flat_values[offset : offset + len(fan)]
            offset += len(fan)
            if len(fan) and float(own.max()) > heights[climber]:
                best = int(own.argmax())
                current[climber], heights[climber] = fan[best], float(own[best])
            else:
                widths[climber] /= 2.0  # nothing better at this distance: look closer
    fresh = [(value, point) for name, (value, point) in met.items() if name not in known]
    return max(fresh, key=lambda pair: pair[0])[1] if fresh else None


def neighbours(space: Space, point: Point, rng: Random, width: float, draws: int = 4) -> list[dict[str, Value]]:
    """Valid points that differ from another in one parameter: numbers by normal steps, categoricals by any option.

    Parameters that a changed option switches on are drawn uniformly.

    Args:
        space: of the point.
        point: the centre.
        rng: the only source of randomness.
        width: standard deviation of the steps, on the unit scale; an integer moves by at least one.
        draws: steps per number.
    """
    found: list[dict[str, Value]] = []
    for name, value in point.items():
        parameter = space[name]
        changed: list[Value]
        if isinstance(parameter, Categorical):
            changed = [option for option in parameter.options if parameter.index(option) != parameter.index(value)]
        else:
            unit = parameter.to_unit(value)
            steps = [unit + rng.gauss(0.0, width) for _ in range(draws)]
            changed = [parameter.from_unit(step) for step in steps if 0.0 <= step <= 1.0]
            if isinstance(parameter, Int):
                whole = {int(new) for new in changed} | {int(value) - 1, int(value) + 1}
                changed = [new for new in sorted(whole) if parameter.low <= new <= parameter.high and new != value]
        found.extend(_with(space, point, name, new, rng) for new in changed)
    return [candidate for candidate in found if space.satisfies(candidate)]


def _with(space: Space, point: Point, name: str, value: Value, rng: Random) -> dict[str, Value]:
    """The point with one value changed, parameters switched off left out and those switched on drawn."""
    values = {**point, name: value}
    while True:
        active = space.active(values)
        missing = [each for each in active if each not in values]
        if not missing:
            return {each: values[each] for each in active}
        for each in missing:
            values[each] = space[each].sample(rng)
