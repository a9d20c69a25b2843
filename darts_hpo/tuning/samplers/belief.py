"""A user's belief around any sampler: PriorBand's mixture of sources, piBO's weighting of candidates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darts_hpo.errors import ConfigError
from darts_hpo.space import Point, Space, Value
from darts_hpo.tuning.beliefs import Belief
from darts_hpo.tuning.history import History
from darts_hpo.tuning.outcomes import observed, ranking
from darts_hpo.tuning.samplers.base import Incumbent, Sampler, Suggestion
from darts_hpo.tuning.samplers.points import first_new
from darts_hpo.tuning.samplers.ranking import RankingSampler

_DRAWS = 64


class BeliefSampler(Sampler):
    """Another sampler that listens to what the user believes, as long as the evidence does not speak against it.

    Each proposal comes from one of three sources:

    * the sampler itself. If it ranks candidates, their acquisition value is multiplied by the belief's density to
      the power ``decay / n`` after n results (piBO: Hvarfner et al. 2022, eq. 6);
    * the belief, drawn from directly;
    * the neighbourhood of the best point found so far.

    Their probabilities are PriorBand's (Mallik et al. 2023, section 5): the belief starts with ``eta ** r`` times
    the sampler's share, r being the rung of the budget. As soon as there are ``eta`` results, it shares with the
    neighbourhood, in proportion to how likely either would have proposed the best results so far. A belief that
    points to the wrong place loses its share to the incumbent; and the share of both together fades as
    ``decay / n``, so that in the end the sampler is left alone.

    Args:
        sampler: any. A random one with ``decay: null`` is PriorBand itself.
        belief: parameter name to what is believed, as in :class:`~darts_hpo.tuning.beliefs.Belief`.
        eta: the halving rate of the scheduler, above 1.
        decay: number of results during which the belief has its full say; piBO suggests a tenth of the study's
            trials. None: the shares never fade, and candidates are not weighted.

    Raises:
        ConfigError: ``eta`` or ``decay`` is out of range.
    """

    def __init__(
        self,
        sampler: Sampler,
        belief: Mapping[str, Mapping[str, Any]],
        eta: float = 3.0,
        decay: float | None = 10.0,
    ) -> None:
        if not isinstance(sampler, Sampler):
            raise ConfigError(f"{sampler!r} is no sampler; a belief needs one to accompany.")
        if not 1.0 < eta < math.inf:
            raise ConfigError(f"eta is {eta!r}; expected a number above 1, such as 3.")
        if decay is not None and not 0.0 < decay < math.inf:
            raise ConfigError(f"decay is {decay!r}; expected a positive number of results, or null.")
        self.sampler, self.entries, self.eta, self.decay = sampler, dict(belief), eta, decay
        self.chooses_budget = sampler.chooses_budget

    def incumbent(self, history: History) -> Incumbent | None:
        """That of the sampler within."""
        return self.sampler.incumbent(history)

    def suggest(self, history: History, *, seed: int, budget: float | None = None) -> Suggestion:
        """A point from one of the three sources, named in its label ``source``; see :meth:`Sampler.suggest`."""
        belief, rng = Belief(history.space, self.entries), Random(seed)
        shares = self.shares(history, belief, budget)
        source = rng.choices(list(shares), list(shares.values()))[0]
        labels = {"source": source}
        if source == "sampler":
            return self._from_sampler(history, belief, rng.getrandbits(31), budget)
        if source == "belief":
            point = first_new((belief.sample(rng) for _ in range(_DRAWS)), history)
        else:
            outcomes = observed(history, pooled=True)
            best = outcomes.points[int(ranking(outcomes)[0])]
            point = first_new((neighbour(history.space, best, rng) for _ in range(_DRAWS)), history)
        assert point is not None
        return Suggestion(point, labels=labels)

    def _from_sampler(self, history: History, belief: Belief, seed: int, budget: float | None) -> Suggestion:
        if self.decay is None or not isinstance(self.sampler, RankingSampler):
            suggestion = self.sampler.suggest(history, seed=seed, budget=budget)
        else:
            power = self.decay / max(len(observed(history, pooled=True)), 1)

            def log_bias(points: Sequence[Point]) -> NDArray[np.float64]:
                return np.asarray(power * belief.log_density(points), dtype=np.float64)

            suggestion = self.sampler.suggest_biased(history, seed=seed, budget=budget, log_bias=log_bias)
        return replace(suggestion, labels={**suggestion.labels, "source": "sampler"})

    def shares(self, history: History, belief: Belief, budget: float | None = None) -> dict[str, float]:
        """The probabilities of the three sources, which sum to 1."""
        outcomes = observed(history, pooled=True)
        believing = 1.0 - 1.0 / (1.0 + self.eta ** self._rung(history, budget))
        if self.decay is not None:
            believing *= min(1.0, self.decay / max(len(outcomes), 1))
        trust = 1.0
        if len(outcomes) >= self.eta:
            trust = evidence(belief, outcomes.points, ranking(outcomes), self.eta)
        return {
            "sampler": 1.0 - believing,
            "belief": believing * trust,
            "incumbent": believing * (1.0 - trust),
        }

    def _rung(self, history: History, budget: float | None) -> int:
        if budget is None or history.fidelity is None:
            return 0
        # Halves of a rung, lest rounded budgets (1, 3, 9 of 10) fall short of theirs.
        return max(0, round(math.log(budget / history.fidelity.minimum, self.eta)))


def evidence(
    belief: Belief, points: Sequence[Point], best_first: Sequence[int] | NDArray[np.intp], eta: float
) -> float:
    """The belief's share against the incumbent's neighbourhood, in ``[0, 1]``.

    Both densities are averaged over the best n / eta of n points, the k-th best of K weighted by K + 1 - k; the
    shares are in proportion (Mallik et al. 2023, eq. 3).

    Args:
        belief: the user's.
        points: n of them.
        best_first: their indices, best first.
        eta: above 1.
    """
    count = max(1, int(len(points) / eta))
    top = [points[index] for index in best_first[:count]]
    weights = np.arange(count, 0, -1, dtype=np.float64)
    around = Belief.around(belief.space, top[0])
    log_user, log_incumbent = belief.log_density(top), around.log_density(top)
    shift = max(float(log_user.max()), float(log_incumbent.max()))
    user = float(weights @ np.exp(log_user - shift))
    incumbent = float(weights @ np.exp(log_incumbent - shift))
    return user / (user + incumbent)


def neighbour(space: Space, point: Point, rng: Random, attempts: int = 1000) -> dict[str, Value]:
    """A valid point near another: each parameter is redrawn around its value with probability one half.

    At least one is redrawn. Where an option switches further parameters on, those are drawn uniformly.
    """
    around = Belief.around(space, point)
    names = list(point)
    for _ in range(attempts):
        changed = {name for name in names if rng.random() < 0.5} or {rng.choice(names)}
        drawn = around.sample(rng)
        values = {**drawn, **{name: point[name] for name in names if name not in changed}}
        active = space.active(values)
        if all(name in values for name in active):
            candidate = {name: values[name] for name in active}
            if space.satisfies(candidate):
                return candidate
    return around.sample(rng)
