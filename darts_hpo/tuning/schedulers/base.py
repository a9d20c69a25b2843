"""What every scheduler does: say what to run next and to which budget, and what not to go on with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from darts_hpo.tuning.history import History
from darts_hpo.tuning.trial import Trial


@dataclass(frozen=True)
class Start:
    """Ask the sampler for a new configuration and run it to a budget.

    Args:
        budget: None runs it to its end.
        labels: kept in the trial, for example its bracket: the scheduler finds them again in the history.
    """

    budget: float | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Promote:
    """Run a trial that completed a budget on to a larger one."""

    trial: int
    budget: float


Action: TypeAlias = Start | Promote


class Scheduler(ABC):
    """Decides budgets. Pure: everything it knows stands in the history, so a resumed study decides the same.

    A failed trial has no result at its budget: it counts as finished there and is never promoted.
    """

    @abstractmethod
    def next(self, history: History) -> Action | None:
        """What a free slot should do now; None where that depends on trials still running, or nothing is left.

        The study asks again after every answer, and ends when None is the answer while nothing runs.
        """

    def keeps(self, trial: Trial, history: History) -> bool:
        """Whether a running trial should go on, given its ``reports`` so far and those of others."""
        return True
