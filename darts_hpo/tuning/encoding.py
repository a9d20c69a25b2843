"""Points of a space as rows of numbers in the unit cube, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darts_hpo.space import Categorical, Int, Parameter, Point, Space, Value


@dataclass(frozen=True)
class Column:
    """Where one parameter stands in a row.

    Args:
        name: of the parameter.
        parameter: its range.
        start: first column.
        width: one; with one-hot encoding, the number of options of a categorical.
    """

    name: str
    parameter: Parameter
    start: int
    width: int

    @property
    def columns(self) -> slice:
        """The columns that hold it."""
        return slice(self.start, self.start + self.width)


class Encoding:
    """Rows of ``[0, 1]^d``: log parameters by their logarithm, integers by the centre of their bin.

    An inactive parameter stands at 0.5 (one-hot: at equal weights), so that it says nothing.

    Args:
        space: of the points.
        one_hot: a categorical takes one column per option; otherwise one column with the option's index.
    """

    def __init__(self, space: Space, *, one_hot: bool = True) -> None:
        self.space, self.one_hot = space, one_hot
        columns, start = [], 0
        for name in space:
            parameter = space[name]
            width = len(parameter.options) if one_hot and isinstance(parameter, Categorical) else 1
            columns.append(Column(name, parameter, start, width))
            start += width
        self.columns: tuple[Column, ...] = tuple(columns)
        self.width = start

    def encode(self, points: Iterable[Point]) -> NDArray[np.float64]:
        """Shape ``[n, width]``."""
        rows = [self._row(point) for point in points]
        return np.array(rows, dtype=np.float64).reshape(len(rows), self.width)

    def _row(self, point: Point) -> list[float]:
        row: list[float] = []
        for column in self.columns:
            parameter = column.parameter
            if not isinstance(parameter, Categorical):
                row.append(parameter.to_unit(point[column.name]) if column.name in point else 0.5)
            elif not self.one_hot:
                row.append(float(parameter.index(point[column.name])) if column.name in point else -1.0)
            elif column.name in point:
                row.extend(np.eye(column.width)[parameter.index(point[column.name])])
            else:
                row.extend([1 / column.width] * column.width)
        return row

    def decode(self, row: Sequence[float] | NDArray[np.float64]) -> dict[str, Value]:
        """The point nearest to a row, its inactive parameters left out. Constraints are not checked."""
        values: dict[str, Value] = {}
        for column in self.columns:
            cells = np.asarray(row[column.columns], dtype=np.float64)
            if not isinstance(column.parameter, Categorical):
                values[column.name] = column.parameter.from_unit(float(np.clip(cells[0], 0.0, 1.0)))
            elif self.one_hot:
                values[column.name] = column.parameter.options[int(cells.argmax())]
            else:
                last = len(column.parameter.options) - 1
                values[column.name] = column.parameter.options[int(np.clip(round(cells[0]), 0, last))]
        active = self.space.active(values)
        return {name: values[name] for name in active}

    def snap(self, row: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """The row of the point nearest to a row: integers at their bins' centres, one option per categorical."""
        return self.encode([self.decode(row)])[0]

    @property
    def hot(self) -> tuple[tuple[int, int], ...]:
        """First column and width of every one-hot categorical."""
        categoricals = (column for column in self.columns if isinstance(column.parameter, Categorical))
        return tuple((column.start, column.width) for column in categoricals) if self.one_hot else ()

    @property
    def discrete(self) -> tuple[Column, ...]:
        """Columns of integers and categoricals."""
        return tuple(column for column in self.columns if isinstance(column.parameter, (Int, Categorical)))
