"""Hyperband: brackets of successive halving that trade the number of trials against their first budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from darts_hpo.errors import ConfigError, unknown_name
from darts_hpo.tuning.history import History
from darts_hpo.tuning.schedulers.brackets import Bracket, BracketScheduler
from darts_hpo.tuning.schedulers.rungs import check_at_least_one, check_eta, fidelity_of, halvings, rung_budgets


def jmlr_size(s: int, s_max: int, eta: int) -> int:
    """``ceil((s_max + 1) eta**s / (s + 1))``: Li et al. 2018, JMLR 18(185), algorithm 1. Integers throughout."""
    return -(-(s_max + 1) * eta**s // (s + 1))


def iclr_size(s: int, s_max: int, eta: int) -> int:
    """``floor((s_max + 1) / (s + 1)) eta**s``: Li et al. 2017, ICLR, and HpBandSter. Every rung divides evenly."""
    return (s_max + 1) // (s + 1) * eta**s


TABLES: Mapping[str, Callable[[int, int, int], int]] = MappingProxyType({"jmlr": jmlr_size, "iclr": iclr_size})
"""Size of the bracket that divides the budget ``s`` times, by the name of the table that was published."""


def hyperband_brackets(budgets: tuple[float, ...], eta: int, table: str = "jmlr") -> tuple[Bracket, ...]:
    """One iteration of Hyperband.

    Args:
        budgets: of all rungs, rising, the full budget last.
        eta: one in so many is kept.
        table: ``jmlr`` or ``iclr``.

    Returns:
        The brackets from ``s = s_max``, the one that begins with the smallest budget, to ``s = 0``, which gives every
        trial the full one.

    Raises:
        ConfigError: there is no such table.
    """
    if table not in TABLES:
        raise ConfigError(unknown_name("table of Hyperband", table, TABLES))
    s_max = len(budgets) - 1
    return tuple(Bracket.halving(TABLES[table](s, s_max, eta), eta, budgets[s_max - s :]) for s in range(s_max, -1, -1))


class Hyperband(BracketScheduler):
    """Brackets from many short trials to few long ones, over and over.

    Li et al. 2018, "Hyperband: a novel bandit-based approach to hyperparameter optimization", algorithm 1. With the KDE
    sampler it is BOHB (Falkner et al. 2018), with the Bertrand sampler the method of Bertrand et al. 2017. The
    budgets are the full one divided by powers of ``eta``, as long as the smallest allows.

    Args:
        eta: one in so many is kept.
        table: ``jmlr`` (2018; every bracket costs about the same) or ``iclr`` (2017; HpBandSter's).
        iterations: how often all brackets are gone through; None goes on until the study ends.

    Raises:
        ConfigError: ``eta`` below 2, an unknown table, or fewer than one iteration.
    """

    def __init__(self, eta: int = 3, table: str = "jmlr", iterations: int | None = None) -> None:
        check_at_least_one(iterations=iterations)
        if table not in TABLES:
            raise ConfigError(unknown_name("table of Hyperband", table, TABLES))
        self.eta, self.table, self.iterations = check_eta(eta), table, iterations

    def bracket(self, number: int, history: History) -> Bracket | None:
        """Of the round ``number // (s_max + 1)``."""
        fidelity = fidelity_of(history, self)
        s_max = halvings(fidelity, self.eta)
        brackets = hyperband_brackets(rung_budgets(fidelity, self.eta, s_max), self.eta, self.table)
        if self.iterations is not None and number >= self.iterations * len(brackets):
            return None
        return brackets[number % len(brackets)]
