"""A list of points, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from darts_hpo.errors import ConfigError, SpaceError
from darts_hpo.space import Value
from darts_hpo.tuning.history import History
from darts_hpo.tuning.samplers.base import Exhausted, Sampler, Suggestion
from darts_hpo.tuning.samplers.points import Key, key, tried


class ManualSampler(Sampler):
    """Proposes the points of a list in their order, then nothing more.

    A point that the study already tried (say, as a warm start) is not proposed again. One that stands in the list
    k times is tried k times.

    Args:
        points: parameter names to values, every active parameter of the space in each.

    Raises:
        ConfigError: the list is empty or holds something else than mappings.
    """

    def __init__(self, points: Sequence[Mapping[str, Value]]) -> None:
        if isinstance(points, (str, Mapping)) or not points:
            raise ConfigError("The manual sampler got no points; give a list such as [{lr: 0.001, momentum: 0.9}].")
        for number, point in enumerate(points):
            if not isinstance(point, Mapping):
                raise ConfigError(f"Point {number} of the manual list is {point!r}; expected names with values.")
        self.points: tuple[dict[str, Value], ...] = tuple(dict(point) for point in points)

    def suggest(self, history: History, *, seed: int, budget: float | None = None) -> Suggestion:
        """The next point of the list; see :meth:`Sampler.suggest`.

        Raises:
            ConfigError: a point of the list does not belong to the space.
            Exhausted: every point was tried.
        """
        done, met = tried(history), Counter[Key]()
        checked = [self._validated(history, number) for number in range(len(self.points))]
        for number, point in enumerate(checked):
            met[key(point)] += 1
            if met[key(point)] > done[key(point)]:
                return Suggestion(point, labels={"position": number})
        raise Exhausted(f"All {len(self.points)} points of the manual list were tried.")

    def _validated(self, history: History, number: int) -> dict[str, Value]:
        try:
            return history.space.validate(self.points[number])
        except SpaceError as error:
            raise ConfigError(f"Point {number} of the manual list: {error}") from None
