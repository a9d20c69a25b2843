"""Histories as arrays: imputation, robust scales, rankings, scalarization."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from darts_hpo.space import Float, Space
from darts_hpo.testing.samplers import finished
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Objective, OutcomeConstraint
from darts_hpo.tuning.outcomes import (
    Outcomes,
    nondominated_fronts,
    observed,
    observed_at,
    pending,
    ranking,
    robust,
    scalarized,
    total_violation,
    with_failures,
)
from darts_hpo.tuning.trial import Result, Trial, TrialState

SPACE = Space({"x": Float(0.0, 1.0)})


def _history(values, **arguments):
    trials = tuple(finished(i, {"x": i / 10}, value) for i, value in enumerate(values))
    return History(SPACE, trials=trials, **arguments)


def _add(history, **arguments):
    trial = Trial(len(history), {"x": len(history) / 10}, **arguments)
    return replace(history, trials=(*history.trials, trial))


def _outcomes(gains, violations=None, failed=None):
    gains = np.array(gains, dtype=float)
    gains = gains[:, None] if gains.ndim == 1 else gains
    n = len(gains)
    violations = np.zeros((n, 0)) if violations is None else np.array(violations, dtype=float)
    failed = np.zeros(n, dtype=bool) if failed is None else np.array(failed)
    return Outcomes(tuple({"x": i / 10} for i in range(n)), gains, violations, failed, None)


# -- reading a history ---------------------------------------------------------------------------------------------


def test_gains_are_turned_and_constraints_read():
    history = _history([1.0, 2.0], objectives=(Objective("value", "minimize"),))
    history = replace(history, constraints=(OutcomeConstraint("value", "<=", 1.5),))
    outcomes = observed(history)
    assert outcomes.gains.tolist() == [[-1.0], [-2.0]]
    assert outcomes.violations.tolist() == [[-0.5], [0.5]]
    assert outcomes.feasible.tolist() == [True, False]
    assert [point["x"] for point in outcomes.points] == [0.0, 0.1]


def test_an_empty_history_gives_empty_arrays():
    outcomes = with_failures(observed(History(SPACE)), History(SPACE))
    assert outcomes.gains.shape == (0, 1)
    assert outcomes.violations.shape == (0, 0)
    assert ranking(outcomes).tolist() == []
    assert scalarized(outcomes, np.random.default_rng(0)).tolist() == []


def test_only_one_budget_is_read():
    trial = finished(0, {"x": 0.5}, 0.0, results=(Result({"value": 1.0}, 1.0, 0), Result({"value": 3.0}, 3.0, 1)))
    other = finished(1, {"x": 0.6}, 0.0, results=(Result({"value": 2.0}, 1.0, 2),))
    history = History(SPACE, trials=(trial, other))
    assert observed(history, 2).budget == 1.0
    assert observed(history, 2).gains[:, 0].tolist() == [1.0, 2.0]
    assert observed(history, 1).gains[:, 0].tolist() == [3.0]
    assert observed_at(history, 9.0).gains.shape == (0, 1)


def test_results_that_are_not_finite_never_get_in():
    history = _history([1.0, float("nan"), float("inf"), 2.0])
    assert observed(history).gains[:, 0].tolist() == [1.0, 2.0]


def test_repetitions_are_rows_or_averaged():
    history = _history([1.0, 5.0])
    history = replace(history, trials=(*history.trials, finished(2, {"x": 0.0}, 2.0, replicate_of=0)))
    assert observed(history).gains[:, 0].tolist() == [1.0, 5.0, 2.0]
    assert observed(history, pooled=True).gains[:, 0].tolist() == [1.5, 5.0]


def test_failures_get_the_worst_finite_gain():
    history = _add(_history([3.0, -1.0, 2.0]), state=TrialState.FAILED)
    outcomes = with_failures(observed(history), history)
    assert outcomes.gains[:, 0].tolist() == [3.0, -1.0, 2.0, -1.0]
    assert outcomes.failed.tolist() == [False, False, False, True]
    alone = _add(History(SPACE), state=TrialState.FAILED)
    assert with_failures(observed(alone), alone).gains.tolist() == [[0.0]]


def test_failures_count_at_their_budget_where_asked():
    trial = finished(0, {"x": 0.5}, 0.0, results=(Result({"value": 1.0}, 3.0),))
    history = _add(History(SPACE, trials=(trial,)), state=TrialState.FAILED, budget=1.0)
    assert len(with_failures(observed(history), history, same_budget=True)) == 1
    assert len(with_failures(observed(history), history)) == 2
    history = _add(history, state=TrialState.FAILED, budget=3.0)
    assert len(with_failures(observed(history), history, same_budget=True)) == 2


def test_a_trial_that_failed_on_the_way_to_a_larger_budget_keeps_its_result():
    trial = finished(0, {"x": 0.5}, 0.0, results=(Result({"value": 1.0}, 3.0),), state=TrialState.FAILED, budget=9.0)
    history = History(SPACE, trials=(trial,))
    outcomes = with_failures(observed(history), history)
    assert outcomes.gains.tolist() == [[1.0]]
    assert not outcomes.failed.any()


@pytest.mark.parametrize(
    ("arguments", "gain"),
    [
        ({"results": (Result({"value": 1.0}, 5.0, 9),)}, 1.0),  # its last value
        ({"results": (Result({"value": 9.0}, 5.0, 9),)}, 2.0),  # at most the median
        ({"reports": {1: 7.0, 3: 0.5, 4: float("nan")}}, 0.5),
        ({}, 0.0),  # nothing known: the worst
    ],
)
def test_stopped_trials_join_with_what_they_had(arguments, gain):
    history = _add(_history([0.0, 2.0, 4.0]), state=TrialState.STOPPED, **arguments)
    outcomes = with_failures(observed(history), history)
    assert outcomes.gains[:, 0].tolist() == [0.0, 2.0, 4.0, gain]
    assert ranking(outcomes).tolist() == [2, 1, 0, 3]


def test_pending_are_the_running():
    assert pending(_add(_history([1.0]))) == ({"x": 0.1},)


# -- robust values -------------------------------------------------------------------------------------------------


def test_usual_values_are_left_alone():
    values = np.random.default_rng(0).normal(size=200)
    np.testing.assert_allclose(robust(values), values, rtol=1e-12)
    np.testing.assert_array_equal(robust(np.full(5, 0.7)), np.full(5, 0.7))


@pytest.mark.parametrize("share", [1, 3, 8])
def test_diverged_values_are_cut_off(share):
    values = np.arange(20.0)
    values[:share] = -1e30
    result = robust(values)
    assert np.array_equal(result[share:], values[share:])
    assert -200.0 < result[0] < share
    assert robust(np.stack([values, values], axis=1)).shape == (20, 2)


def test_outstanding_values_keep_their_order():
    values = np.append(np.arange(20.0), [1e6, 1e12])
    result = robust(values)
    assert (np.diff(result) > 0).all()
    assert result[-1] < 1000.0


def test_a_majority_of_equal_values_does_not_divide_by_zero():
    assert robust(np.array([1.0, 1.0, 1.0, 1.0, -1e30])).tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]
    kept = robust(np.array([1.0] * 20 + [2.0]))
    assert kept[-1] > 1.0
    assert np.isfinite(robust(np.array([1e308, -1e308, 1e308, 0.0]))).all()


# -- ranking -------------------------------------------------------------------------------------------------------


def test_feasible_before_violating_before_failed():
    outcomes = _outcomes(
        [1.0, 9.0, 9.0, 2.0, 5.0],
        violations=[[-1.0, 0.0], [2.0, 0.0], [1.0, 0.0], [0.0, -3.0], [0.0, 0.0]],
        failed=[False, False, False, False, True],
    )
    assert ranking(outcomes).tolist() == [3, 0, 2, 1, 4]
    assert total_violation(outcomes).tolist() == [0.0, 1.0, 0.5, 0.0, 0.0]


def test_equals_keep_their_order_of_arrival():
    assert ranking(_outcomes([1.0, 2.0, 1.0, 2.0])).tolist() == [1, 3, 0, 2]


def test_fronts_are_peeled_off():
    gains = np.array([[3, 1], [1, 3], [2, 2], [2, 1], [1, 2], [0, 0], [2, 2]], dtype=float)
    assert nondominated_fronts(gains).tolist() == [0, 0, 0, 1, 1, 2, 0]


def test_within_a_front_the_lonely_come_first():
    gains = [[0.0, 10.0], [4.9, 5.1], [5.0, 5.0], [9.0, 1.0], [10.0, 0.0], [0.0, 0.0]]
    order = ranking(_outcomes(gains)).tolist()
    assert set(order[:2]) == {0, 4}
    assert order[-1] == 5
    assert order.index(3) < order.index(2)


# -- scalarization -------------------------------------------------------------------------------------------------


def test_one_objective_is_its_robust_gain():
    assert scalarized(_outcomes([1.0, 2.0, 3.0, 4.0]), np.random.default_rng(0)).tolist() == [1.0, 2.0, 3.0, 4.0]


def test_whatever_the_weights_the_best_is_not_dominated():
    gains = np.random.default_rng(1).random((30, 2))
    fronts = nondominated_fronts(gains)
    winners = {int(scalarized(_outcomes(gains), np.random.default_rng(seed)).argmax()) for seed in range(30)}
    assert all(fronts[winner] == 0 for winner in winners)
    assert len(winners) > 2


def test_a_violation_is_worse_than_every_feasible_gain():
    merit = scalarized(
        _outcomes([1.0, 2.0, 9.0, 9.5], violations=[[0.0], [-1.0], [0.5], [2.0]]), np.random.default_rng(0)
    )
    assert merit[2] < merit[0] < merit[1]
    assert merit[3] < merit[2]
    nowhere = scalarized(_outcomes([1.0, 2.0], violations=[[3.0], [1.0]]), np.random.default_rng(0))
    assert nowhere[1] > nowhere[0]
