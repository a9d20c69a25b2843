"""Sequential model-based optimization with a random forest (SMAC: Hutter, Hoos and Leyton-Brown 2011)."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr
from sklearn.ensemble import RandomForestRegressor

from darts_hpo.errors import ConfigError
from darts_hpo.space import Point
from darts_hpo.tuning.encoding import Encoding
from darts_hpo.tuning.history import History
from darts_hpo.tuning.outcomes import observed, pending, ranking, scalarized, with_failures
from darts_hpo.tuning.samplers.base import Suggestion
from darts_hpo.tuning.samplers.candidates import search
from darts_hpo.tuning.samplers.random import RandomSampler
from darts_hpo.tuning.samplers.ranking import LogBias, RankingSampler

_VARIANCE_FLOOR = 1e-10


class ForestSampler(RankingSampler):
    """A random forest as the surrogate, expected improvement of the log regret, and random points in between.

    Forests need no scale, no distance and no gradient: they cope with categoricals, conditions, plateaus and
    cliffs. Inactive parameters stand at a value that says nothing. Trials still running are given the value that
    the forest expects of them (the kriging believer), so that its expected improvement there is gone.

    Several objectives are joined by random weights, drawn anew for every proposal (ParEGO, Knowles 2006).

    Args:
        startup: random points before the first model.
        trees: of the forest.
        random_fraction: share of proposals drawn at random, which the forest's blind spots cannot stop.
        min_samples_split: results in a node that may be split.
        min_samples_leaf: results in a leaf.
        features: share of the columns looked at for each split.
        log: whether the regret is modelled in its logarithm, which resolves differences between good points.
        candidates: random points ranked per proposal, before local search.
        xi: improvement asked for, in units of the model.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        startup: int = 10,
        trees: int = 10,
        random_fraction: float = 0.1,
        min_samples_split: int = 2,
        min_samples_leaf: int = 1,
        features: float = 5 / 6,
        log: bool = True,
        candidates: int = 1000,
        xi: float = 0.0,
    ) -> None:
        if startup < 2 or trees < 1 or candidates < 1 or min_samples_split < 2 or min_samples_leaf < 1:
            raise ConfigError(
                f"A forest with startup={startup}, trees={trees}, candidates={candidates}, "
                f"min_samples_split={min_samples_split}, min_samples_leaf={min_samples_leaf}; expected at least "
                "2, 1, 1, 2 and 1."
            )
        if not 0.0 <= random_fraction <= 1.0 or not 0.0 < features <= 1.0:
            raise ConfigError(
                f"A forest with random_fraction={random_fraction}, features={features}; expected shares up to 1."
            )
        self.startup, self.trees, self.random_fraction = startup, trees, random_fraction
        self.min_samples_split, self.min_samples_leaf, self.features = min_samples_split, min_samples_leaf, features
        self.log, self.candidates, self.xi = log, candidates, xi

    def suggest_biased(
        self, history: History, *, seed: int, budget: float | None = None, log_bias: LogBias
    ) -> Suggestion:
        """The candidate with the greatest expected improvement; see :meth:`RankingSampler.suggest_biased`."""
        rng = Random(seed)
        outcomes = with_failures(observed(history, self.startup), history)
        if len(outcomes) < self.startup:
            return RandomSampler().suggest(history, seed=seed)
        if rng.random() < self.random_fraction:
            return RandomSampler().suggest(history, seed=rng.getrandbits(31))
        encoding, numbers = Encoding(history.space), np.random.default_rng(seed)
        x = encoding.encode(outcomes.points)
        y = -scalarized(outcomes, numbers)
        if self.log:
            y = log_regret(y)
        forest = self.fit(x, y, numbers)
        if running := pending(history):
            x_running = encoding.encode(running)
            x, y = np.concatenate([x, x_running]), np.concatenate([y, forest.predict(x_running)[0]])
            forest = self.fit(x, y, numbers)
        incumbent = float(y.min())

        def score(points: Any) -> NDArray[np.float64]:
            mean, variance = forest.predict(encoding.encode(points))
            improvement = log_space_ei if self.log else plain_ei
            values = improvement(mean, np.sqrt(variance), incumbent - self.xi)
            return np.asarray(np.log(np.maximum(values, 1e-300)) + log_bias(points), dtype=np.float64)

        starts: list[Point] = [outcomes.points[index] for index in ranking(outcomes)[:5]]
        point = search(score, history, rng, starts, random_points=self.candidates)
        if point is None:
            return RandomSampler().suggest(history, seed=rng.getrandbits(31))
        return Suggestion(point, labels={"log_ei": float(score([point])[0])})

    def fit(self, x: NDArray[np.float64], y: NDArray[np.float64], rng: np.random.Generator) -> Forest:
        """A forest of bootstrapped trees.

        Args:
            x: shape ``[n, d]``.
            y: shape ``[n]``, less is better.
            rng: seeds the bootstrap, the columns tried and the places of the splits.
        """
        regressor = RandomForestRegressor(
            n_estimators=self.trees,
            min_samples_split=self.min_samples_split,
            min_samples_leaf=self.min_samples_leaf,
            max_features=self.features,
            bootstrap=True,
            random_state=int(rng.integers(2**31)),
        )
        regressor.fit(x, y)
        return Forest(regressor, x, y, rng)


class Forest:
    """Mean and variance of a fitted random forest.

    Each split is moved to a random place between the points it separates: averaged over trees, the mean is then
    continuous and the variance grows between points, as it should (Hutter et al. 2014, section 4.3.2).

    Args:
        regressor: fitted to ``x`` and ``y``.
        x: shape ``[n, d]``.
        y: shape ``[n]``.
        rng: places the splits.
    """

    def __init__(
        self,
        regressor: RandomForestRegressor,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> None:
        self._trees: list[_Tree] = []
        # scikit-learn splits in float32; its trees must see the points as they were grown on.
        rows = x.astype(np.float32)
        for estimator in regressor.estimators_:
            self._trees.append(_Tree(estimator.tree_, rows, rng))

    def predict(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and variance by the law of total variance: that of the trees' means plus the mean of the leaves'.

        Args:
            x: shape ``[n, d]``.

        Returns:
            Two of shape ``[n]``; the variance is positive.
        """
        rows = x.astype(np.float32)
        pairs = [tree.predict(rows) for tree in self._trees]
        means = np.stack([mean for mean, _ in pairs])
        variances = np.stack([variance for _, variance in pairs])
        total = means.var(axis=0) + variances.mean(axis=0)
        return means.mean(axis=0), np.maximum(total, _VARIANCE_FLOOR)


class _Tree:
    """One tree as arrays, its splits moved."""

    def __init__(self, tree: Any, x: NDArray[np.float32], rng: np.random.Generator) -> None:
        self.left, self.right = tree.children_left, tree.children_right
        self.feature, self.mean, self.variance = tree.feature, tree.value[:, 0, 0], tree.impurity
        self.threshold = self._moved(tree.threshold, x, rng)

    def _moved(
        self, thresholds: NDArray[np.float64], x: NDArray[np.float32], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        moved = thresholds.copy()
        positions = rng.random(len(thresholds))
        members = {0: np.arange(len(x))}
        for node in range(len(thresholds)):  # parents come before their children
            inside = members.pop(node)
            if self.left[node] < 0:
                continue
            values = x[inside, self.feature[node]]
            goes_left = values <= thresholds[node]
            low = float(values[goes_left].max(initial=-np.inf))
            high = float(values[~goes_left].min(initial=np.inf))
            if np.isfinite(low) and np.isfinite(high):
                moved[node] = low + positions[node] * (high - low)
            members[int(self.left[node])] = inside[goes_left]
            members[int(self.right[node])] = inside[~goes_left]
        return moved

    def predict(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        nodes, rows = np.zeros(len(x), dtype=np.intp), np.arange(len(x))
        while len(rows):
            at = nodes[rows]
            rows = rows[self.left[at] >= 0]
            at = nodes[rows]
            goes_left = x[rows, self.feature[at]] <= self.threshold[at]
            nodes[rows] = np.where(goes_left, self.left[at], self.right[at])
        return self.mean[nodes], self.variance[nodes]


def log_regret(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm of losses scaled to ``(0, 1]``, their best a little above zero as if it could be improved on.

    Args:
        losses: shape ``[n]``, less is better.

    Returns:
        Shape ``[n]``; all 0 where all losses are equal.
    """
    best, worst = float(losses.min()), float(losses.max())
    if worst <= best:
        return np.zeros(len(losses))
    # What may still be gained: as much as the best 5 % of the results lie apart.
    reserve = max(float(np.quantile(losses, 0.05)) - best, 1e-3 * (worst - best))
    return np.asarray(np.log((losses - best + reserve) / (worst - best + reserve)), dtype=np.float64)


def plain_ei(mean: NDArray[np.float64], deviation: NDArray[np.float64], incumbent: float) -> NDArray[np.float64]:
    """Expected improvement of a normal variable below the incumbent (Jones et al. 1998)."""
    z = (incumbent - mean) / deviation
    density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    return np.asarray(np.maximum((incumbent - mean) * ndtr(z) + deviation * density, 0.0), dtype=np.float64)


def log_space_ei(mean: NDArray[np.float64], deviation: NDArray[np.float64], incumbent: float) -> NDArray[np.float64]:
    """Expected improvement of a log-normal variable below the incumbent, whose logarithm is given.

    ``f Phi(v) - exp(mean + deviation^2 / 2) Phi(v - deviation)`` with ``v = (ln f - mean) / deviation`` (Hutter
    et al. 2009, eq. 3).
    """
    v = (incumbent - mean) / deviation
    # The second term as one exponential: its factors overflow and underflow where the product does neither.
    second = np.exp(np.minimum(mean + 0.5 * deviation**2 + log_ndtr(v - deviation), 50.0))
    return np.asarray(np.maximum(np.exp(incumbent) * ndtr(v) - second, 0.0), dtype=np.float64)
