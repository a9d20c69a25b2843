"""Everything that samplers and schedulers may look at: the study so far, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from darts_hpo.space import Space
from darts_hpo.tuning.objectives import Fidelity, Objective, OutcomeConstraint
from darts_hpo.tuning.trial import Result, Trial, TrialState, as_amount


@dataclass(frozen=True)
class History:
    """The trials of a study so far, with what they are judged by.

    Samplers and schedulers are pure functions of it (and of a seed), so that a study goes on after a crash as if
    nothing had happened.

    Args:
        space: what is tuned.
        objectives: at least one.
        trials: by number, without gaps.
        constraints: bounds on metrics of the finished trial.
        fidelity: range of budgets; None where every trial runs to its end.
        closed: no further configuration will be asked for: whoever waits for more waits in vain.
    """

    space: Space
    objectives: tuple[Objective, ...] = (Objective(),)
    trials: tuple[Trial, ...] = ()
    constraints: tuple[OutcomeConstraint, ...] = ()
    fidelity: Fidelity | None = None
    closed: bool = False

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    @cached_property
    def running(self) -> tuple[Trial, ...]:
        """Trials without an answer yet, those that run on to a larger budget included."""
        return tuple(trial for trial in self.trials if trial.state is TrialState.RUNNING)

    @cached_property
    def failed(self) -> tuple[Trial, ...]:
        """Trials that gave no value; not those whose very point was lost with a damaged line of the journal."""
        return tuple(trial for trial in self.trials if trial.state is TrialState.FAILED and trial.point)

    @cached_property
    def proposals(self) -> tuple[Trial, ...]:
        """Trials that were proposed, repetitions on other seeds left aside: what ``n_trials`` counts."""
        return tuple(trial for trial in self.trials if trial.replicate_of is None)

    @cached_property
    def observations(self) -> tuple[tuple[Trial, Result], ...]:
        """Every result with its trial, in the order of arrival. Failed trials contribute what they had before."""
        pairs = [(trial, result) for trial in self.trials for result in trial.results]
        return tuple(sorted(pairs, key=lambda pair: pair[1].order))

    @cached_property
    def budgets(self) -> tuple[float | None, ...]:
        """Every budget at which there is a result, smallest first; None, a trial's own end, is the largest."""
        return tuple(sorted({result.budget for _, result in self.observations}, key=as_amount))

    def at(self, budget: float | None) -> tuple[tuple[Trial, Result], ...]:
        """The results at exactly one budget, in the order of arrival."""
        return tuple(pair for pair in self.observations if pair[1].budget == budget)

    def largest_budget(self, minimum: int) -> float | None:
        """The largest budget with at least ``minimum`` results (BOHB's rule); the best-filled one where none has.

        None stands for a trial's own end (and is the answer where there are no results at all).
        """
        counts = {budget: len(self.at(budget)) for budget in self.budgets}
        enough = [budget for budget, count in counts.items() if count >= minimum]
        if enough:
            return enough[-1]
        return max(counts, key=lambda budget: counts[budget], default=None)

    def comparable(self, minimum: int = 1) -> tuple[tuple[Trial, Result], ...]:
        """Results that may be compared with each other: those at :meth:`largest_budget`."""
        return self.at(self.largest_budget(minimum))

    def gain(self, result: Result, objective: int = 0) -> float:
        """A result's value of one objective, turned so that more is better."""
        wanted = self.objectives[objective]
        return wanted.gain(result.values[wanted.name])

    def feasible(self, result: Result) -> bool:
        """Whether every outcome constraint holds."""
        return all(c.violation(result.values[c.name]) <= 0 for c in self.constraints)

    def best(self) -> tuple[Trial, Result] | None:
        """The best observed feasible result at the largest budget observed; the earliest of equals.

        With several objectives, of the first. Repetitions are not candidates: they are evidence about their trial.
        """
        budgets = [b for b in self.budgets if any(t.replicate_of is None for t, _ in self.at(b))]
        for budget in reversed(budgets):
            pairs = [(t, r) for t, r in self.at(budget) if t.replicate_of is None and self.feasible(r)]
            if pairs:
                return max(pairs, key=lambda pair: self.gain(pair[1]))
        return None
