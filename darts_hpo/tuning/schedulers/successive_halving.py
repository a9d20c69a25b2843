"""Successive halving: many short trials, of which the best go on."""

from __future__ import annotations

from darts_hpo.tuning.history import History
from darts_hpo.tuning.schedulers.brackets import Bracket, BracketScheduler
from darts_hpo.tuning.schedulers.rungs import check_at_least_one, check_eta, fidelity_of, halvings, rung_budgets


class SuccessiveHalving(BracketScheduler):
    """``n`` trials on the smallest budget, the best of them on one ``eta`` times larger, and so on to the full one.

    Jamieson & Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization". The rungs count
    down from the full budget, so that the last survivor has it.

    Args:
        n: trials on the first rung; None takes ``eta`` to the number of rungs above it, so that one trial survives.
            With fewer, the small budgets that there are too few trials for are left out.
        eta: one in so many is kept.
        iterations: rounds, each with new trials; None goes on until the study ends.

    Raises:
        ConfigError: a count below 1, or ``eta`` below 2.
    """

    def __init__(self, n: int | None = None, eta: int = 3, iterations: int | None = 1) -> None:
        check_at_least_one(n=n, iterations=iterations)
        self.n, self.eta, self.iterations = n, check_eta(eta), iterations

    def bracket(self, number: int, history: History) -> Bracket | None:
        """The same every time."""
        if self.iterations is not None and number >= self.iterations:
            return None
        fidelity = fidelity_of(history, self)
        count = halvings(fidelity, self.eta)
        n = self.eta**count if self.n is None else self.n
        while n < self.eta**count:
            count -= 1
        return Bracket.halving(n, self.eta, rung_budgets(fidelity, self.eta, count))
