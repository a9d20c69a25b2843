"""Beliefs: densities in closed form, sampling, messages."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from scipy.stats import truncnorm

from darts_hpo.errors import ConfigError, SpaceError
from darts_hpo.space import Categorical, Float, Int, Space
from darts_hpo.testing.samplers import SPACES
from darts_hpo.tuning.beliefs import DOUBT, Belief

LOG = Space({"lr": Float(1e-4, 1e-1, log=True), "width": Int(8, 512, log=True)})


def test_a_factor_is_one_standard_deviation_on_a_log_scale():
    belief = Belief(LOG, {"lr": {"near": 1e-3, "within": 3.0}})
    centre, width = belief.normals["lr"]
    assert centre == pytest.approx(1 / 3)
    assert width == pytest.approx(math.log(3) / math.log(1000))
    exact = truncnorm(-centre / width, (1 - centre) / width, centre, width)
    for lr in (1e-4, 3e-4, 1e-3, 1e-1):
        unit = LOG["lr"].to_unit(lr)
        expected = math.log((1 - DOUBT) * exact.pdf(unit) + DOUBT)
        assert belief.log_density([{"lr": lr, "width": 8}])[0] == pytest.approx(expected)


def test_a_difference_on_a_linear_scale_and_a_tenth_by_default():
    space = Space({"x": Float(-10.0, 10.0), "n": Int(1, 20)})
    assert Belief(space, {"x": {"near": 5, "within": 2}}).normals["x"] == pytest.approx((0.75, 0.1))
    assert Belief(space, {"n": {"near": 3, "within": 2}}).normals["n"] == pytest.approx((2.5 / 20, 0.1))
    assert Belief(space, {"x": {"near": 5}}).normals["x"] == pytest.approx((0.75, 0.1))


def test_weights_are_relative_and_unnamed_options_weigh_one():
    space = Space({"op": Categorical(("a", "b", "c"))})
    belief = Belief(space, {"op": {"weights": {"a": 2}}}, doubt=0.1)
    ratios = np.exp(belief.log_density([{"op": option} for option in "abc"]))
    np.testing.assert_allclose(ratios, [0.9 * 1.5 + 0.1, 0.9 * 0.75 + 0.1, 0.9 * 0.75 + 0.1])


@pytest.mark.parametrize(("near", "within"), [(1e-4, 1.01), (1e-3, 3.0), (1e-1, 100.0)])
def test_the_density_of_a_float_integrates_to_one(near, within):
    belief = Belief(LOG, {"lr": {"near": near, "within": within}})
    units = (np.arange(4000) + 0.5) / 4000
    ratios = np.exp(belief.log_density([{"lr": LOG["lr"].from_unit(unit)} for unit in units]))
    assert ratios.mean() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("near", "within"), [(8, 1.001), (100, 2.0), (512, 1.2)])
def test_the_probabilities_of_an_integer_sum_to_one(near, within):
    belief = Belief(LOG, {"width": {"near": near, "within": within}})
    edges = np.log(np.arange(8, 514) - 0.5)
    shares = np.diff(edges) / (edges[-1] - edges[0])
    ratios = np.exp(belief.log_density([{"width": width} for width in range(8, 513)]))
    assert (ratios * shares).sum() == pytest.approx(1.0)


def test_no_value_is_ruled_out():
    belief = Belief(LOG, {"lr": {"near": 1e-4, "within": 1.0001}})
    assert belief.log_density([{"lr": 0.1, "width": 8}])[0] == pytest.approx(math.log(DOUBT))
    belief = Belief(SPACES["categorical"], {"op": {"weights": {"conv3": 0}}})
    assert np.isfinite(belief.log_density([{"op": "conv3", "pool": "max"}]))


def test_samples_follow_the_density():
    belief = Belief(
        SPACES["mixed"], {"lr": {"near": 1e-3, "within": 3}, "op": {"weights": {"relu": 8}}, "layers": {"near": 2}}
    )
    rng = Random(1)
    points = [belief.sample(rng) for _ in range(3000)]
    assert np.mean([1e-3 / 3 < p["lr"] < 3e-3 for p in points]) == pytest.approx(0.6827 * 0.98 + 0.02 * 0.318, abs=0.03)
    assert np.mean([p["op"] == "relu" for p in points]) == pytest.approx(0.98 * 0.8 + 0.02 / 3, abs=0.03)
    # A histogram of samples against the density of each integer.
    for layers in range(1, 6):
        ratio = math.exp(belief.log_density([{"layers": layers}])[0])
        assert np.mean([p["layers"] == layers for p in points]) == pytest.approx(ratio / 5, abs=0.03)


def test_samples_follow_conditions_and_constraints():
    rng = Random(0)
    conditional = Belief(SPACES["conditional"], {"beta": {"near": 0.99}, "momentum": {"near": 0.9}})
    for _ in range(50):
        point = conditional.sample(rng)
        assert SPACES["conditional"].validate(point) == point
    assert conditional.log_density([{"optimizer": "adam", "betas": "low"}])[0] == 0.0
    bound = Belief(SPACES["constrained"], {"x": {"near": 0.9}})
    assert all(SPACES["constrained"].satisfies(bound.sample(rng)) for _ in range(50))
    with pytest.raises(SpaceError, match="near the beliefs"):
        Belief(Space({"x": Float(0, 1)}, constraints=("x > 2",)), {}).sample(rng)


def test_around_a_point():
    space = SPACES["mixed"]
    point = {"lr": 1e-2, "momentum": 0.5, "layers": 2, "op": "silu"}
    belief = Belief.around(space, point)
    assert belief.normals["momentum"] == (0.5, 0.25)
    others = [space.sample(Random(seed)) for seed in range(50)]
    assert belief.log_density([point])[0] > belief.log_density(others).max()
    options = [{"op": option} for option in ("silu", "relu", "mish")]
    np.testing.assert_allclose(np.exp(belief.log_density(options)) / 3, [0.66, 0.17, 0.17], atol=0.01)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"lrr": {"near": 1}}, "Did you mean 'lr'"),
        ({"lr": 1e-3}, r"write for example \{near"),
        ({"lr": {"nera": 1e-3}}, "Did you mean 'near'"),
        ({"lr": {"within": 3}}, "says nothing; give near"),
        ({"lr": {"near": 7.0}}, "lies outside"),
        ({"lr": {"near": 1e-3, "within": 1.0}}, "a factor above 1"),
        ({"momentum": {"near": 0.5, "within": 0}}, "a difference above 0"),
        ({"op": {"near": "relu"}}, "key in the belief about 'op'"),
        ({"op": {"weights": ["relu"]}}, r"write for example \{OPTION: 2\}"),
        ({"op": {"weights": {"rellu": 2}}}, "Did you mean 'relu'"),
        ({"op": {"weights": {"relu": -1}}}, "a number from 0"),
        ({"op": {"weights": {"relu": 0, "silu": 0, "mish": 0}}}, "at least one"),
    ],
)
def test_a_wrong_entry_is_explained(entries, message):
    with pytest.raises(ConfigError, match=message):
        Belief(SPACES["mixed"], entries)


def test_doubt_is_a_share():
    with pytest.raises(ConfigError, match="share in"):
        Belief(LOG, {}, doubt=0.0)
