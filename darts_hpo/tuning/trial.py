"""One configuration and what became of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from darts_hpo.space import Value


class TrialState(StrEnum):
    """Where a trial stands. A scheduler may send a COMPLETED trial on to a larger budget: it is RUNNING again."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    STOPPED = "STOPPED"
    """Ended early on a scheduler's word; its results so far count."""
    FAILED = "FAILED"


WARM_START = "warm_start"
"""Source of a trial whose point was given beforehand."""

REPLICATE = "replicate"
"""Source of a trial that repeats another on another seed."""


def as_amount(budget: float | None) -> float:
    """A budget as a number to compare: None is a trial's own end, beyond every other."""
    return math.inf if budget is None else budget


@dataclass(frozen=True)
class Result:
    """What a trial was worth at one budget.

    Args:
        values: metric name to finite number, as reported (not turned into gains).
        budget: at which it was measured; None at the trial's own end (always so where the study knows no budgets).
        order: how many results of the study came before it. Samplers that refit on schedule count by it.
        seconds: it took to get there from the budget before, where known. The cost that FABOLAS models.
    """

    values: Mapping[str, float]
    budget: float | None = None
    order: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Trial:
    """One configuration and what became of it. Immutable: the study makes a new one at every event.

    Args:
        number: from 0, in the order of asking; also names the trial's directory.
        point: the values of the active parameters.
        state: where it stands.
        budget: what it runs to, or ran to last; None where the study knows no budgets.
        source: who proposed it: a sampler's name, ``warm_start`` or ``replicate``.
        results: one per budget reached, in the order of arrival.
        reports: step to intermediate value of the (only) objective, as reported.
        reason: why it failed or was stopped.
        labels: what scheduler and sampler noted when it was asked for, such as its bracket.
        record: what else is known of it: genotype, entropy, costs.
        replicate_of: the trial that it repeats on another seed; such a trial proposes nothing new.
        seed: for the trial itself; None leaves it to the objective.
        attempts: how often it was started.
    """

    number: int
    point: Mapping[str, Value]
    state: TrialState = TrialState.RUNNING
    budget: float | None = None
    source: str = ""
    results: tuple[Result, ...] = ()
    reports: Mapping[int, float] = field(default_factory=dict)
    reason: str | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    replicate_of: int | None = None
    seed: int | None = None
    attempts: int = 0

    @property
    def last(self) -> Result | None:
        """The result at the largest budget."""
        return max(self.results, key=lambda result: (as_amount(result.budget), result.order), default=None)

    def at(self, budget: float | None) -> Result | None:
        """The result at exactly one budget."""
        return next((result for result in self.results if result.budget == budget), None)
