"""Rungs of budgets, and who is best on one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity
from darts_hpo.tuning.outcomes import nondominated_fronts
from darts_hpo.tuning.trial import Trial

BRACKET = "bracket"
"""The label under which a trial keeps the number of its bracket."""


def check_eta(eta: int) -> int:
    """The reduction factor, if it is one.

    Raises:
        ConfigError: it is no integer of at least 2.
    """
    if not isinstance(eta, int) or isinstance(eta, bool) or eta < 2:
        raise ConfigError(f"eta={eta!r} keeps one of eta trials at every rung; expected an integer of at least 2.")
    return eta


def check_at_least_one(**counts: int | None) -> None:
    """Refuse a count below 1; None stands for no limit.

    Raises:
        ConfigError: naming the argument.
    """
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ConfigError(f"{name}={count}; expected at least 1.")


def fidelity_of(history: History, scheduler: object) -> Fidelity:
    """The study's range of budgets.

    Raises:
        ConfigError: it has none.
    """
    if history.fidelity is None:
        raise ConfigError(
            f"{type(scheduler).__name__} gives trials budgets, but the study has no range of them. Type for example "
            "hydra.sweeper.budget.key=budget.search_epochs objective=search (Study: fidelity=Fidelity(1, 27))."
        )
    return history.fidelity


def halvings(fidelity: Fidelity, eta: int) -> int:
    """How often the full budget can be divided by ``eta`` without falling below the smallest: ``s_max``.

    By multiplication: a quotient of logarithms gives 4 instead of 5 for 243 and eta 3.
    """
    count, budget = 0, fidelity.minimum * eta
    while budget <= fidelity.maximum * (1 + 1e-9):
        count, budget = count + 1, budget * eta
    return count


def rung_budgets(fidelity: Fidelity, eta: int, count: int) -> tuple[float, ...]:
    """The budgets of the last ``count + 1`` rungs, smallest first; the last is the full budget.

    Counted down from the top, so that the full budget is reached where it is no power of ``eta`` times the smallest.
    """
    return tuple(fidelity.rounded(fidelity.maximum / eta**below) for below in range(count, -1, -1))


def proposals_by_bracket(history: History) -> dict[int, list[Trial]]:
    """The trials that carry a bracket's number, by number; repetitions of a trial belong to none."""
    members: dict[int, list[Trial]] = {}
    for trial in history.proposals:
        bracket = trial.labels.get(BRACKET)
        if isinstance(bracket, int):
            members.setdefault(bracket, []).append(trial)
    return members


def ranked(history: History, trials: Sequence[Trial], budget: float) -> list[Trial]:
    """Those of some trials that have a result at a budget, best first, earlier ones first among equals.

    Feasible trials come before infeasible ones. With several objectives, a trial comes after those of its kind that
    dominate it: they are sorted into successive fronts, and within a front by the first objective.
    """
    results = {trial.number: result for trial in trials if (result := trial.at(budget)) is not None}
    gains = {number: history.gain(result) for number, result in results.items()}
    feasible = {number: history.feasible(result) for number, result in results.items()}
    front = dict.fromkeys(results, 0)
    if len(history.objectives) > 1 and results:
        rows = [[history.gain(r, k) for k in range(len(history.objectives))] for r in results.values()]
        front = dict(zip(results, map(int, nondominated_fronts(np.array(rows))), strict=True))

    def position(trial: Trial) -> tuple[bool, int, float, int]:
        number = trial.number
        return not feasible[number], front[number], -gains[number], number

    return sorted((trial for trial in trials if trial.number in results), key=position)
