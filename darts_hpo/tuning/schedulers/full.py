"""Every trial runs to its end."""

from __future__ import annotations

from darts_hpo.tuning.history import History
from darts_hpo.tuning.schedulers.base import Action, Scheduler, Start


class FullBudget(Scheduler):
    """Start one trial after another, each with the full budget (its own end where the study knows no budgets)."""

    def next(self, history: History) -> Action | None:
        """Always a new trial."""
        return Start(None if history.fidelity is None else history.fidelity.maximum)
