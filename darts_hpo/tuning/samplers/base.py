"""What every sampler does: look at the history, propose a point."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from darts_hpo.space import Value
from darts_hpo.tuning.history import History


class Exhausted(Exception):  # noqa: N818 - it is no error: a list or grid has come to its end
    """A sampler has no further point to propose."""


@dataclass(frozen=True)
class Suggestion:
    """A proposed configuration.

    Args:
        point: valid in the space.
        budget: where the sampler itself chooses it (FABOLAS); None leaves it to the scheduler.
        labels: what is worth remembering of how it came about: acquisition value, fallback, density ratio.
    """

    point: Mapping[str, Value]
    budget: float | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Incumbent:
    """The point believed to be the best at the full budget.

    Args:
        point: one that was observed, at whatever budget.
        value: predicted at the full budget, in the objective's own unit; where the model sees logarithms, a median.
    """

    point: Mapping[str, Value]
    value: float


class Sampler(ABC):
    """Proposes points. Pure: no files, and the same history and seed give the same point.

    A cache of a fitted model is allowed where leaving it out would give the same suggestion.
    """

    @abstractmethod
    def suggest(self, history: History, *, seed: int, budget: float | None = None) -> Suggestion:
        """A point to try next.

        Args:
            history: every trial so far; ``history.running`` are pending, and no point should be proposed twice
                because its answer is still out.
            seed: differs at every call of a study.
            budget: at which the scheduler will run it first.

        Returns:
            A suggestion whose point passes ``history.space.validate``.

        Raises:
            Exhausted: there is nothing left to propose.
            ConfigError: the sampler cannot work on this space or these objectives.
        """

    chooses_budget: bool = False
    """Whether it chooses a trial's budget itself; a scheduler's is then only what it falls back on."""

    def incumbent(self, history: History) -> Incumbent | None:
        """Its own answer, where its model sees more than the results at the full budget; None leaves it to others."""
        return None

    @property
    def name(self) -> str:
        """As trials record it: the class's name in snake_case without ``Sampler``."""
        text = type(self).__name__.removesuffix("Sampler")
        return "".join(
            f"_{c.lower()}" if c.isupper() and i and text[i - 1].islower() else c.lower() for i, c in enumerate(text)
        )
