"""The answers of a study."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from darts_hpo.space import Float, Space
from darts_hpo.testing.samplers import SPACES, appended, finished, random_history
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Objective, OutcomeConstraint
from darts_hpo.tuning.recommendation import pareto_front, recommend, replicated, top
from darts_hpo.tuning.trial import Result

LINE = Space({"x": Float(0.0, 2.0)})


def _line(values, **arguments):
    return History(LINE, trials=tuple(finished(i, {"x": x}, v) for i, (x, v) in enumerate(values)), **arguments)


def test_best_observed_and_the_maximum_of_the_mean():
    """A noisy parabola around 1.3 with one lucky outlier at 0.4."""
    rng = np.random.default_rng(0)
    history = _line([(x, 5.0 - (x - 1.3) ** 2 + 0.02 * rng.normal()) for x in np.linspace(0.0, 2.0, 24).tolist()])
    lucky = finished(24, {"x": 0.4}, 5.2)
    answer = recommend(replace(history, trials=(*history.trials, lucky)))
    assert answer.best_observed == (24, 5.2)
    assert answer.pareto == (24,)
    posterior = answer.posterior
    assert posterior is not None
    assert posterior.point["x"] == pytest.approx(1.3, abs=0.25)
    assert posterior.mean == pytest.approx(5.0, abs=0.15)
    assert 0.0 < posterior.deviation < 0.3
    assert posterior.trial != 24
    assert posterior.trial_mean <= posterior.mean + 1e-9


def test_minimizing_gives_values_in_their_own_sign():
    history = _line([(x, (x - 0.5) ** 2 + 3.0) for x in np.linspace(0.0, 2.0, 12).tolist()])
    answer = recommend(replace(history, objectives=(Objective("value", "minimize"),)))
    assert answer.best_observed[1] == pytest.approx(3.0, abs=0.01)
    assert answer.posterior.mean == pytest.approx(3.0, abs=0.05)
    assert answer.posterior.point["x"] == pytest.approx(0.5, abs=0.1)


def test_the_posterior_respects_outcome_constraints():
    history = _line([(x, x) for x in np.linspace(0.0, 2.0, 15).tolist()])
    trials = tuple(
        replace(t, results=(Result({"value": t.point["x"], "cost": t.point["x"]}, order=t.number),))
        for t in history.trials
    )
    answer = recommend(replace(history, trials=trials, constraints=(OutcomeConstraint("cost", "<=", 1.0),)))
    assert answer.best_observed[1] == pytest.approx(1.0)
    assert answer.posterior.point["x"] == pytest.approx(1.0, abs=0.1)


def test_little_to_model_is_said():
    assert recommend(History(LINE)).best_observed is None
    answer = recommend(_line([(0.1, 1.0), (0.2, 2.0)]))
    assert answer.best_observed == (1, 2.0)
    assert answer.posterior is None
    assert "fewer than" in answer.note
    assert recommend(_line([(0.1, 1.0)]), model=False).note is None


def test_mixed_spaces_have_a_recommendation():
    space = SPACES["conditional"]
    answer = recommend(random_history(space, 30))
    assert space.validate(answer.posterior.point) == answer.posterior.point


def _two(values, **arguments):
    trials = tuple(
        replace(finished(i, {"x": i / 10}, 0.0), results=(Result({"a": a, "b": b}, order=i),))
        for i, (a, b) in enumerate(values)
    )
    return History(LINE, (Objective("a"), Objective("b", "minimize")), trials, **arguments)


def test_pareto_front():
    history = _two([(1.0, 1.0), (2.0, 2.0), (0.5, 3.0), (3.0, 5.0), (2.0, 4.0)])
    assert pareto_front(history) == (0, 1, 3)
    assert recommend(history).pareto == (0, 1, 3)
    assert "Pareto" in recommend(history).note
    assert [t.number for t in top(history, 4)] == [0, 1, 3, 2]
    bounded = replace(history, constraints=(OutcomeConstraint("b", "<=", 3.0),))
    assert pareto_front(bounded) == (0, 1)
    assert pareto_front(replace(history, constraints=(OutcomeConstraint("b", "<=", 0.0),))) == ()


def test_top_lists_different_points():
    history = _line([(0.1, 1.0), (0.2, 3.0), (0.2, 2.5), (0.3, 2.0)])
    assert [trial.number for trial in top(history, 3)] == [1, 3, 0]
    assert top(history, 0) == ()
    assert top(History(LINE), 5) == ()


def test_replicates_say_how_lucky_the_first_run_was():
    history = _line([(0.1, 1.0), (0.2, 3.0), (0.3, 2.8)])
    for original, value in ((1, 2.0), (1, 2.2), (2, 2.7), (2, 2.9)):
        trial = finished(len(history), history.trials[original].point, value, replicate_of=original)
        history = replace(history, trials=(*history.trials, trial))
    history = appended(history, history.trials[2].point, replicate_of=2)
    second, first = replicated(history)
    assert (second.trial.number, len(second.values), len(second.fresh)) == (2, 3, 2)
    assert second.mean == pytest.approx(2.8)
    assert second.standard_error == pytest.approx(0.1 / 3**0.5)
    assert second.fresh_mean == pytest.approx(2.8)
    assert (first.trial.number, first.fresh_mean) == (1, pytest.approx(2.1))
    assert recommend(history, model=False).best_observed == (1, 3.0)
