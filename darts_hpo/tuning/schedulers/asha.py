"""ASHA: successive halving that never waits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.history import History
from darts_hpo.tuning.schedulers.base import Action, Promote, Scheduler, Start
from darts_hpo.tuning.schedulers.hyperband import jmlr_size
from darts_hpo.tuning.schedulers.rungs import (
    BRACKET,
    check_at_least_one,
    check_eta,
    fidelity_of,
    halvings,
    proposals_by_bracket,
    ranked,
    rung_budgets,
)
from darts_hpo.tuning.trial import Trial, TrialState


class _Asynchronous(Scheduler, ABC):
    """What both variants share: brackets of rungs, and which bracket a new trial joins."""

    def __init__(self, eta: int = 3, brackets: int = 1) -> None:
        check_at_least_one(brackets=brackets)
        self.eta, self.brackets = check_eta(eta), brackets

    def rungs(self, history: History) -> tuple[tuple[float, ...], ...]:
        """The budgets of every bracket's rungs, rising; bracket ``s`` leaves out the ``s`` smallest.

        Raises:
            ConfigError: the study knows no budgets, or too few for so many brackets.
        """
        fidelity = fidelity_of(history, self)
        count = halvings(fidelity, self.eta)
        if self.brackets > count + 1:
            raise ConfigError(
                f"brackets={self.brackets}, but budgets from {fidelity.minimum:g} to {fidelity.maximum:g} give only "
                f"{count + 1} with eta={self.eta}."
            )
        budgets = rung_budgets(fidelity, self.eta, count)
        return tuple(budgets[s:] for s in range(self.brackets))

    def joins(self, rungs: Sequence[Sequence[float]], sizes: Sequence[int]) -> int:
        """The bracket of the next trial: the one furthest behind its share.

        Shares are those of Hyperband, which give every bracket the same part of the budget.

        Args:
            rungs: budgets of every bracket.
            sizes: trials that are in each.
        """
        top = len(rungs[0]) - 1
        shares = [jmlr_size(len(budgets) - 1, top, self.eta) for budgets in rungs]
        return min(range(len(rungs)), key=lambda s: ((sizes[s] + 1) / shares[s], s))

    def next(self, history: History) -> Action | None:
        """A promotion where one is due, else a new trial: never None."""
        rungs, members = self.rungs(history), proposals_by_bracket(history)
        bracket = self.joins(rungs, [len(members.get(s, [])) for s in range(len(rungs))])
        return self.promotion(history, rungs, members) or Start(self.first(rungs[bracket]), {BRACKET: bracket})

    @abstractmethod
    def first(self, budgets: Sequence[float]) -> float:
        """The budget of a new trial on a bracket's rungs."""

    def promotion(
        self, history: History, rungs: Sequence[Sequence[float]], members: dict[int, list[Trial]]
    ) -> Promote | None:
        """The promotion that is due."""
        return None


class ASHA(_Asynchronous):
    """Promote as soon as a trial is among the best of those that finished its rung; otherwise start a new one.

    Li et al. 2020, "A system for massively parallel hyperparameter tuning", algorithm 2: from the rung below the top
    downwards, the best trial of the best ``floor(|rung| / eta)`` that was not promoted yet goes on. Failed trials count
    in ``|rung|``. The rungs count down from the full budget.

    Args:
        eta: one in so many is kept.
        brackets: how many Hyperband brackets run side by side, from the one with the smallest first budget on.

    Raises:
        ConfigError: a count below 1, or ``eta`` below 2.
    """

    def first(self, budgets: Sequence[float]) -> float:
        """The smallest."""
        return budgets[0]

    def promotion(
        self, history: History, rungs: Sequence[Sequence[float]], members: dict[int, list[Trial]]
    ) -> Promote | None:
        """The one from the highest rung that has any; of several brackets, of the first."""
        for height in range(2, len(rungs[0]) + 1):
            for bracket, budgets in enumerate(rungs):
                if height > len(budgets):
                    continue
                below, above = budgets[-height], budgets[-height + 1]
                for trial in self._promotable(history, members.get(bracket, []), below):
                    return Promote(trial.number, above)
        return None

    def _promotable(self, history: History, trials: Sequence[Trial], budget: float) -> list[Trial]:
        """Best first."""
        order = ranked(history, trials, budget)
        lost = [t for t in trials if t.state is TrialState.FAILED and t.budget == budget and t.at(budget) is None]
        best = order[: (len(order) + len(lost)) // self.eta]
        return [t for t in best if t.state is TrialState.COMPLETED and t.budget == budget]


class ASHAStopping(_Asynchronous):
    """Every trial starts on the full budget and is stopped at a rung where it is not among the best.

    The variant of Ray Tune, Syne Tune and Optuna, for trials that can't be paused. A trial is judged once at every
    rung, by the first value it reports there, against all that reported there before it: it goes on if fewer than
    ``max(1, floor(|rung| / eta))`` of them, itself included in the count, were better. Needs intermediate values whose
    steps are in units of budget.

    Args:
        eta: one in so many is kept.
        brackets: how many Hyperband brackets run side by side, from the one with the smallest first rung on.

    Raises:
        ConfigError: a count below 1, or ``eta`` below 2.
    """

    def first(self, budgets: Sequence[float]) -> float:
        """The full one."""
        return budgets[-1]

    def keeps(self, trial: Trial, history: History) -> bool:
        """Judges when the last report is the first at or after a rung below the full budget."""
        bracket = trial.labels.get(BRACKET)
        rungs = self.rungs(history)
        if not isinstance(bracket, int) or not 0 <= bracket < len(rungs) or not trial.reports:
            return True
        latest, *earlier = sorted(trial.reports, reverse=True)
        passed = [budget for budget in rungs[bracket][:-1] if max(earlier, default=-1) < budget <= latest]
        if not passed:
            return True
        others = [t for t in proposals_by_bracket(history).get(bracket, []) if t.number != trial.number]
        scores = [score for t in others if (score := _at_rung(t, history, passed[-1])) is not None]
        own = history.objectives[0].gain(trial.reports[latest])
        better = sum(score > own for score in scores)
        return better < max(1, (len(scores) + 1) // self.eta)


def _at_rung(trial: Trial, history: History, budget: float) -> float | None:
    """The gain of the first report at or after a budget."""
    step = min((step for step in trial.reports if step >= budget), default=None)
    return None if step is None else history.objectives[0].gain(trial.reports[step])
