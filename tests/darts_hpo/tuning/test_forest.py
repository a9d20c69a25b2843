"""The random forest: its predictions, its expected improvement, its proposals; and the search for candidates."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor

from darts_hpo.errors import ConfigError
from darts_hpo.space import Float, Space
from darts_hpo.testing.samplers import SPACES, SamplerConformance, appended, finished, random_history, smooth_value
from darts_hpo.tuning.history import History
from darts_hpo.tuning.samplers.candidates import neighbours, search
from darts_hpo.tuning.samplers.forest import Forest, ForestSampler, log_regret, log_space_ei, plain_ei
from darts_hpo.tuning.samplers.points import key
from darts_hpo.tuning.trial import TrialState


class TestForest(SamplerConformance):
    model_based = True
    quadratic_trials = 22

    @staticmethod
    def build():
        return ForestSampler(candidates=50)


class TestForestOfPlainValues(SamplerConformance):
    spaces = ("mixed", "conditional")

    @staticmethod
    def build():
        return ForestSampler(candidates=50, log=False, random_fraction=0.0)


# -- the surrogate -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.random((40, 3))
    return x, np.sin(6 * x[:, 0]) + x[:, 1]


def _regressor(x, y):
    return RandomForestRegressor(n_estimators=7, min_samples_leaf=2, random_state=0).fit(x, y)


def test_moved_splits_leave_the_training_points_in_their_leaves(data):
    """A bootstrapped tree may not have seen every point; for those it has seen, nothing changes."""
    x, y = data
    regressor = _regressor(x, y)
    forest = Forest(regressor, x, y, np.random.default_rng(0))
    np.testing.assert_allclose(forest.predict(x)[0], regressor.predict(x))


def test_moved_splits_differ_between_the_points(data):
    x, y = data
    regressor, grid = _regressor(x, y), np.random.default_rng(1).random((200, 3))
    first, second = (Forest(regressor, x, y, np.random.default_rng(seed)).predict(grid)[0] for seed in (0, 1))
    assert np.abs(first - second).max() > 1e-3
    assert np.corrcoef(first, regressor.predict(grid))[0, 1] > 0.95


def test_variance_is_that_of_the_means_plus_the_mean_of_the_variances(data):
    x, y = data
    regressor = _regressor(x, y)
    mean, variance = Forest(regressor, x, y, np.random.default_rng(0)).predict(x)
    means, within = [], []
    for estimator in regressor.estimators_:
        leaves = estimator.apply(x.astype(np.float32))
        means.append(estimator.tree_.value[leaves, 0, 0])
        within.append(estimator.tree_.impurity[leaves])
    np.testing.assert_allclose(mean, np.mean(means, axis=0))
    np.testing.assert_allclose(variance, np.var(means, axis=0) + np.mean(within, axis=0))


def test_equal_values_give_a_certain_forest():
    x = np.random.default_rng(0).random((10, 2))
    forest = ForestSampler().fit(x, np.full(10, 0.3), np.random.default_rng(0))
    mean, variance = forest.predict(np.random.default_rng(1).random((5, 2)))
    np.testing.assert_allclose(mean, 0.3)
    assert (variance > 0).all()
    assert (variance < 1e-9).all()


# -- expected improvement ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "deviation", "incumbent", "expected"),
    [
        (0.0, 1.0, 0.0, 0.3989422804),
        (-1.0, 1.0, 0.0, 1.0833154706),
        (1.0, 1.0, 0.0, 0.0833154706),
        (-0.5, 0.2, -0.71, 0.0151360263),
        (-0.3, 0.1, -0.25, 0.0697796557),
    ],
)
def test_expected_improvement_of_a_normal_variable(mean, deviation, incumbent, expected):
    assert plain_ei(np.array([mean]), np.array([deviation]), incumbent)[0] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("mean", "deviation", "incumbent"), [(0.0, 1.0, 0.0), (-1.0, 0.3, -1.2), (0.5, 2.0, -1.0)])
def test_expected_improvement_of_a_log_normal_variable(mean, deviation, incumbent):
    draws = np.exp(np.random.default_rng(0).normal(mean, deviation, 400_000))
    expected = np.maximum(np.exp(incumbent) - draws, 0.0).mean()
    assert log_space_ei(np.array([mean]), np.array([deviation]), incumbent)[0] == pytest.approx(expected, rel=0.02)


def test_expected_improvement_stays_finite():
    means, deviations = np.array([-1e3, 0.0, 1e3, 0.0]), np.array([1e-5, 1e3, 1e3, 1e-5])
    for improvement in (plain_ei, log_space_ei):
        values = improvement(means, deviations, -1.0)
        assert np.isfinite(values).all()
        assert (values >= 0).all()


def test_log_regret_orders_and_resolves():
    losses = np.array([3.0, 1.0, 1.01, 2.0, 1e3])
    regret = log_regret(losses)
    assert np.argsort(regret).tolist() == [1, 2, 3, 0, 4]
    assert regret.max() == pytest.approx(0.0)
    assert log_regret(np.full(4, 2.0)).tolist() == [0.0] * 4


# -- proposals -----------------------------------------------------------------------------------------------------


def _cluster(n=30):
    space = Space({"x": Float(0.0, 1.0)})
    values = np.linspace(0.0, 1.0, n)
    return History(space, trials=tuple(finished(i, {"x": float(x)}, -((x - 0.2) ** 2)) for i, x in enumerate(values)))


def test_proposals_lie_where_values_are_good():
    sampler = ForestSampler(random_fraction=0.0, candidates=50)
    proposals = [sampler.suggest(_cluster(), seed=seed).point["x"] for seed in range(5)]
    assert np.abs(np.array(proposals) - 0.2).max() < 0.1


def test_failed_trials_are_avoided():
    history = _cluster()
    trials = [
        replace(t, state=TrialState.FAILED, results=()) if 0.12 < t.point["x"] < 0.28 else t for t in history.trials
    ]
    sampler = ForestSampler(random_fraction=0.0, candidates=50)
    proposals = [sampler.suggest(replace(history, trials=tuple(trials)), seed=s).point["x"] for s in range(4)]
    assert not any(0.14 < x < 0.26 for x in proposals)


def test_the_bias_decides_between_candidates():
    def log_bias(points):
        return np.array([1e6 * point["x"] for point in points])

    sampler = ForestSampler(random_fraction=0.0, candidates=50)
    assert sampler.suggest_biased(_cluster(), seed=0, log_bias=log_bias).point["x"] > 0.9


def test_a_share_of_the_proposals_is_random():
    history = random_history(SPACES["float"], 12)
    sampler = ForestSampler(random_fraction=0.5, candidates=1, trees=1)
    modelled = [bool(sampler.suggest(history, seed=seed).labels) for seed in range(40)]
    assert 8 <= sum(modelled) <= 32


@pytest.mark.parametrize("arguments", [{"startup": 1}, {"trees": 0}, {"random_fraction": 2.0}, {"features": 0.0}])
def test_wrong_arguments_are_explained(arguments):
    with pytest.raises(ConfigError, match="A forest with"):
        ForestSampler(**arguments)


# -- the search for candidates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mixed", "conditional", "constrained", "log"])
def test_the_search_climbs_to_the_optimum(name):
    space = SPACES[name]

    def score(points):
        return np.array([smooth_value(space, point) for point in points])

    found = search(score, History(space), Random(0), random_points=50)
    assert space.validate(found) == found
    at_random = max(smooth_value(space, space.sample(Random(seed))) for seed in range(50))
    assert smooth_value(space, found) >= max(at_random, 0.99 if name in ("mixed", "log") else 0.0)


def test_the_search_leaves_out_what_was_tried():
    space = SPACES["categorical"]
    history, seen = History(space), set()
    for _ in range(6):
        point = search(lambda points: np.zeros(len(points)), history, Random(0), random_points=60)
        assert key(point) not in seen
        seen.add(key(point))
        history = appended(history, point)
    assert search(lambda points: np.zeros(len(points)), history, Random(0), random_points=60) is None


@pytest.mark.parametrize("name", ["mixed", "conditional", "constrained"])
def test_neighbours_differ_in_one_parameter(name):
    space, rng = SPACES[name], Random(0)
    for _ in range(10):
        point = space.sample(rng)
        for other in neighbours(space, point, rng, 0.2):
            assert space.validate(other) == other
            common = set(point) & set(other)
            assert sum(point[each] != other[each] for each in common) == 1


def test_an_integer_always_has_its_next_values_as_neighbours():
    point = {"depth": 0, "width": 9}
    found = neighbours(SPACES["int"], point, Random(0), 1e-6)
    assert {(p["depth"], p["width"]) for p in found} == {(-1, 9), (1, 9), (0, 8)}
