"""PriorBand's mixture and piBO's weighting around other samplers."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from random import Random

import numpy as np
import pytest

from darts_hpo.errors import ConfigError
from darts_hpo.space import Float, Space
from darts_hpo.testing.samplers import SPACES, SamplerConformance, ask, play, random_history, smooth_value
from darts_hpo.tuning.beliefs import Belief
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity
from darts_hpo.tuning.samplers.base import Exhausted, Suggestion
from darts_hpo.tuning.samplers.belief import BeliefSampler, evidence, neighbour
from darts_hpo.tuning.samplers.grid import GridSampler
from darts_hpo.tuning.samplers.random import RandomSampler
from darts_hpo.tuning.samplers.ranking import RankingSampler
from darts_hpo.tuning.samplers.tpe import TPESampler

MIXED = SPACES["mixed"]
RIGHT = {
    "lr": {"near": 1e-3, "within": 3},
    "momentum": {"near": 0.35, "within": 0.1},
    "op": {"weights": {"relu": 5}},
}
"""The optimum of ``smooth_value`` lies at lr 1e-3, momentum 1/3 and the first option."""
WRONG = {
    "lr": {"near": 8e-2, "within": 1.5},
    "momentum": {"near": 0.95, "within": 0.05},
    "op": {"weights": {"mish": 10}},
}


class TestPriorBand(SamplerConformance):
    @staticmethod
    def build():
        return BeliefSampler(RandomSampler(), {}, decay=None)


class TestBeliefAroundTPE(SamplerConformance):
    @staticmethod
    def build():
        return BeliefSampler(TPESampler(), {})


# -- shares --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("budget", "sampler"), [(None, 1 / 2), (1.0, 1 / 2), (3.0, 1 / 4), (9.0, 1 / 10)])
def test_the_belief_starts_with_eta_to_the_rung_times_the_samplers_share(budget, sampler):
    history = History(MIXED, fidelity=Fidelity(1, 10))
    shares = BeliefSampler(RandomSampler(), RIGHT).shares(history, Belief(MIXED, RIGHT), budget)
    assert shares == pytest.approx({"sampler": sampler, "belief": 1 - sampler, "incumbent": 0.0})


def test_the_shares_fade_with_the_results():
    belief = Belief(MIXED, RIGHT)
    fading, lasting = BeliefSampler(RandomSampler(), RIGHT), BeliefSampler(RandomSampler(), RIGHT, decay=None)
    for n, share in ((10, 0.5), (20, 0.25), (100, 0.05)):
        history = random_history(MIXED, n)
        shares = fading.shares(history, belief)
        assert shares["belief"] + shares["incumbent"] == pytest.approx(share)
        assert sum(shares.values()) == pytest.approx(1.0)
        shares = lasting.shares(history, belief)
        assert shares["belief"] + shares["incumbent"] == pytest.approx(0.5)


def test_evidence_weighs_the_best_third_by_rank():
    """Two points count, 2 : 1; a belief about nothing has density 1, the neighbourhood its own."""
    space = Space({"x": Float(0.0, 1.0)})
    points = [{"x": x} for x in (0.1, 0.5, 0.6, 0.9, 0.8, 0.7)]
    order = [1, 2, 0, 3, 4, 5]
    around = np.exp(Belief.around(space, points[1]).log_density([points[1], points[2]]))
    expected = 3.0 / (3.0 + 2.0 * around[0] + around[1])
    assert evidence(Belief(space, {}), points, order, 3.0) == pytest.approx(expected)
    # With its standard deviation of a quarter, cut off at two of them, the neighbourhood's density is closed form.
    mass = math.erf(2.0 / math.sqrt(2.0))
    peak = 0.98 / (0.25 * math.sqrt(2.0 * math.pi) * mass) + 0.02
    assert around[0] == pytest.approx(peak)


def test_evidence_tells_a_right_belief_from_a_wrong_one():
    history = random_history(MIXED, 60)
    order = sorted(range(60), key=lambda i: -smooth_value(MIXED, history.trials[i].point))
    points = [trial.point for trial in history.trials]
    right, wrong = (evidence(Belief(MIXED, entries), points, order, 3.0) for entries in (RIGHT, WRONG))
    assert right > 0.3  # the neighbourhood knows all four parameters, the belief three
    assert wrong < 0.1 * right


def test_every_source_speaks_in_its_share():
    history = random_history(MIXED, 20)
    sampler = BeliefSampler(RandomSampler(), RIGHT, decay=None)
    shares = sampler.shares(history, Belief(MIXED, RIGHT))
    counts = Counter(ask(sampler, history, seed).labels["source"] for seed in range(400))
    for source, share in shares.items():
        assert counts[source] / 400 == pytest.approx(share, abs=0.08)


# -- weighting -----------------------------------------------------------------------------------------------------


class _Recording(RankingSampler):
    """Proposes the point that the bias likes best among three."""

    points = ({"x": 0.1}, {"x": 0.5}, {"x": 0.9})

    def suggest_biased(self, history, *, seed, budget=None, log_bias):
        self.bias = log_bias(self.points)
        return Suggestion(self.points[int(np.argmax(self.bias))], labels={"own": 1})


@pytest.mark.parametrize("n", [1, 5, 40])
def test_candidates_are_weighted_by_the_belief_to_the_power_decay_over_n(n):
    space = Space({"x": Float(0.0, 1.0)})
    entries, inner = {"x": {"near": 0.9, "within": 0.1}}, _Recording()
    sampler = BeliefSampler(inner, entries, decay=10.0)
    history = random_history(space, n)
    seed = next(s for s in range(100) if sampler.suggest(history, seed=s).labels["source"] == "sampler")
    suggestion = sampler.suggest(history, seed=seed)
    np.testing.assert_allclose(inner.bias, 10.0 / n * Belief(space, entries).log_density(inner.points))
    assert suggestion.point == {"x": 0.9}
    assert suggestion.labels == {"own": 1, "source": "sampler"}


# -- effect --------------------------------------------------------------------------------------------------------


@cache
def _regret(kind, trials=30, seeds=9):
    def build():
        inner = RandomSampler()
        return inner if kind == "none" else BeliefSampler(inner, RIGHT if kind == "right" else WRONG, decay=None)

    studies = [play(build(), MIXED, lambda point: smooth_value(MIXED, point), trials, seed) for seed in range(seeds)]
    return float(np.median([1.0 - max(r.values["value"] for _, r in study.observations) for study in studies]))


def test_a_right_belief_speeds_up():
    assert _regret("right") < 0.5 * _regret("none")


def test_a_wrong_belief_does_no_lasting_harm():
    assert _regret("wrong") < 1.25 * _regret("none")


# -- pieces --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mixed", "conditional", "constrained", "one_option"])
def test_neighbours_are_valid_and_change_something(name):
    space, rng = SPACES[name], Random(0)
    point = space.sample(rng)
    found = [neighbour(space, point, rng) for _ in range(40)]
    assert all(space.validate(other) == other for other in found)
    assert sum(other != point for other in found) > 15


def test_exhaustion_of_the_inner_sampler_is_passed_on():
    space = SPACES["categorical"]
    history = play(GridSampler(), space, lambda point: 0.0, 6)
    sampler = BeliefSampler(GridSampler(), {})
    seed = next(s for s in range(50) if Random(s).random() < 0.5)  # the sampler's share comes first
    with pytest.raises(Exhausted):
        sampler.suggest(history, seed=seed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampler": "tpe"}, "is no sampler"),
        ({"eta": 1.0}, "above 1"),
        ({"decay": 0.0}, "positive number"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    with pytest.raises(ConfigError, match=message):
        BeliefSampler(**{"sampler": RandomSampler(), "belief": {}, **arguments})


def test_an_unknown_parameter_is_named_at_the_first_suggestion():
    with pytest.raises(ConfigError, match="Did you mean 'momentum'"):
        BeliefSampler(RandomSampler(), {"momentun": {"near": 0.9}}).suggest(History(MIXED), seed=0)
