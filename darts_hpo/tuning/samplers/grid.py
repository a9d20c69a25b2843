"""Grid search: every combination of a few values per parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Literal

from darts_hpo.errors import ConfigError, unknown_name
from darts_hpo.space import Categorical, Parameter, Space, Value
from darts_hpo.tuning.history import History
from darts_hpo.tuning.samplers.base import Exhausted, Sampler, Suggestion
from darts_hpo.tuning.samplers.points import key, tried

_ORDERS = ("sequential", "shuffled")
_MOST_SHUFFLED = 1_000_000


class GridSampler(Sampler):
    """The Cartesian product of evenly spaced values, each combination once, then nothing more.

    A conditional parameter is varied only where it is active, and combinations that violate a constraint are left
    out. Combinations that the study already tried are not proposed again.

    Args:
        points: values per float parameter, bounds included, evenly spaced on its own (log) scale; a single value
            is the middle. Also the most values of an integer parameter; categoricals take all their options.
            A mapping gives a number per parameter name, and 5 to those it does not name.
        order: ``sequential`` varies the last parameter fastest; ``shuffled`` visits the grid in random order, so
            that a study that ends early has seen values of every parameter.
        seed: of the shuffled order.

    Raises:
        ConfigError: a number of points is not positive, or the order is unknown.
    """

    def __init__(
        self,
        points: int | Mapping[str, int] = 5,
        order: Literal["sequential", "shuffled"] = "sequential",
        seed: int = 0,
    ) -> None:
        if order not in _ORDERS:
            raise ConfigError(unknown_name("order of the grid", str(order), _ORDERS))
        self.points = dict(points) if isinstance(points, Mapping) else points
        for number in self.points.values() if isinstance(self.points, dict) else (self.points,):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ConfigError(f"A grid of {number!r} points per parameter; expected a whole number from 1.")
        self.order, self.seed = order, seed
        self._shuffled: tuple[Space, list[dict[str, Value]]] | None = None

    def suggest(self, history: History, *, seed: int, budget: float | None = None) -> Suggestion:
        """The first combination not tried yet; see :meth:`Sampler.suggest`.

        Raises:
            ConfigError: no combination satisfies the constraints, or the grid is too large to be shuffled.
            Exhausted: every combination was tried.
        """
        done, number = tried(history), -1
        for number, point in enumerate(self.combinations(history.space)):
            if key(point) not in done:
                return Suggestion(point, labels={"position": number})
        if number < 0:
            raise ConfigError("No combination of the grid satisfies the constraints; give more points per parameter.")
        raise Exhausted(f"All {number + 1} combinations of the grid were tried.")

    def combinations(self, space: Space) -> Iterator[dict[str, Value]]:
        """Every combination, in order.

        Raises:
            ConfigError: a number of points is given for an unknown parameter, or the grid is too large to be
                shuffled.
        """
        axes = {name: self.axis(name, space[name]) for name in space}
        if isinstance(self.points, dict):
            for name in self.points:
                if name not in space:
                    raise ConfigError(unknown_name("parameter in the points of the grid", name, space))
        if self.order == "sequential":
            yield from _product(space, axes, {}, list(space))
            return
        if self._shuffled is None or self._shuffled[0] != space:
            size = 1
            for axis in axes.values():
                size *= len(axis)
            if size > _MOST_SHUFFLED:
                raise ConfigError(
                    f"A grid of {size} combinations is too large to be shuffled (at most {_MOST_SHUFFLED}); "
                    "use order=sequential, or random search."
                )
            grid = list(_product(space, axes, {}, list(space)))
            Random(self.seed).shuffle(grid)
            self._shuffled = space, grid
        yield from (dict(point) for point in self._shuffled[1])

    def axis(self, name: str, parameter: Parameter) -> list[Value]:
        """The values of one parameter, in order."""
        if isinstance(parameter, Categorical):
            return list(parameter.options)
        count = self.points.get(name, 5) if isinstance(self.points, dict) else self.points
        first, last = parameter.to_unit(parameter.low), parameter.to_unit(parameter.high)
        if count == 1:
            return [parameter.from_unit(0.5)]
        spaced = [parameter.from_unit(first + (last - first) * i / (count - 1)) for i in range(count)]
        spaced[0], spaced[-1] = parameter.low, parameter.high  # a logarithm and back is not always exact
        return list(dict.fromkeys(spaced))


def _product(
    space: Space, axes: Mapping[str, Sequence[Value]], chosen: dict[str, Value], names: Sequence[str]
) -> Iterator[dict[str, Value]]:
    """Combinations that extend the chosen values; a parameter that is inactive with them takes no value."""
    if not names:
        if space.satisfies(chosen):
            yield dict(chosen)
        return
    name, rest = names[0], names[1:]
    if name not in space.active(chosen):
        yield from _product(space, axes, chosen, rest)
        return
    for value in axes[name]:
        yield from _product(space, axes, {**chosen, name: value}, rest)
