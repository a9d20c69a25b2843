"""Which parameter matters: Sobol indices of a surrogate, estimated by Monte Carlo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darts_hpo.space import Categorical, Point, Space, Value

Predict = Callable[[Sequence[Point]], NDArray[np.float64]]
"""Posterior mean of the surrogate at points, shape ``[n]``."""


@dataclass(frozen=True)
class Importance:
    """Share of the surrogate's variance over the space, each from 0 to 1.

    Args:
        first: by the parameter alone.
        total: by the parameter together with all its interactions.
    """

    first: float
    total: float


def sobol_indices(space: Space, predict: Predict, samples: int = 512, seed: int = 0) -> dict[str, Importance]:
    """First-order and total Sobol indices of every parameter over the whole space.

    Estimated as by Saltelli et al. 2010 (first order: their table 2 b; total: Jansen's form, f). Conditions are
    followed: a parameter that is inactive at a point changes nothing there. Constraints are ignored: the indices
    need parameters that vary independently.

    Args:
        space: of the parameters.
        predict: posterior mean of a surrogate.
        samples: of the base design; ``samples * (parameters + 2)`` predictions are made.
        seed: of the scrambled Sobol sequence.

    Returns:
        Parameter to indices, most important first; all zero where the surrogate is flat.
    """
    from scipy.stats import qmc

    names = list(space)
    d = len(names)
    design = qmc.Sobol(2 * d, seed=seed).random(samples)
    a, b = design[:, :d], design[:, d:]
    at_a, at_b = predict(_points(space, a)), predict(_points(space, b))
    variance = float(np.var(np.concatenate([at_a, at_b])))
    indices = {}
    for j, name in enumerate(names):
        mixed = a.copy()
        mixed[:, j] = b[:, j]
        at_mixed = predict(_points(space, mixed))
        if variance <= 1e-18 * max(1.0, float(np.abs(at_a).max()) ** 2):
            indices[name] = Importance(0.0, 0.0)
            continue
        first = float(np.mean(at_b * (at_mixed - at_a))) / variance
        total = float(np.mean((at_a - at_mixed) ** 2)) / (2 * variance)
        indices[name] = Importance(float(np.clip(first, 0, 1)), float(np.clip(total, 0, 1)))
    return dict(sorted(indices.items(), key=lambda item: -item[1].total))


def _points(space: Space, rows: NDArray[np.float64]) -> list[dict[str, Value]]:
    points = []
    for row in rows:
        values: dict[str, Value] = {}
        for name, position in zip(space, row, strict=True):
            parameter = space[name]
            if isinstance(parameter, Categorical):
                values[name] = parameter.options[
                    min(int(position * len(parameter.options)), len(parameter.options) - 1)
                ]
            else:
                values[name] = parameter.from_unit(float(position))
        points.append({name: values[name] for name in space.active(values)})
    return points
