"""The neural surrogate: its fit, its evidence, its acquisition values, its proposals."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from darts_hpo.errors import ConfigError
from darts_hpo.space import Float, Space
from darts_hpo.testing.samplers import SPACES, SamplerConformance, finished, random_history
from darts_hpo.tuning.history import History
from darts_hpo.tuning.samplers.neural import Ensemble, NeuralSampler, _evidence, log_ei, standardized


class TestNeural(SamplerConformance):
    model_based = True
    quadratic_trials = 20
    quadratic_seeds = (0,)

    @staticmethod
    def build():
        return NeuralSampler(members=3, width=16, steps=50, candidates=50)


class TestNeuralUCB(SamplerConformance):
    spaces = ("mixed", "conditional")

    @staticmethod
    def build():
        return NeuralSampler(acquisition="ucb", members=2, width=8, steps=20, candidates=30)


# -- the surrogate -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    x = np.linspace(0.2, 0.8, 25)[:, None]
    y = standardized(np.sin(8 * x[:, 0]))
    return x, y, Ensemble.fit(x, y, members=5, width=32, steps=200, seed=0)


def test_the_ensemble_fits_a_smooth_function(fitted):
    x, y, ensemble = fitted
    mean, variance = ensemble.predict(x)
    assert np.abs(mean - y).max() < 0.1
    assert (variance > 0).all()


def test_it_is_less_sure_away_from_the_data(fitted):
    x, _, ensemble = fitted
    inside = ensemble.predict(x)[1].mean()
    outside = ensemble.predict(np.array([[0.0], [1.0]]))[1].min()
    assert outside > 10 * inside


def test_a_told_point_leaves_less_doubt(fitted):
    _, _, ensemble = fitted
    far = np.array([[0.0]])
    mean, before = ensemble.predict(far)
    told_mean, after = ensemble.told(far, mean).predict(far)
    assert after[0] < before[0]
    assert told_mean[0] == pytest.approx(mean[0], abs=np.sqrt(before[0]))


def test_the_fit_is_a_function_of_its_seed(fitted):
    x, y, _ = fitted
    first, again, other = (
        Ensemble.fit(x, y, members=2, width=8, steps=10, seed=seed).predict(x)[0] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(other, again)


def test_evidence_recovers_the_noise():
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(1, 400, 5)))
    noise = 0.1
    targets = features[0] @ torch.from_numpy(rng.normal(size=5)) + noise * torch.from_numpy(rng.normal(size=400))
    alpha, beta = _evidence(features, targets)
    assert float(beta) == pytest.approx(noise**-2, rel=0.15)
    assert 0.1 < float(alpha) < 10.0


def test_standardized_values():
    assert standardized(np.array([1.0, 2.0, 3.0])).tolist() == pytest.approx([-1.2247449, 0.0, 1.2247449])
    assert standardized(np.full(3, 7.0)).tolist() == [0.0, 0.0, 0.0]


# -- acquisition ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("z", "expected"),
    [
        (0.0, -0.9189385332),
        (-1.0, -2.4851210257),
        (-5.0, -16.7443011627),
        (-10.0, -55.5531220362),
        (-40.0, -808.2985683566),
        (-1000.0, -500014.7344521),
        (2.0, np.log(2.0084907)),
    ],
)
def test_log_expected_improvement(z, expected):
    assert log_ei(np.array([z]), np.ones(1), 0.0)[0] == pytest.approx(expected, rel=1e-7)
    assert log_ei(np.array([1.0 + 3.0 * z]), np.full(1, 3.0), 1.0)[0] == pytest.approx(expected + np.log(3.0), rel=1e-7)


def test_log_expected_improvement_has_no_seams():
    z = np.concatenate([np.linspace(-1.01, -0.99, 101), -np.geomspace(1.1e4, 0.9e4, 101)])
    values = log_ei(z, np.ones(202), 0.0)
    assert (np.diff(values[:101]) > 0).all()
    assert (np.diff(values[101:]) > 0).all()
    assert np.isfinite(log_ei(np.array([-1e6, 1e6]), np.array([1e-5, 1e-5]), 0.0)).all()


# -- proposals -----------------------------------------------------------------------------------------------------


def _hill(n=20):
    space = Space({"x": Float(0.0, 1.0)})
    values = np.linspace(0.0, 1.0, n)
    return History(space, trials=tuple(finished(i, {"x": float(x)}, -((x - 0.23) ** 2)) for i, x in enumerate(values)))


@pytest.mark.parametrize("acquisition", ["ei", "ucb"])
def test_proposals_lie_where_values_are_good(acquisition):
    sampler = NeuralSampler(acquisition=acquisition, kappa=0.5, candidates=50)
    suggestion = sampler.suggest(_hill(), seed=0)
    assert suggestion.point["x"] == pytest.approx(0.23, abs=0.1)
    assert set(suggestion.labels) == {acquisition}


def test_the_bias_decides_between_candidates():
    def log_bias(points):
        return np.array([1e12 * point["x"] for point in points])

    sampler = NeuralSampler(candidates=50, steps=50)
    assert sampler.suggest_biased(_hill(), seed=0, log_bias=log_bias).point["x"] > 0.9


def test_a_suggestion_from_a_hundred_results_takes_less_than_a_second():
    history, sampler = random_history(SPACES["mixed"], 100), NeuralSampler()
    sampler.suggest(history, seed=0)
    start = time.process_time()
    sampler.suggest(history, seed=1)
    assert time.process_time() - start < 1.0 * torch.get_num_threads()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"acquisition": "eu"}, "Did you mean 'ei'"), ({"startup": 1}, "at least 2"), ({"kappa": -1.0}, "kappa=-1.0")],
)
def test_wrong_arguments_are_explained(arguments, message):
    with pytest.raises(ConfigError, match=message):
        NeuralSampler(**arguments)
