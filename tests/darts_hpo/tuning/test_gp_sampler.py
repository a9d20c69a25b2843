"""The sampler with Gaussian processes."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from darts_hpo.errors import ConfigError
from darts_hpo.space import Float, Int, Space
from darts_hpo.testing.samplers import SPACES, SamplerConformance, appended, ask, finished, random_history, smooth_value
from darts_hpo.tuning.acquisitions.confidence_bound import UpperConfidenceBound
from darts_hpo.tuning.acquisitions.entropy import GIBBON, JointEntropySearch, MaxValueEntropy
from darts_hpo.tuning.acquisitions.improvement import LogExpectedImprovement
from darts_hpo.tuning.acquisitions.knowledge_gradient import KnowledgeGradient
from darts_hpo.tuning.acquisitions.noisy_improvement import QLogNoisyExpectedImprovement
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity, Objective, OutcomeConstraint
from darts_hpo.tuning.samplers.belief import BeliefSampler
from darts_hpo.tuning.samplers.gp import GPSampler
from darts_hpo.tuning.samplers.ranking import unbiased
from darts_hpo.tuning.samplers.sobol import SobolSampler
from darts_hpo.tuning.surrogates import fitting
from darts_hpo.tuning.surrogates.gaussian_process import FitError
from darts_hpo.tuning.trial import Result, TrialState

LIGHT = {"candidates": 32, "local": 16, "restarts": 2, "steps": 15}
PLANE = SPACES["float"]


def light(**settings):
    return GPSampler(**{**LIGHT, **settings})


class TestGP(SamplerConformance):
    build = light
    startup = 14
    uses_seed = False  # the initial design is one sequence
    model_based = True
    quadratic_trials = 16
    quadratic_seeds = (0,)


def _distance(point, target):
    return sum((PLANE[name].to_unit(point[name]) - PLANE[name].to_unit(target[name])) ** 2 for name in target) ** 0.5


# -- the initial design ----------------------------------------------------------------------------------------------


def test_initial_points_are_the_sobol_sequence_whatever_the_seed_of_the_call():
    history, sobol = History(PLANE), SobolSampler(5)
    for number in range(40):  # nothing has come back yet
        suggestion = ask(GPSampler(sobol_seed=5), history, seed=number)
        assert suggestion.point == sobol.suggest(history, seed=99).point
        assert suggestion.labels["phase"] == "initial"
        history = appended(history, suggestion.point)


def test_the_model_speaks_after_the_initial_points():
    history = random_history(PLANE, 6)
    assert ask(light(initial=7), history, 0).labels["phase"] == "initial"
    assert ask(light(initial=6), history, 0).labels["phase"] == "model"


@pytest.mark.parametrize(("results", "failures", "phase"), [(2, 0, "initial"), (3, 0, "model"), (2, 1, "model")])
def test_the_model_waits_for_more_answers_than_parameters(results, failures, phase):
    """Fewer tell it nothing but which corners nobody has been to; pending points tell nothing, a failure does."""
    history = random_history(PLANE, results)
    for number, trial in enumerate(random_history(PLANE, 39, seed=1).trials):
        state = TrialState.FAILED if number < failures else TrialState.RUNNING
        history = appended(history, trial.point, state=state)
    assert ask(light(), history, 0).labels["phase"] == phase


def test_results_of_one_trial_at_several_budgets_are_one_answer():
    history = random_history(PLANE, 1)
    trial = history.trials[0]
    rungs = tuple(replace(trial.results[0], budget=float(rung), order=rung) for rung in range(5))
    history = replace(history, trials=(replace(trial, results=rungs),))
    for running in random_history(PLANE, 12, seed=1).trials:
        history = appended(history, running.point, state=TrialState.RUNNING)
    assert ask(light(), history, 0).labels["phase"] == "initial"


def test_few_initial_points_are_few_answers():
    assert ask(light(initial=1), random_history(PLANE, 1), 0).labels["phase"] == "model"


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel": "rfb"},
        {"failures": "drop"},
        {"scale": "ranks"},
        {"warp": "maybe"},
        {"initial": 0},
        {"candidates": 0},
        {"belief_strength": -1.0},
        {"refit_growth": 1.0},
    ],
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(ConfigError):
        GPSampler(**settings)


def test_an_acquisition_for_one_objective_is_refused_for_two():
    history = replace(random_history(PLANE, 14), objectives=(Objective(), Objective("cost")))
    with pytest.raises(ConfigError, match="LogExpectedImprovement does not work with several objectives"):
        light(acquisition=LogExpectedImprovement()).suggest(history, seed=0)


# -- what the model is told ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "acquisition",
    [
        None,
        QLogNoisyExpectedImprovement(),
        LogExpectedImprovement(),
        UpperConfidenceBound(1.0),
        GIBBON(),
        MaxValueEntropy(),
        JointEntropySearch(4),
        KnowledgeGradient(),
    ],
    ids=lambda a: type(a).__name__,
)
def test_every_acquisition_proposes_points_near_the_optimum(acquisition):
    history = random_history(PLANE, 25)
    point = ask(light(acquisition=acquisition, candidates=64), history, 0).point
    assert _distance(point, {"x": -2.0 + 5.0 / 3.0, "y": 1.0 / 3.0}) < 0.25


def test_pending_points_are_kept_away_from():
    history = random_history(PLANE, 25)
    first = ask(light(), history, 0).point
    for _ in range(3):
        history = appended(history, first)
    assert _distance(ask(light(), history, 0).point, first) > 0.02


def _failing(history, fails):
    trials = tuple(
        replace(t, state=TrialState.FAILED, results=(), reason="diverged") if fails(t.point) else t
        for t in history.trials
    )
    return replace(history, trials=trials)


@pytest.mark.parametrize("failures", ["impute", "feasibility"])
def test_regions_of_failures_are_avoided(failures):
    """Everything right of the optimum fails."""
    history = _failing(random_history(PLANE, 40), lambda point: point["x"] > -0.5)
    points = [ask(light(failures=failures), history, seed).point for seed in range(2)]
    assert sum(point["x"] > 0.5 for point in points) == 0


def test_ignored_failures_leave_no_trace():
    history = _failing(random_history(PLANE, 24), lambda point: point["x"] > 1.5)
    cleaned = [trial for trial in history.trials if trial.results]
    cleaned = tuple(replace(t, number=i) for i, t in enumerate(cleaned))
    assert len(cleaned) < len(history.trials)
    sampler = light(failures="ignore")
    assert ask(sampler, history, 1) == ask(sampler, replace(history, trials=cleaned), 1)


def test_a_third_of_failures_costs_little():
    """The same quadratic, with and without failures at random."""
    best = []
    for share in (0.0, 0.33):
        rng, history = random.Random(3), History(PLANE)
        for number in range(18):
            point = ask(light(), history, number).point
            trial = finished(number, point, smooth_value(PLANE, point))
            if rng.random() < share:
                trial = replace(trial, state=TrialState.FAILED, results=(), reason="NaN")
            history = replace(history, trials=(*history.trials, trial))
        best.append(history.gain(history.best()[1]))
    assert best[0] > 0.99
    assert best[1] > 0.98


def test_diverged_results_do_not_hide_the_others():
    history = random_history(PLANE, 25)
    trials = tuple(finished(t.number, t.point, -1e30) if t.point["x"] > 2.0 else t for t in history.trials)
    point = ask(light(), replace(history, trials=trials), 0).point
    assert _distance(point, {"x": -2.0 + 5.0 / 3.0, "y": 1.0 / 3.0}) < 0.25


def test_the_model_looks_at_the_largest_budget_with_enough_results():
    """Results at budget 1 point elsewhere."""
    history = random_history(PLANE, 30, fidelity=Fidelity(1, 9))
    trials = []
    for trial in history.trials:
        misleading = Result({"value": 100.0 * trial.point["x"]}, 1.0, trial.number)
        real = replace(trial.results[0], budget=9.0, order=trial.number + 30)
        trials.append(replace(trial, results=(misleading, real), budget=9.0))
    point = ask(light(), replace(history, trials=tuple(trials)), 0, budget=1.0).point
    assert _distance(point, {"x": -2.0 + 5.0 / 3.0, "y": 1.0 / 3.0}) < 0.25


def test_outcome_constraints_move_the_proposal():
    """The optimum lies at y = 1/3, where the constraint does not hold."""
    history = random_history(PLANE, 30)
    trials = tuple(
        replace(t, results=(replace(t.results[0], values={**t.results[0].values, "cost": t.point["y"]}),))
        for t in history.trials
    )
    history = replace(history, trials=trials, constraints=(OutcomeConstraint("cost", ">=", 0.7),))
    assert ask(light(), history, 0).point["y"] > 0.6
    assert ask(light(acquisition=LogExpectedImprovement()), history, 0).point["y"] > 0.6


# -- beliefs ---------------------------------------------------------------------------------------------------------


def test_a_belief_draws_the_proposals_and_fades():
    belief = {"x": {"near": 2.5, "within": 0.2}}
    few, many = random_history(PLANE, 10), random_history(PLANE, 60)
    believing = light(belief=belief, belief_strength=200.0)
    assert ask(believing, few, 0).point["x"] > 1.5
    assert ask(light(belief=belief, belief_strength=5.0), many, 0).point["x"] < 0.5


def test_a_belief_takes_part_in_the_initial_design():
    sampler, history = light(belief={"y": {"near": 0.9, "within": 0.01}}), History(PLANE)
    for number in range(6):
        history = appended(history, ask(sampler, history, number).point)
    drawn = [trial.point["y"] for trial in history.trials[1::2]]
    assert sum(0.85 < y < 0.95 for y in drawn) >= 2


def test_somebody_elses_opinion_counts():
    """What BeliefSampler hands over: a bias of points, added to the logarithm."""
    history = random_history(PLANE, 12)

    def opinion(points):
        return np.array([-30.0 * abs(point["x"] - 2.5) for point in points])

    sampler = light()
    assert sampler.suggest_biased(history, seed=0, log_bias=opinion).point["x"] == pytest.approx(2.5, abs=0.2)
    assert sampler.suggest_biased(history, seed=0, log_bias=unbiased).point["x"] < 1.5
    assert ask(BeliefSampler(light(), {"x": {"near": 2.5, "within": 0.2}}), history, 0).labels["source"]


# -- purity, failures of the fit ---------------------------------------------------------------------------------------


def test_a_used_sampler_proposes_what_a_fresh_one_does():
    """Between two scheduled fits, hyperparameters come from the first of them in both."""
    used = light(refit_always=12, refit_growth=1.5)
    for n in (12, 13, 17, 21):
        history = random_history(PLANE, n)
        kept = used.suggest(history, seed=n)
    assert light(refit_always=12, refit_growth=1.5).suggest(history, seed=21) == kept


def test_hyperparameters_are_fitted_on_schedule(monkeypatch):
    sizes = []
    monkeypatch.setattr(fitting, "fit", lambda x, y, settings: sizes.append(len(x)) or _raise())

    def _raise():
        raise FitError("counted")

    sampler = light(warp=False, refit_always=14, refit_growth=1.2)
    for n in range(12, 24):
        ask(sampler, random_history(PLANE, n), 0)
    assert sizes == [12, 13, 14, 16, 19, 22]


def test_a_failed_fit_falls_back_to_the_priors_and_says_so(monkeypatch):
    def broken(x, y, settings):
        raise FitError("no minimum")

    monkeypatch.setattr(fitting, "fit", broken)
    suggestion = ask(light(), random_history(PLANE, 20), 0)
    assert suggestion.labels["phase"] == "model"
    assert "no minimum" in suggestion.labels["fallback"]


def test_without_any_model_the_sobol_sequence_goes_on(monkeypatch):
    def broken(*arguments):
        raise FitError("not positive definite")

    monkeypatch.setattr(fitting, "GaussianProcess", broken)
    history = random_history(PLANE, 20)
    suggestion = ask(light(), history, 0)
    assert suggestion.labels == {"phase": "fallback", "fallback": "not positive definite"}
    assert suggestion.point == SobolSampler(0).suggest(history, seed=0).point


def test_one_thread_inside_and_the_old_number_after(monkeypatch):
    seen = []
    sampler = light()
    inner = GPSampler._modelled
    monkeypatch.setattr(
        GPSampler, "_modelled", lambda self, *a: seen.append(torch.get_num_threads()) or inner(self, *a)
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ask(sampler, random_history(PLANE, 14), 0)
        assert seen == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_constrained_space_where_random_rows_are_rarely_valid():
    space = Space({f"x{i}": Float(0.0, 1.0) for i in range(4)} | {"n": Int(1, 9)}, constraints=("x0+x1+x2+x3<=0.5",))
    ask(light(), random_history(space, 14), 0)


def test_importing_recommendations_imports_no_torch():
    code = "import sys, darts_hpo.tuning.recommendation as r; assert not {'torch', 'botorch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
