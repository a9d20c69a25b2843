"""The answer of a study: what was observed to be best, and what a model of all results holds to be best.

The best of a hundred noisy observations is also the luckiest. Beside it stand the maximum of a surrogate's posterior
mean over the whole space, the best trial by that mean, and what came out when the best few were run again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from darts_hpo.space import Value
from darts_hpo.tuning.history import History
from darts_hpo.tuning.outcomes import nondominated_fronts
from darts_hpo.tuning.samplers.base import Incumbent
from darts_hpo.tuning.trial import Result, Trial

MODELLED_FROM = 3
"""Results needed before a posterior says more than the results themselves."""


@dataclass(frozen=True)
class PosteriorBest:
    """Where the posterior mean of a surrogate is largest.

    Args:
        point: over the whole space; it need not have been tried.
        mean: expected value of the objective there, in its own units.
        deviation: standard deviation of that expectation, noise left aside.
        trial: number of the trial whose point has the best mean.
        trial_mean: expected value there.
        trial_deviation: its standard deviation.
        budget: at which all of this holds; None at a trial's own end.
    """

    point: Mapping[str, Value]
    mean: float
    deviation: float
    trial: int
    trial_mean: float
    trial_deviation: float
    budget: float | None = None


@dataclass(frozen=True)
class Recommendation:
    """The answers of a study.

    Args:
        best_observed: number and value of the best feasible trial; None without one. With several objectives, by
            the first.
        pareto: numbers of the nondominated feasible trials, by number; with one objective, the best one.
        posterior: of a surrogate; None where it was not asked for, or there is too little to model.
        note: why there is no posterior, where one was asked for.
        incumbent: of a sampler whose model spans budgets: best at the full budget, though perhaps never run there.
    """

    best_observed: tuple[int, float] | None
    pareto: tuple[int, ...]
    posterior: PosteriorBest | None = None
    note: str | None = None
    incumbent: Incumbent | None = None


@dataclass(frozen=True)
class Replicated:
    """A trial together with its repetitions on other seeds, at the full budget.

    Args:
        trial: the original.
        own: its own value; None where it did not reach the full budget.
        fresh: values of the repetitions, free of the luck that got the original picked.
    """

    trial: Trial
    own: float | None
    fresh: tuple[float, ...]

    @property
    def values(self) -> tuple[float, ...]:
        """All of them."""
        return self.fresh if self.own is None else (self.own, *self.fresh)

    @property
    def mean(self) -> float | None:
        """Of all values; None without any."""
        return fmean(self.values) if self.values else None

    @property
    def standard_error(self) -> float | None:
        """Of the mean of all values; None for fewer than two."""
        return stdev(self.values) / math.sqrt(len(self.values)) if len(self.values) > 1 else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation from seed to seed; None for fewer than two values."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def fresh_mean(self) -> float | None:
        """Of the repetitions alone; None without any."""
        return fmean(self.fresh) if self.fresh else None


def recommend(history: History, *, model: bool = True, seed: int = 0) -> Recommendation:
    """The final answers of a study.

    Args:
        history: of the study.
        model: also fit a Gaussian process and report its posterior (one objective only); this imports PyTorch.
        seed: of the search for the maximum of the mean.
    """
    best = history.best()
    observed = None if best is None else (best[0].number, best[1].values[history.objectives[0].name])
    front = pareto_front(history)
    if not model:
        return Recommendation(observed, front)
    if len(history.objectives) > 1:
        return Recommendation(observed, front, note="with several objectives the Pareto front is the answer")
    if len(history.comparable(len(history.space) + 1)) < MODELLED_FROM:
        return Recommendation(observed, front, note=f"fewer than {MODELLED_FROM} results to model")
    from darts_hpo.tuning.surrogates.posterior import Posterior, PosteriorError  # imports PyTorch

    try:
        return Recommendation(observed, front, Posterior(history).best(seed))
    except PosteriorError as error:
        return Recommendation(observed, front, note=str(error))


def pareto_front(history: History) -> tuple[int, ...]:
    """Numbers of the feasible trials that no other dominates at the largest budget, by number.

    Repetitions are left aside. With one objective it is the earliest of the best.
    """
    if len(history.objectives) == 1:
        best = history.best()
        return () if best is None else (best[0].number,)
    pairs = _candidates(history)
    if not pairs:
        return ()
    gains = np.array([[history.gain(result, i) for i in range(len(history.objectives))] for _, result in pairs])
    fronts = nondominated_fronts(gains)
    return tuple(sorted(trial.number for (trial, _), front in zip(pairs, fronts, strict=True) if front == 0))


def top(history: History, k: int) -> tuple[Trial, ...]:
    """The best k feasible trials at the largest budget, best first: those worth running again on fresh seeds.

    Of trials with equal points only the best is listed. With several objectives, front by front.

    Args:
        history: of the study.
        k: how many at most.
    """
    pairs = _candidates(history)
    if len(history.objectives) == 1:
        ranked = sorted(pairs, key=lambda pair: (-history.gain(pair[1]), pair[0].number))
    else:
        gains = np.array([[history.gain(result, i) for i in range(len(history.objectives))] for _, result in pairs])
        fronts = nondominated_fronts(gains) if pairs else np.zeros(0, dtype=np.intp)
        ranked = [pairs[i] for i in sorted(range(len(pairs)), key=lambda i: (int(fronts[i]), pairs[i][0].number))]
    chosen: dict[tuple[tuple[str, Value], ...], Trial] = {}
    for trial, _ in ranked:
        chosen.setdefault(tuple(sorted(trial.point.items())), trial)
    return tuple(chosen.values())[: max(k, 0)]


def repetitions(history: History, number: int, objective: int = 0) -> Replicated:
    """A trial with what its repetitions gave, which may be nothing.

    Only results at the largest budget of the study are counted: others cannot be compared.

    Args:
        history: of the study.
        number: of the trial.
        objective: which one.
    """
    name = history.objectives[objective].name
    budget = history.budgets[-1] if history.budgets else None
    own = history.trials[number].at(budget)
    again = [trial.at(budget) for trial in history if trial.replicate_of == number]
    fresh = tuple(result.values[name] for result in again if result is not None)
    return Replicated(history.trials[number], None if own is None else own.values[name], fresh)


def replicated(history: History, objective: int = 0) -> tuple[Replicated, ...]:
    """Every trial that was repeated, best fresh mean first.

    Args:
        history: of the study.
        objective: which one.
    """
    numbers = dict.fromkeys(trial.replicate_of for trial in history if trial.replicate_of is not None)
    found = [repetitions(history, number, objective) for number in numbers]
    gain = history.objectives[objective].gain
    return tuple(sorted((r for r in found if r.fresh), key=lambda r: (-gain(r.fresh_mean or 0.0), r.trial.number)))


def _candidates(history: History) -> list[tuple[Trial, Result]]:
    """Feasible results at the largest budget where there is one, repetitions left aside."""
    for budget in reversed(history.budgets):
        pairs = [(t, r) for t, r in history.at(budget) if t.replicate_of is None and history.feasible(r)]
        if pairs:
            return pairs
    return []
