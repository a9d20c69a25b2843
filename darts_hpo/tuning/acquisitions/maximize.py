"""Finds the point of a space with the largest score: random rows, then climbing, then neighbours."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darts_hpo.space import Categorical, Float, Int, Point, Space, Value
from darts_hpo.tuning.acquisitions.base import Score
from darts_hpo.tuning.encoding import Column, Encoding
from darts_hpo.tuning.samplers.points import Key, key
from darts_hpo.tuning.surrogates.backend import botorch

_ENUMERABLE = 2048
"""A space with at most so many points is scored whole."""
_CHUNK = 512
"""Rows scored at once: bounds the memory that a score takes."""


@dataclass(frozen=True)
class SearchSettings:
    """How much effort goes into one suggestion.

    Args:
        candidates: random rows scored first.
        local: further ones drawn around the best rows known.
        restarts: the best of these from which the score is climbed.
        steps: of each climb.
    """

    candidates: int = 256
    local: int = 128
    restarts: int = 6
    steps: int = 50


class Domain:
    """The valid rows of an encoded space.

    Args:
        space: its constraints and conditions are kept everywhere.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.encoding = Encoding(space)
        self._plain = not (space.conditions or space.constraints)

    def points(self, rows: Tensor) -> list[dict[str, Value]]:
        """The points nearest to some rows."""
        return [self.encoding.decode(row) for row in rows.numpy()]

    def rows(self, points: Sequence[Point]) -> Tensor:
        """Shape ``[n, d]``, float64."""
        return torch.from_numpy(self.encoding.encode(points))

    def snapped(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of the points nearest to some rows, and which of these are valid, shape ``[n]``."""
        if self._plain:
            # No point is invalid: whole columns at a time, instead of point by point.
            rows = rows.clamp(0.0, 1.0)
            for column in self.encoding.discrete:
                rows[:, column.columns] = _nearest(column, rows[:, column.columns])
            return rows, torch.ones(len(rows), dtype=torch.bool)
        points = self.points(rows)
        return self.rows(points), torch.tensor([self.space.satisfies(point) for point in points], dtype=torch.bool)

    def valid(self, rows: Tensor) -> Tensor:
        """The valid ones among the snapped rows, repeated ones left out."""
        snapped, valid = self.snapped(rows)
        kept = snapped[valid]
        return torch.unique(kept, dim=0) if self.encoding.discrete or not self._plain else kept

    def spread(self, number: int, seed: int) -> Tensor:
        """About so many valid rows, spread by a scrambled Sobol sequence; at least one.

        Raises:
            SpaceError: the constraints admit no point that random draws would find.
        """
        draws = sobol(self.encoding.width, number, seed)
        rows = self.valid(draws)
        rng = random.Random(seed)
        while len(rows) < min(8, number):
            rows = torch.cat([rows, self.rows([self.space.sample(rng) for _ in range(8)])])
        return rows

    def around(self, centres: Tensor, number: int, seed: int) -> Tensor:
        """Valid rows near some others: each moves by about 0.1, 0.02 or 0.004 in a random half of its columns.

        Args:
            centres: shape ``[k, d]``.
            number: of draws.
            seed: of the draws.
        """
        if not len(centres) or not number:
            return centres[:0]
        generator = torch.Generator().manual_seed(seed)
        rows = centres[torch.arange(number) % len(centres)].clone()
        width = torch.tensor([0.1, 0.02, 0.004], dtype=torch.float64)[torch.arange(number) // len(centres) % 3]
        moves = torch.randn(rows.shape, generator=generator, dtype=torch.float64) * width.unsqueeze(-1)
        moved = torch.rand(rows.shape, generator=generator) < max(0.5, 1.0 / rows.shape[1])
        rows = torch.where(moved, rows + moves, rows)
        for column in self.encoding.discrete:
            if isinstance(column.parameter, Categorical):
                drawn = torch.randint(column.width, (number,), generator=generator)
                hot = torch.eye(column.width, dtype=torch.float64)[drawn]
                other = torch.rand(number, generator=generator) < 0.25
                rows[other, column.columns] = hot[other]
                continue
            assert isinstance(column.parameter, Int)
            step = torch.randint(-1, 2, (number,), generator=generator) / _count(column.parameter)
            rows[:, column.start] += step
        return self.valid(rows.clamp(0.0, 1.0))

    def neighbours(self, row: Tensor, generator: torch.Generator) -> Tensor:
        """Valid rows that differ in one discrete parameter: every other option, or integers near and far."""
        found = []
        for column in self.encoding.discrete:
            for cells in self._alternatives(column, row, generator):
                other = row.clone()
                other[column.columns] = cells
                found.append(other)
        if not found:
            return row.new_empty(0, len(row))
        return torch.stack(found) if self._plain else self.valid(torch.stack(found))

    def _alternatives(self, column: Column, row: Tensor, generator: torch.Generator) -> list[Tensor]:
        parameter = column.parameter
        if isinstance(parameter, Categorical):
            current = int(row[column.columns].argmax())
            options = torch.eye(column.width, dtype=torch.float64)
            return [option for position, option in enumerate(options) if position != current]
        assert isinstance(parameter, Int)
        value = parameter.from_unit(float(row[column.start]))
        steps = {value - 1, value + 1}
        far = torch.randn(6, generator=generator, dtype=torch.float64) * 0.2 + row[column.start]
        steps |= {parameter.from_unit(float(position)) for position in far.clamp(0.0, 1.0)}
        inside = sorted(step for step in steps if parameter.low <= step <= parameter.high and step != value)
        return [torch.tensor([parameter.to_unit(step)], dtype=torch.float64) for step in inside]

    def free(self, rows: Tensor) -> Tensor:
        """Which columns may move continuously, shape ``[n, d]``: those of active real parameters."""
        free = torch.zeros_like(rows, dtype=torch.bool)
        floats = [column for column in self.encoding.columns if isinstance(column.parameter, Float)]
        for index, point in enumerate(self.points(rows)) if self.space.conditions else ():
            for column in floats:
                free[index, column.start] = column.name in point
        if not self.space.conditions:
            free[:, [column.start for column in floats]] = True
        return free

    def all_points(self) -> list[dict[str, Value]] | None:
        """Every valid point of a small finite space; None of any other."""
        size = self.space.size
        if size is None or size > _ENUMERABLE:
            return None
        points: list[dict[str, Value]] = [{}]
        for name, parameter in self.space.parameters.items():
            assert not isinstance(parameter, Float)
            options: Sequence[Value] = (
                parameter.options if isinstance(parameter, Categorical) else range(parameter.low, parameter.high + 1)
            )
            points = [{**point, name: option} for point in points for option in options]
        active = ({name: point[name] for name in self.space.active(point)} for point in points)
        unique = {key(point): point for point in active}
        return [point for point in unique.values() if self.space.satisfies(point)]


def maximize(
    score: Score, domain: Domain, settings: SearchSettings, seed: int, centres: Tensor, taken: set[Key]
) -> tuple[dict[str, Value], float]:
    """The point with the largest score that was found, and its score.

    Args:
        score: differentiable, see :data:`Score`.
        domain: where to look.
        settings: how hard.
        seed: of the random rows.
        centres: good rows known, shape ``[k, d]``; some candidates are drawn around them.
        taken: :data:`Key` of points not to propose again, unless no other is left.

    Raises:
        SpaceError: the constraints admit no point that random draws would find.
    """
    everything = domain.all_points()
    if everything is not None:
        points = [point for point in everything if key(point) not in taken] or everything
        values = _values(score, domain.rows(points))
        index = int(values.argmax())
        return points[index], float(values[index])
    if domain.space.size is not None and taken:
        known = [{name: cast("Value", value) for name, _, value in entries} for entries in taken]
        score = _without(score, domain.rows(known))
    rows = torch.cat([domain.spread(settings.candidates, seed), domain.around(centres, settings.local, seed)])
    values = _values(score, rows)
    best = values.argsort(descending=True, stable=True)
    starts = rows[best[: settings.restarts]]
    found, heights = _improved(score, domain, starts, settings.steps, seed)
    # A climb that went nowhere leaves the random rows as candidates.
    rows, values = torch.cat([found, rows[best]]), torch.cat([heights, values[best]])
    order = values.argsort(descending=True, stable=True)
    for index in order.tolist():
        point = domain.encoding.decode(rows[index].numpy())
        if key(point) not in taken:
            return point, float(values[index])
    first = int(order[0])
    return domain.encoding.decode(rows[first].numpy()), float(values[first])


def sobol(width: int, number: int, seed: int) -> Tensor:
    """A scrambled Sobol sequence, shape ``[number, width]``, float64."""
    engine = torch.quasirandom.SobolEngine(width, scramble=True, seed=seed)
    return engine.draw(number, dtype=torch.float64)


def _without(score: Score, taken: Tensor) -> Score:
    """The score, but that of the rows taken is minus infinity, so that no search ends at one of them."""

    def without(x: Tensor) -> Tensor:
        found = (x.unsqueeze(1) == taken).all(-1).any(-1)
        return torch.where(found, -torch.inf, score(x))

    return without


def _values(score: Score, rows: Tensor) -> Tensor:
    with torch.no_grad():
        values = torch.cat([score(part) for part in rows.split(_CHUNK)])
    return torch.nan_to_num(values, nan=-torch.inf)


def _improved(score: Score, domain: Domain, rows: Tensor, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """Climbs in the real parameters and moves to better neighbours in the others, in turn."""
    generator = torch.Generator().manual_seed(seed)
    rows, values = _climbed(score, domain, rows, steps)
    if not domain.encoding.discrete:
        return rows, values
    real = any(isinstance(column.parameter, Float) for column in domain.encoding.columns)
    # Where all is discrete, every step of the search is one of these exchanges.
    rounds = 3 if domain.space.size is None else 16
    for _ in range(rounds):
        around = [domain.neighbours(row, generator) for row in rows]
        heights = _values(score, torch.cat(around)).split([len(part) for part in around])
        moved = False
        for index, (part, height) in enumerate(zip(around, heights, strict=True)):
            if len(part) and height.max() > values[index]:
                rows[index], values[index] = part[int(height.argmax())], height.max()
                moved = True
        if not moved:
            break
        if real:
            rows, values = _climbed(score, domain, rows, steps)
    return rows, values


def _climbed(score: Score, domain: Domain, starts: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """L-BFGS-B from every start in its free columns; a climb that leaves the valid rows is cut back."""
    free = domain.free(starts)
    if not bool(free.any()):
        return starts.clone(), _values(score, starts)

    def negative(
        rows: NDArray[np.float64], batch_indices: list[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x = torch.from_numpy(rows).requires_grad_(True)
        value = -score(x)
        (slope,) = torch.autograd.grad(value.sum(), x)
        slope = torch.where(free[batch_indices], torch.nan_to_num(slope), 0.0)
        return torch.nan_to_num(value.detach(), nan=torch.inf).numpy().copy(), slope.numpy().copy()

    tops, _, _ = botorch.optim.batched_lbfgs_b.fmin_l_bfgs_b_batched(
        negative, starts.numpy().copy(), bounds=[(0.0, 1.0)] * starts.shape[1], maxiter=steps, pass_batch_indices=True
    )
    ends = torch.where(free, torch.from_numpy(np.asarray(tops, dtype=np.float64)), starts)
    rows, valid = domain.snapped(ends)
    for share in (0.5, 0.25, 0.125):
        if bool(valid.all()):
            break
        halfway, allowed = domain.snapped(starts + share * (ends - starts))
        rows = torch.where((~valid & allowed).unsqueeze(-1), halfway, rows)
        valid = valid | allowed
    rows = torch.where(valid.unsqueeze(-1), rows, starts)
    values, before = _values(score, rows), _values(score, starts)
    better = values >= before
    return torch.where(better.unsqueeze(-1), rows, starts), torch.where(better, values, before)


def _nearest(column: Column, cells: Tensor) -> Tensor:
    """What the encoding makes of cells of one discrete parameter, shape ``[n, width]``."""
    parameter = column.parameter
    if isinstance(parameter, Categorical):
        return torch.nn.functional.one_hot(cells.argmax(1), column.width).to(cells.dtype)
    assert isinstance(parameter, Int)
    positions = {cell: parameter.to_unit(parameter.from_unit(cell)) for cell in set(cells[:, 0].tolist())}
    return torch.tensor([[positions[cell]] for cell in cells[:, 0].tolist()], dtype=cells.dtype)


def _count(parameter: Int) -> int:
    return parameter.high - parameter.low + 1
