"""BOHB's model: its split, its densities, its candidates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from darts_hpo.errors import ConfigError
from darts_hpo.space import Categorical, Condition, Float, Space
from darts_hpo.testing.samplers import SPACES, SamplerConformance, finished, random_history
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity
from darts_hpo.tuning.samplers.kde import KDE, KDESampler, impute
from darts_hpo.tuning.trial import Result, TrialState


class TestKDE(SamplerConformance):
    build = KDESampler


class TestKDEWithWiderKernels(SamplerConformance):
    model_based = True
    quadratic_trials = 40
    quadratic_seeds = range(5)

    @staticmethod
    def build():
        return KDESampler(random_fraction=0.2, min_bandwidth=0.1)


LINE = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})


def _with_budgets(counts, failed=()):
    """Trials that reached each budget in turn: ``counts`` maps it to how many did."""
    history = random_history(LINE, max(counts.values()), fidelity=Fidelity(1, 27))
    trials, order = [], 0
    for trial in history.trials:
        results = []
        for budget, count in counts.items():
            if trial.number < count:
                results.append(Result({"value": float(trial.number)}, float(budget), order))
                order += 1
        trials.append(replace(trial, results=tuple(results), budget=results[-1].budget))
    for budget in failed:
        trial = finished(len(trials), {"x": 0.5, "y": 0.5}, 0.0, results=(), state=TrialState.FAILED)
        trials.append(replace(trial, budget=float(budget)))
    return replace(history, trials=tuple(trials))


# -- the split -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "d", "expected"),
    [(6, 2, (3, 5)), (20, 2, (3, 17)), (26, 2, (3, 22)), (27, 2, (4, 22)), (100, 6, (15, 85)), (40, 10, (11, 34))],
)
def test_split(n, d, expected):
    assert KDESampler().split(n, d) == expected


def test_split_with_nni_s_minimum():
    assert KDESampler(min_points=7).split(20, 2) == (7, 17)


def test_the_first_model_needs_enough_for_both_estimates():
    rng = np.random.default_rng(0)
    assert KDESampler().model(random_history(LINE, 5), rng) is None
    model = KDESampler().model(random_history(LINE, 6), rng)
    assert model is not None
    assert (len(model.good.data), len(model.bad.data)) == (3, 3)


def test_good_points_are_the_best_and_failed_ones_are_bad():
    history = _with_budgets({1: 30}, failed=(1, 1))
    model = KDESampler().model(history, np.random.default_rng(0))
    best = [list(trial.point.values()) for trial in reversed(history.trials[26:30])]
    np.testing.assert_allclose(model.good.data, best)
    assert len(model.bad.data) == 27  # 85 % of 32, of the 28 that are left: the very worst is not needed
    assert [0.5, 0.5] in model.bad.data.tolist()


@pytest.mark.parametrize(
    ("counts", "budget"),
    [({1: 30}, 1.0), ({1: 30, 3: 6}, 3.0), ({1: 30, 3: 5}, 1.0), ({1: 30, 3: 12, 9: 7, 27: 3}, 9.0)],
)
def test_the_largest_budget_that_can_carry_a_model(counts, budget):
    assert KDESampler().model(_with_budgets(counts), np.random.default_rng(0)).budget == budget


def test_a_failure_counts_at_the_budget_it_ran_to():
    rng = np.random.default_rng(0)
    assert KDESampler().model(_with_budgets({1: 30, 3: 5}, failed=(3,)), rng).budget == 3.0
    assert KDESampler().model(_with_budgets({1: 30, 3: 5}, failed=(1,)), rng).budget == 1.0


# -- the densities -------------------------------------------------------------------------------------------------


def test_bandwidths_follow_the_normal_reference_rule():
    data = np.array([[0.1, 0.0], [0.3, 1.0], [0.8, 1.0], [0.4, 2.0]])
    kde = KDE(data, [0, 3], 1e-3)
    factor = 1.06 * 4 ** (-1 / 6)
    np.testing.assert_allclose(kde.bandwidths, [factor * data[:, 0].std(), factor * data[:, 1].std()])


def test_bandwidths_have_limits():
    kde = KDE(np.array([[0.5, 0.0], [0.5, 7.0], [0.5, 0.0]]), [0, 8], 1e-3)
    assert kde.bandwidths.tolist() == [1e-3, 7 / 8]


def test_the_density_in_closed_form():
    data = np.array([[0.2, 0.0], [0.6, 1.0]])
    kde = KDE(data, [0, 3], 1e-3)
    h, g = kde.bandwidths
    normal = np.exp(-0.5 * ((0.3 - data[:, 0]) / h) ** 2) / (h * np.sqrt(2 * np.pi))
    expected = [np.mean(normal * [1 - g, g / 2]), np.mean(normal * [g / 2, g / 2])]
    np.testing.assert_allclose(kde.density(np.array([[0.3, 0.0], [0.3, 2.0]])), expected)


def test_a_single_option_is_certain():
    kde = KDE(np.zeros((3, 1)), [1], 1e-3)
    assert kde.density(np.zeros((1, 1))).tolist() == [1.0]


# -- the candidates ------------------------------------------------------------------------------------------------


def test_candidates_have_widened_numbers_and_mostly_kept_options():
    data = np.array([[0.5, 0.0], [0.5, 0.0], [0.52, 0.0], [0.48, 0.0]])
    kde = KDE(data, [0, 4], 0.2)
    rows = kde.candidates(np.random.default_rng(0), 20_000, 3.0)
    assert 0.0 <= rows[:, 0].min() <= rows[:, 0].max() <= 1.0
    # A normal of standard deviation 0.6, cut off at both ends, is nearly uniform.
    assert rows[:, 0].std() == pytest.approx(0.28, abs=0.01)
    # Kept with probability 1 - h, else any of the four: the same one among them.
    assert np.mean(rows[:, 1] == 0.0) == pytest.approx(0.8 + 0.2 / 4, abs=0.01)
    assert np.mean(rows[:, 1] == 3.0) == pytest.approx(0.2 / 4, abs=0.01)


def test_narrow_candidates_stay_near_their_centre():
    kde = KDE(np.full((3, 1), 0.3), [0], 1e-3)
    rows = kde.candidates(np.random.default_rng(0), 5000, 3.0)
    assert rows.mean() == pytest.approx(0.3, abs=1e-3)
    assert rows.std() == pytest.approx(3e-3, rel=0.05)


def test_a_third_of_the_proposals_is_random():
    history = random_history(LINE, 30)
    modelled = [bool(KDESampler().suggest(history, seed=seed).labels) for seed in range(200)]
    assert np.mean(modelled) == pytest.approx(2 / 3, abs=0.1)


def test_the_proposal_maximizes_the_ratio():
    """With only two kinds of points, candidates near the good ones win."""
    good = [(0.1 + 0.01 * i, 0.2) for i in range(5)]
    bad = [(0.7 + 0.01 * i, 0.8) for i in range(25)]
    trials = tuple(finished(i, {"x": x, "y": y}, 1.0 if y < 0.5 else 0.0) for i, (x, y) in enumerate(good + bad))
    sampler = KDESampler(random_fraction=0.0)
    for seed in range(5):
        suggestion = sampler.suggest(History(LINE, trials=trials), seed=seed)
        assert suggestion.point["x"] < 0.5
        assert suggestion.labels["log_ratio"] > 0.0
        assert suggestion.labels["model_budget"] is None


def test_the_bias_decides_between_candidates():
    def log_bias(points):
        return np.array([1000.0 * point["x"] for point in points])

    sampler, history = KDESampler(random_fraction=0.0), random_history(LINE, 30)
    for seed in range(5):
        plain, biased = (
            sampler.suggest(history, seed=seed).point,
            sampler.suggest_biased(history, seed=seed, log_bias=log_bias).point,
        )
        assert biased["x"] >= plain["x"]


# -- imputation ----------------------------------------------------------------------------------------------------


def test_inactive_values_are_taken_from_rows_that_have_them():
    nan = np.nan
    rows = np.array([[0.0, nan, nan], [1.0, 0.3, 2.0], [1.0, 0.4, 1.0]])
    seen = {tuple(impute(rows, [2, 0, 3], np.random.default_rng(seed))[0]) for seed in range(20)}
    assert seen == {(0.0, 0.3, 2.0), (0.0, 0.4, 1.0)}
    np.testing.assert_array_equal(impute(rows, [2, 0, 3], np.random.default_rng(0))[1:], rows[1:])


def test_values_that_no_row_has_are_drawn():
    rows = np.full((2000, 2), np.nan)
    filled = impute(rows, [0, 3], np.random.default_rng(0))
    assert filled[:, 0].mean() == pytest.approx(0.5, abs=0.05) or len(set(filled[:, 0])) > 1
    assert set(filled[:, 1]) == {0.0, 1.0, 2.0}


def test_a_conditional_space_is_modelled():
    space = Space({"a": Categorical(("on", "off")), "x": Float(0, 1)}, (Condition("x", "a", ("on",)),))
    history = random_history(space, 40)
    model = KDESampler().model(history, np.random.default_rng(0))
    assert np.isfinite(model.good.data).all()
    assert np.isfinite(model.bad.data).all()
    assert ((model.bad.data[:, 1] >= 0) & (model.bad.data[:, 1] <= 1)).all()


@pytest.mark.parametrize(
    "arguments", [{"top": 0.0}, {"random_fraction": 1.5}, {"candidates": 0}, {"bandwidth_factor": 0}]
)
def test_wrong_arguments_are_explained(arguments):
    with pytest.raises(ConfigError, match="expected shares from 0 to 1"):
        KDESampler(**arguments)


def test_mixed_spaces_reach_the_model():
    assert KDESampler(random_fraction=0.0).suggest(random_history(SPACES["mixed"], 30), seed=0).labels
