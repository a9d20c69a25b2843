"""Brackets of successive halving, filled rung after rung and one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from darts_hpo.tuning.history import History
from darts_hpo.tuning.schedulers.base import Action, Promote, Scheduler, Start
from darts_hpo.tuning.schedulers.rungs import BRACKET, proposals_by_bracket, ranked
from darts_hpo.tuning.trial import Trial, TrialState


@dataclass(frozen=True)
class Bracket:
    """One round of successive halving.

    Args:
        sizes: number of trials on every rung, the first one first.
        budgets: of every rung, rising.
    """

    sizes: tuple[int, ...]
    budgets: tuple[float, ...]

    @classmethod
    def halving(cls, n: int, eta: int, budgets: tuple[float, ...]) -> Bracket:
        """``n`` trials, of which one in ``eta`` is kept at every rung: ``n_i = floor(n / eta**i)``."""
        sizes = tuple(size for i in range(len(budgets)) if (size := n // eta**i))
        return cls(sizes, budgets[: len(sizes)])

    def promotion(self, history: History, members: Sequence[Trial]) -> Promote | None:
        """The promotion that is due; None while a rung waits for its trials, or when the bracket is over.

        A rung is judged when it is full and nothing on it runs. Trials without a result there are not kept, so that
        fewer may go on than there is room for. Where the study ends before the bracket is full, its trials are judged
        as they are, and as large a share of them goes on.
        """
        if not members or (len(members) < self.sizes[0] and not history.closed):
            return None
        entrants = list(members)
        for rung, budget in enumerate(self.budgets):
            waits = False
            for trial in entrants:
                if trial.at(budget) is not None:
                    continue
                if rung > 0 and trial.state is TrialState.COMPLETED and (trial.budget or 0.0) < budget:
                    return Promote(trial.number, budget)
                waits = waits or trial.state is TrialState.RUNNING
            if waits or rung + 1 == len(self.sizes):
                return None
            kept = max(1, self.sizes[rung + 1] * len(members) // self.sizes[0])
            entrants = ranked(history, entrants, budget)[:kept]
        return None


class BracketScheduler(Scheduler, ABC):
    """Brackets one after the other. Rungs wait for their trials; a free slot begins the next bracket meanwhile.

    A trial's label ``bracket`` counts them from 0.
    """

    @abstractmethod
    def bracket(self, number: int, history: History) -> Bracket | None:
        """The bracket of that number; None after the last.

        Raises:
            ConfigError: the study knows no budgets.
        """

    def next(self, history: History) -> Action | None:
        """Promotions first, those of earlier brackets before later ones; then new trials."""
        members = proposals_by_bracket(history)
        number = 0
        while (bracket := self.bracket(number, history)) is not None:
            trials = members.get(number, [])
            if (promotion := bracket.promotion(history, trials)) is not None:
                return promotion
            if len(trials) < bracket.sizes[0]:
                return Start(bracket.budgets[0], {BRACKET: number})
            number += 1
        return None
