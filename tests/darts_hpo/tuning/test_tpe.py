"""TPE and its Parzen estimators."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from scipy.stats import truncnorm

from darts_hpo.errors import ConfigError
from darts_hpo.space import Categorical, Condition, Float, Int, Space
from darts_hpo.testing.samplers import SPACES, SamplerConformance, appended, finished, play, random_history
from darts_hpo.tuning.history import History
from darts_hpo.tuning.samplers.parzen import ParzenEstimator, neighbour_distances, recency_weights
from darts_hpo.tuning.samplers.points import integer_bin
from darts_hpo.tuning.samplers.tpe import TPESampler
from darts_hpo.tuning.trial import TrialState


class TestTPE(SamplerConformance):
    build = TPESampler
    model_based = True


# -- golden values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "good"), [(1, 1), (10, 1), (11, 2), (100, 10), (250, 25), (251, 25), (1000, 25)])
def test_gamma(n, good):
    assert TPESampler().gamma(n) == good


def test_old_points_weigh_less():
    assert recency_weights(25).tolist() == [1.0] * 25
    weights = recency_weights(30)
    np.testing.assert_allclose(weights[:5], np.linspace(1 / 30, 1.0, 5))
    assert weights[5:].tolist() == [1.0] * 25
    assert len(recency_weights(0)) == 0


def test_bandwidths_are_distances_to_neighbours():
    units = np.array([0.5, 0.1, 0.9, 0.55])
    np.testing.assert_allclose(neighbour_distances(units), [0.4, 0.4, 0.35, 0.35])
    np.testing.assert_allclose(neighbour_distances(np.array([0.3])), [0.7])
    assert len(neighbour_distances(np.zeros(0))) == 0


def test_the_density_of_two_points_in_closed_form():
    """Two kernels as wide as the points are apart, and the prior; thirds of the weight each."""
    space = Space({"x": Float(0.0, 2.0)})
    estimator = ParzenEstimator(space, [{"x": 0.4}, {"x": 1.4}])
    parts = [(0.2, 0.5), (0.7, 0.5), (0.5, 1.0)]
    for x in (0.0, 0.4, 1.0, 2.0):
        expected = np.mean([truncnorm(-m / s, (1 - m) / s, m, s).pdf(x / 2) for m, s in parts])
        assert estimator.log_density([{"x": x}])[0] == pytest.approx(np.log(expected))


def test_a_crowd_of_points_keeps_a_least_width():
    space = Space({"x": Float(0.0, 1.0)})
    estimator = ParzenEstimator(space, [{"x": 0.5}] * 3)
    s = 1 / 5
    kernel = truncnorm(-0.5 / s, 0.5 / s, 0.5, s).pdf(0.5)
    prior = truncnorm(-0.5, 0.5, 0.5, 1.0).pdf(0.5)
    assert estimator.log_density([{"x": 0.5}])[0] == pytest.approx(np.log((3 * kernel + prior) / 4))


def test_options_share_a_little_weight():
    """One observation and the prior: the kernel's option has 1 + 1/2, the others 1/2 each."""
    space = Space({"op": Categorical(("a", "b", "c"))})
    estimator = ParzenEstimator(space, [{"op": "b"}])
    ratios = np.exp(estimator.log_density([{"op": option} for option in "abc"]))
    np.testing.assert_allclose(ratios / 3, [0.5 * 0.2 + 0.5 / 3, 0.5 * 0.6 + 0.5 / 3, 0.5 * 0.2 + 0.5 / 3])


# -- densities -----------------------------------------------------------------------------------------------------


def test_integer_densities_sum_to_one():
    space = Space({"n": Int(1, 6), "k": Int(2, 400, log=True)})
    rng = Random(0)
    estimator = ParzenEstimator(space, [space.sample(rng) for _ in range(7)])
    points = [{"n": n, "k": k} for n in range(1, 7) for k in range(2, 401)]
    sizes = [np.prod([np.diff(integer_bin(space[name], value))[0] for name, value in p.items()]) for p in points]
    assert (np.exp(estimator.log_density(points)) * sizes).sum() == pytest.approx(1.0)


def test_an_integer_of_a_thousand_values_is_nearly_a_float():
    whole, real = Space({"n": Int(0, 20_000)}), Space({"n": Float(-0.5, 20_000.5)})
    points = [{"n": n} for n in (100, 4000, 19_000)]
    densities = [ParzenEstimator(space, points).log_density([{"n": 5000}])[0] for space in (whole, real)]
    assert densities[0] == pytest.approx(densities[1], abs=1e-6)


@pytest.mark.parametrize("name", ["mixed", "conditional", "int", "constrained"])
def test_samples_follow_the_density_on_every_space(name):
    """The mean of 1 / density over samples is the volume of the space, 1, where all of it can be drawn."""
    space, rng = SPACES[name], Random(3)
    estimator = ParzenEstimator(space, [space.sample(rng) for _ in range(12)])
    points = estimator.sample(np.random.default_rng(0), 3000)
    assert all(space.validate(point) == point for point in points[:100])
    if not space.constraints:
        assert np.exp(-estimator.log_density(points)).mean() == pytest.approx(1.0, abs=0.1)


def test_an_inactive_parameter_says_nothing():
    space = Space({"a": Categorical(("on", "off")), "x": Float(0, 1)}, (Condition("x", "a", ("on",)),))
    estimator = ParzenEstimator(space, [{"a": "off"}, {"a": "on", "x": 0.2}])
    on, off = ParzenEstimator(space, [{"a": "off"}] * 2), {"a": "off"}
    # Without any x known, the density over x is nearly flat.
    values = on.log_density([{"a": "on", "x": 0.1}, {"a": "on", "x": 0.5}])
    assert abs(values[0] - values[1]) < 0.1
    assert np.isfinite(estimator.log_density([off]))


def test_hardly_satisfiable_constraints_give_few_points_or_none():
    space = Space({"x": Float(0, 1)}, constraints=("x > 2",))
    assert ParzenEstimator(space, []).sample(np.random.default_rng(0), 4) == []


# -- proposals -----------------------------------------------------------------------------------------------------


def _cluster(n=30):
    """Good points near 0.2, bad ones elsewhere."""
    space = Space({"x": Float(0.0, 1.0)})
    values = np.linspace(0.0, 1.0, n)
    trials = tuple(finished(i, {"x": float(x)}, -abs(float(x) - 0.2)) for i, x in enumerate(values))
    return History(space, trials=trials)


def test_proposals_lie_where_good_points_are():
    proposals = [TPESampler().suggest(_cluster(), seed=seed).point["x"] for seed in range(20)]
    assert np.mean(np.abs(np.array(proposals) - 0.2) < 0.15) > 0.8


def test_running_trials_push_proposals_away():
    history = _cluster()
    alone = [TPESampler().suggest(history, seed=seed).point["x"] for seed in range(20)]
    for _ in range(20):
        history = appended(history, {"x": 0.2})
    beside = [TPESampler().suggest(history, seed=seed).point["x"] for seed in range(20)]
    without = [TPESampler(liar=False).suggest(history, seed=seed).point["x"] for seed in range(20)]
    assert np.median(np.abs(np.array(beside) - 0.2)) > np.median(np.abs(np.array(alone) - 0.2))
    assert without == alone


def test_failed_trials_are_bad():
    history = _cluster()
    trials = [replace(t, state=TrialState.FAILED, results=()) if t.point["x"] > 0.3 else t for t in history.trials]
    proposals = [TPESampler().suggest(replace(history, trials=tuple(trials)), seed=s).point["x"] for s in range(20)]
    assert np.mean(np.array(proposals) < 0.4) > 0.7


def test_the_bias_decides_between_candidates():
    def log_bias(points):
        return np.array([100.0 * point["x"] for point in points])

    history = _cluster()
    plain = [TPESampler().suggest(history, seed=s).point["x"] for s in range(10)]
    biased = [TPESampler().suggest_biased(history, seed=s, log_bias=log_bias).point["x"] for s in range(10)]
    assert np.mean(biased) > np.mean(plain) + 0.2


def test_a_conditional_space_is_searched_in_its_better_half():
    space = SPACES["conditional"]

    def function(point):
        return 1.0 - abs(point["momentum"] - 0.7) if point["optimizer"] == "sgd" else 0.0

    history = play(TPESampler(), space, function, 40)
    late = [trial.point for trial in history.trials[20:]]
    assert sum(point["optimizer"] == "sgd" for point in late) > 12
    assert max(result.values["value"] for _, result in history.observations) > 0.95


def test_startup_counts_results_and_failures():
    history = random_history(SPACES["mixed"], 9)
    assert TPESampler().suggest(history, seed=0).labels == {}
    failed = replace(finished(9, history.trials[0].point, 0.0), state=TrialState.FAILED, results=())
    history = replace(history, trials=(*history.trials, failed))
    assert set(TPESampler().suggest(history, seed=0).labels) == {"log_ratio"}


@pytest.mark.parametrize("arguments", [{"startup": 1}, {"candidates": 0}, {"good": 1.0}, {"most_good": 0}])
def test_wrong_arguments_are_explained(arguments):
    with pytest.raises(ConfigError, match="expected at least 2 points"):
        TPESampler(**arguments)
