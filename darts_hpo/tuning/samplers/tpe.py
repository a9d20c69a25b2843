"""The tree-structured Parzen estimator (Bergstra et al. 2011), multivariate, with running trials as bad ones."""

from __future__ import annotations

import math
from random import Random

import numpy as np

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.history import History
from darts_hpo.tuning.outcomes import observed, pending, ranking, with_failures
from darts_hpo.tuning.samplers.base import Suggestion
from darts_hpo.tuning.samplers.parzen import ParzenEstimator
from darts_hpo.tuning.samplers.points import key, tried
from darts_hpo.tuning.samplers.random import RandomSampler
from darts_hpo.tuning.samplers.ranking import LogBias, RankingSampler


class TPESampler(RankingSampler):
    """Where good points are dense and bad ones are not.

    The best ``gamma(n)`` of n points make a density l, all others g; of candidates drawn from l, the one with the
    greatest ``l(x) / g(x)`` is proposed, which maximizes expected improvement (Bergstra et al. 2011, eq. 4).
    Both are mixtures over all parameters together (:class:`~darts_hpo.tuning.samplers.parzen.ParzenEstimator`), so
    interactions and conditional parameters are seen. Failed trials are bad, and so are those still running (the
    constant liar), which keeps parallel proposals apart. Several objectives: by nondominated fronts; points that
    violate outcome constraints come after those that do not.

    Args:
        startup: random points before the first model.
        candidates: drawn from l per proposal.
        good: share of the points that is good, ``gamma(n) = min(ceil(good * n), most_good)``.
        most_good: upper limit of that number.
        liar: whether running trials count as bad.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self, startup: int = 10, candidates: int = 24, good: float = 0.1, most_good: int = 25, liar: bool = True
    ) -> None:
        if startup < 2 or candidates < 1 or most_good < 1 or not 0.0 < good < 1.0:
            raise ConfigError(
                f"TPE with startup={startup}, candidates={candidates}, good={good}, most_good={most_good}; expected "
                "at least 2 points to start with, 1 candidate, 1 good point and a share between 0 and 1."
            )
        self.startup, self.candidates, self.liar = startup, candidates, liar
        self.good, self.most_good = good, most_good

    def gamma(self, n: int) -> int:
        """How many of n points are good."""
        return min(math.ceil(self.good * n), self.most_good)

    def suggest_biased(
        self, history: History, *, seed: int, budget: float | None = None, log_bias: LogBias
    ) -> Suggestion:
        """The candidate with the greatest density ratio; see :meth:`RankingSampler.suggest_biased`."""
        outcomes = with_failures(observed(history, self.startup, pooled=True), history)
        if len(outcomes) < self.startup:
            return RandomSampler().suggest(history, seed=seed)
        best_first = ranking(outcomes)
        count = self.gamma(len(outcomes))
        chosen = set(best_first[:count].tolist())
        good = [point for index, point in enumerate(outcomes.points) if index in chosen]
        bad = [point for index, point in enumerate(outcomes.points) if index not in chosen]
        if self.liar:
            bad.extend(pending(history))
        space, rng = history.space, np.random.default_rng(seed)
        likely, unlikely = ParzenEstimator(space, good), ParzenEstimator(space, bad)
        candidates = likely.sample(rng, self.candidates)
        if space.size is not None:
            known = tried(history)
            candidates = [point for point in candidates if key(point) not in known]
        if not candidates:
            return RandomSampler().suggest(history, seed=Random(seed).getrandbits(31))
        log_ratios = likely.log_density(candidates) - unlikely.log_density(candidates)
        best = int(np.argmax(log_ratios + log_bias(candidates)))
        return Suggestion(candidates[best], labels={"log_ratio": float(log_ratios[best])})
