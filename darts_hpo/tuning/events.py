"""What an event does to a history: pure functions, so that replaying a journal and running live are one thing.

Every function returns a new :class:`~darts_hpo.tuning.history.History` and leaves its argument as it was. An event
that cannot follow what happened so far raises :class:`~darts_hpo.errors.ConfigError` and changes nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from darts_hpo.errors import ConfigError, unknown_name
from darts_hpo.space import Value
from darts_hpo.tuning.history import History
from darts_hpo.tuning.trial import Result, Trial, TrialState


def ask(
    history: History,
    point: Mapping[str, Value],
    *,
    budget: float | None = None,
    source: str = "",
    labels: Mapping[str, Any] | None = None,
    replicate_of: int | None = None,
    seed: int | None = None,
) -> History:
    """A new trial, numbered ``len(history)``, is to run.

    Args:
        history: before the event.
        point: valid in the space; it is not checked again.
        budget: to run to; None where the study knows no budgets.
        source: who proposed the point.
        labels: what scheduler and sampler want to find again.
        replicate_of: the trial that is repeated.
        seed: for the trial itself.

    Raises:
        ConfigError: there is no trial to repeat under that number.
    """
    if replicate_of is not None:
        _trial(history, replicate_of)
    trial = Trial(
        number=len(history),
        point=dict(point),
        budget=budget,
        source=source,
        labels=dict(labels or {}),
        replicate_of=replicate_of,
        seed=seed,
    )
    return replace(history, trials=(*history.trials, trial))


def start(history: History, number: int) -> History:
    """A running trial is handed to a worker, for the first time or again.

    Raises:
        ConfigError: the trial is unknown or does not run.
    """
    trial = _running(history, number)
    return _with(history, replace(trial, attempts=trial.attempts + 1))


def promote(history: History, number: int, budget: float) -> History:
    """A completed trial is to run on to a larger budget.

    Raises:
        ConfigError: the trial is unknown, did not complete, or the budget is no larger than its last.
    """
    trial = _trial(history, number)
    if trial.state is not TrialState.COMPLETED:
        raise ConfigError(f"Trial {number} is {trial.state}; only a COMPLETED trial can be promoted.")
    last = trial.last
    if last is None or last.budget is None or not budget > last.budget:
        reached = None if last is None else last.budget
        raise ConfigError(f"Trial {number} has reached budget {reached}; it can't be promoted to {budget}.")
    return _with(history, replace(trial, state=TrialState.RUNNING, budget=budget, reason=None))


def report(history: History, number: int, step: int, value: float) -> History:
    """A running trial reports an intermediate value of its first objective; a step reported again replaces the old.

    Raises:
        ConfigError: the trial is unknown or does not run, or the value is not finite.
    """
    trial = _running(history, number)
    if not math.isfinite(value):
        raise ConfigError(f"Trial {number} reports {value} at step {step}; expected a finite number.")
    return _with(history, replace(trial, reports={**trial.reports, step: float(value)}))


def tell(
    history: History,
    number: int,
    values: Mapping[str, float],
    *,
    budget: float | None = None,
    seconds: float | None = None,
    state: TrialState = TrialState.COMPLETED,
    reason: str | None = None,
    record: Mapping[str, Any] | None = None,
) -> History:
    """A running trial answers.

    Args:
        history: before the event.
        number: of the trial.
        values: every objective and constrained metric, finite. Others may join; those not finite are left out.
        budget: at which it was measured; the trial's own unless it stopped early.
        seconds: it took since the budget before.
        state: COMPLETED, or STOPPED where it was ended early.
        reason: why it was stopped.
        record: what else is known; joins what the trial holds already.

    Raises:
        ConfigError: the trial is unknown, does not run or has answered at this budget before, the state is
            neither, or a value is missing or not finite.
    """
    trial = _running(history, number)
    if state not in (TrialState.COMPLETED, TrialState.STOPPED):
        raise ConfigError(unknown_name("state of a trial that answers", str(state), ("COMPLETED", "STOPPED")))
    needed = [*(o.name for o in history.objectives), *(c.name for c in history.constraints)]
    for name in needed:
        if name not in values:
            raise ConfigError(f"Trial {number}: {unknown_name('metric', name, values)}")
        if not math.isfinite(values[name]):
            raise ConfigError(f"Trial {number} answers {name}={values[name]}; expected a finite number.")
    reached = trial.budget if budget is None else budget
    if trial.at(reached) is not None:
        raise ConfigError(f"Trial {number} has answered at budget {reached} before.")
    result = Result(
        values={name: float(value) for name, value in values.items() if math.isfinite(value)},
        budget=reached,
        order=sum(len(other.results) for other in history.trials),
        seconds=seconds,
    )
    ended = replace(
        trial,
        state=state,
        budget=reached,
        results=(*trial.results, result),
        reason=reason,
        record={**trial.record, **(record or {})},
    )
    return _with(history, ended)


def fail(history: History, number: int, reason: str, record: Mapping[str, Any] | None = None) -> History:
    """A running trial gave no value at its budget; what it answered at smaller ones stays.

    Raises:
        ConfigError: the trial is unknown or does not run.
    """
    trial = _running(history, number)
    joined = {**trial.record, **(record or {})}
    return _with(history, replace(trial, state=TrialState.FAILED, reason=reason, record=joined))


def suggestion_seed(seed: int, number: int) -> int:
    """The seed a sampler is given for the trial of that number: the same after a resume, different at every trial.

    Returns:
        In ``[0, 2**31)``, which NumPy, torch and scikit-learn all accept.
    """
    return random.Random(f"suggestion {seed} {number}").getrandbits(31)


def _trial(history: History, number: int) -> Trial:
    if not 0 <= number < len(history):
        raise ConfigError(f"There is no trial {number}; the study has {len(history)}, numbered from 0.")
    return history.trials[number]


def _running(history: History, number: int) -> Trial:
    trial = _trial(history, number)
    if trial.state is not TrialState.RUNNING:
        raise ConfigError(f"Trial {number} is {trial.state}; expected one that is RUNNING.")
    return trial


def _with(history: History, trial: Trial) -> History:
    before, after = history.trials[: trial.number], history.trials[trial.number + 1 :]
    return replace(history, trials=(*before, trial, *after))
