"""The median stopping rule."""

from __future__ import annotations

from statistics import fmean, median

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.history import History
from darts_hpo.tuning.schedulers.base import Action, Scheduler
from darts_hpo.tuning.schedulers.full import FullBudget
from darts_hpo.tuning.schedulers.rungs import check_at_least_one
from darts_hpo.tuning.trial import Trial, TrialState


class MedianStopping(Scheduler):
    """Stop a trial whose best value so far is worse than the median of what others had on average by then.

    Golovin et al. 2017, "Google Vizier", section 3.2.2: a trial is stopped at step ``s`` if its best value up to ``s``
    is strictly worse than the median of the running averages, up to ``s``, of the trials that ended. Only those
    that came as far as ``s`` are compared with.

    Args:
        scheduler: decides everything else; None runs every trial that isn't stopped to its full budget.
        grace: no trial is stopped before this step.
        minimum_trials: no trial is stopped before so many can be compared with.

    Raises:
        ConfigError: ``grace`` below 0 or ``minimum_trials`` below 1.
    """

    def __init__(self, scheduler: Scheduler | None = None, grace: int = 1, minimum_trials: int = 5) -> None:
        check_at_least_one(minimum_trials=minimum_trials)
        if grace < 0:
            raise ConfigError(f"grace={grace}; expected a step of at least 0.")
        self.scheduler = FullBudget() if scheduler is None else scheduler
        self.grace, self.minimum_trials = grace, minimum_trials

    def next(self, history: History) -> Action | None:
        """As the scheduler within says."""
        return self.scheduler.next(history)

    def keeps(self, trial: Trial, history: History) -> bool:
        """Whether both the rule and the scheduler within let it go on."""
        if not self.scheduler.keeps(trial, history):
            return False
        step = max(trial.reports, default=-1)
        if step < self.grace:
            return True
        gain = history.objectives[0].gain
        averages = [
            fmean(gain(value) for at, value in other.reports.items() if at <= step)
            for other in history.trials
            if other.number != trial.number
            and other.state in (TrialState.COMPLETED, TrialState.STOPPED)
            and max(other.reports, default=-1) >= step
        ]
        if len(averages) < self.minimum_trials:
            return True
        return max(gain(value) for value in trial.reports.values()) >= median(averages)
