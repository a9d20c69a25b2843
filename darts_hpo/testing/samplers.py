"""What every sampler must fulfil: inherit :class:`SamplerConformance` and name the sampler."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from darts_hpo.space import Categorical, Condition, Float, Int, Point, Space, Value
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity, Objective, OutcomeConstraint
from darts_hpo.tuning.samplers.base import Exhausted, Sampler, Suggestion
from darts_hpo.tuning.trial import Result, Trial, TrialState

SPACES: Mapping[str, Space] = {
    "float": Space({"x": Float(-2.0, 3.0), "y": Float(0.0, 1.0)}),
    "one_parameter": Space({"x": Float(0.0, 1.0)}),
    "log": Space({"lr": Float(1e-4, 1e-1, log=True), "width": Int(8, 512, log=True)}),
    "int": Space({"depth": Int(-3, 4), "width": Int(1, 9)}),
    "categorical": Space({"op": Categorical(("conv3", "conv5", "skip")), "pool": Categorical(("max", "mean"))}),
    "one_option": Space({"op": Categorical(("conv3",)), "x": Float(0.0, 1.0)}),
    "typed_options": Space({"nested.name": Categorical((1, 1.5, True, "1")), "flag": Categorical((False, True))}),
    "mixed": Space(
        {
            "lr": Float(1e-4, 1e-1, log=True),
            "momentum": Float(0.0, 1.0),
            "layers": Int(1, 5),
            "op": Categorical(("relu", "silu", "mish")),
        }
    ),
    "conditional": Space(
        {
            "optimizer": Categorical(("sgd", "adam")),
            "momentum": Float(0.0, 1.0),
            "betas": Categorical(("low", "high")),
            "beta": Float(0.9, 0.999),
        },
        (
            Condition("momentum", "optimizer", ("sgd",)),
            Condition("betas", "optimizer", ("adam",)),
            Condition("beta", "betas", ("high",)),
        ),
    ),
    "constrained": Space(
        {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0), "n": Int(1, 4)}, constraints=("x + y <= 0.5", "n * x <= 1")
    ),
}
"""The spaces of the suite: every kind of parameter, alone and together."""


def smooth_value(space: Space, point: Point) -> float:
    """A value in ``[0, 1]``, best (1) where every active number lies at a third of its range and options are first."""
    losses = []
    for name, value in point.items():
        parameter = space[name]
        if isinstance(parameter, Categorical):
            losses.append(parameter.index(value) / len(parameter.options))
        else:
            losses.append((parameter.to_unit(value) - 1 / 3) ** 2)
    return 1.0 - sum(losses) / max(len(losses), 1)


def finished(number: int, point: Mapping[str, Value], value: float, **changes: Any) -> Trial:
    """A completed trial with one objective and no budgets."""
    trial = Trial(number, point, TrialState.COMPLETED, results=(Result({"value": value}, order=number),))
    return replace(trial, **changes)


def random_history(space: Space, n: int, seed: int = 0, **arguments: Any) -> History:
    """A history of n random points with their :func:`smooth_value`."""
    rng = random.Random(seed)
    points = [space.sample(rng) for _ in range(n)]
    trials = tuple(finished(i, point, smooth_value(space, point)) for i, point in enumerate(points))
    return History(space, trials=trials, **arguments)


def play(
    sampler: Sampler,
    space: Space,
    function: Callable[[Point], float],
    trials: int,
    seed: int = 0,
    objective: Objective | None = None,
) -> History:
    """The history of a study that evaluates a function sequentially."""
    history = History(space, objectives=(objective or Objective(),))
    for number in range(trials):
        point = ask(sampler, history, seed * 100_003 + number).point
        history = replace(history, trials=(*history.trials, finished(number, point, function(point))))
    return history


def ask(sampler: Sampler, history: History, seed: int, budget: float | None = None) -> Suggestion:
    """A suggestion, checked: a valid point with values of exact types, a budget that can be given, plain labels."""
    suggestion = sampler.suggest(history, seed=seed, budget=budget)
    checked = history.space.validate(suggestion.point)
    assert dict(suggestion.point) == checked
    for name, value in suggestion.point.items():
        assert type(value) is type(checked[name]), f"{name} is a {type(value).__name__}"
    if suggestion.budget is not None:
        assert history.fidelity is not None, "a sampler gave a budget to a study that knows none"
        assert history.fidelity.minimum <= suggestion.budget <= history.fidelity.maximum
    json.dumps(dict(suggestion.labels), allow_nan=False)
    return suggestion


def appended(history: History, point: Mapping[str, Value], **changes: Any) -> History:
    """The history with a running trial more."""
    trial = replace(Trial(len(history), dict(point)), **changes)
    return replace(history, trials=(*history.trials, trial))


class SamplerConformance:
    """The suite of a sampler. Inherit it and name the sampler.

    Example::

        class TestRandom(SamplerConformance):
            build = RandomSampler

    Attributes:
        build: makes the sampler; a class or a function without arguments.
        startup: results after which a model surely speaks instead of an initial design.
        exhausts: whether it may come to an end.
        repeats: whether it may propose a point of a finite space again while others are untried.
        spaces: names of :data:`SPACES` that it can work on.
        several_objectives: whether it can work on more than one.
        outcome_constraints: whether it can work with them.
        uses_seed: whether another seed of a call gives another point.
        model_based: whether it has to beat random search on a quadratic.
        quadratic_trials: trials of that comparison.
        quadratic_seeds: studies of that comparison.
    """

    build: ClassVar[Callable[[], Sampler]]
    startup: ClassVar[int] = 14
    exhausts: ClassVar[bool] = False
    repeats: ClassVar[bool] = False
    spaces: ClassVar[Sequence[str]] = tuple(SPACES)
    several_objectives: ClassVar[bool] = True
    outcome_constraints: ClassVar[bool] = True
    uses_seed: ClassVar[bool] = True
    model_based: ClassVar[bool] = False
    quadratic_trials: ClassVar[int] = 30
    quadratic_seeds: ClassVar[Sequence[int]] = (0, 1, 2)

    def make(self, space: Space) -> Sampler:
        """The sampler for a space; override it where a sampler's arguments depend on the space."""
        return type(self).build()

    # -- points ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", SPACES)
    def test_points_are_valid_from_the_first_on(self, name: str) -> None:
        """Points are valid in every space, with and without results, while others run."""
        if name not in self.spaces:
            return
        space = SPACES[name]
        for n in (0, self.startup):
            history, sampler = random_history(space, n), self.make(space)
            for seed in range(2):
                try:
                    history = appended(history, ask(sampler, history, seed).point)
                except Exhausted:
                    assert self.exhausts

    def test_name_is_snake_case(self) -> None:
        """The name that trials record."""
        name = self.make(self.any_space).name
        assert name.isidentifier()
        assert name == name.lower()

    @property
    def any_space(self) -> Space:
        """The richest space that the sampler claims."""
        return next(SPACES[name] for name in ("mixed", "float", *self.spaces) if name in self.spaces)

    # -- purity ----------------------------------------------------------------------------------------------

    def test_same_history_and_seed_give_the_same_point(self) -> None:
        """Also from a sampler that was asked for other things before."""
        space = self.any_space
        history, other = random_history(space, self.startup), random_history(space, self.startup - 1, seed=1)
        fresh, used = self.make(space), self.make(space)
        used.suggest(other, seed=5)
        used.suggest(history, seed=6)
        assert fresh.suggest(history, seed=3) == used.suggest(history, seed=3)

    def test_another_seed_gives_another_point(self) -> None:
        """Seeds matter in the initial design."""
        if not self.uses_seed:
            return
        history = History(self.any_space)
        points = [self.make(self.any_space).suggest(history, seed=seed).point for seed in range(4)]
        assert any(point != points[0] for point in points)

    def test_the_history_and_the_ambient_generators_are_left_alone(self) -> None:
        """A suggestion changes nothing outside the sampler."""
        history = random_history(self.any_space, self.startup)
        before, states = repr(history.trials), _ambient_states()
        self.make(self.any_space).suggest(history, seed=0)
        assert repr(history.trials) == before
        assert _ambient_states() == states

    # -- histories of every kind -------------------------------------------------------------------------------

    @pytest.mark.parametrize("n", [0, 14])
    def test_nothing_is_proposed_twice_while_it_runs(self, n: int) -> None:
        """Trials asked for at once are different trials."""
        space, sampler = self.any_space, self.make(self.any_space)
        history = random_history(space, n)
        for seed in range(4):
            point = ask(sampler, history, seed).point
            assert dict(point) not in [dict(trial.point) for trial in history.running]
            history = appended(history, point)

    def test_many_pending_trials(self) -> None:
        """39 running trials are more than there are results."""
        history = random_history(self.any_space, self.startup)
        for trial in random_history(self.any_space, 39, seed=1).trials:
            history = appended(history, trial.point)
        ask(self.make(self.any_space), history, 0)

    @pytest.mark.parametrize("share", ["third", "all"])
    def test_failed_trials(self, share: str) -> None:
        """Failed trials have no value; a study may begin with nothing else."""
        history = random_history(self.any_space, self.startup)
        trials = [
            replace(trial, state=TrialState.FAILED, results=(), reason="out of memory")
            if share == "all" or trial.number % 3 == 0
            else trial
            for trial in history.trials
        ]
        ask(self.make(self.any_space), replace(history, trials=tuple(trials)), 0)

    def test_stopped_trials(self) -> None:
        """Stopped trials have reports, and perhaps a result at the step where they were stopped."""
        history = random_history(self.any_space, self.startup)
        trials = list(history.trials)
        for number in range(0, len(trials), 3):
            changes: dict[str, Any] = {"state": TrialState.STOPPED, "reports": {1: 0.1, 2: math.nan}}
            changes["results"] = (replace(trials[number].results[0], budget=2.0),) if number % 2 else ()
            trials[number] = replace(trials[number], **changes)
        ask(self.make(self.any_space), replace(history, trials=tuple(trials)), 0)

    @pytest.mark.parametrize("case", ["one_diverged", "third_diverged", "all_equal", "all_zero", "tiny"])
    def test_values_without_a_scale(self, case: str) -> None:
        """Diverged, equal and tiny values."""
        history = random_history(self.any_space, self.startup)
        change: dict[str, Callable[[int, float], float]] = {
            "one_diverged": lambda i, value: -1e30 if i == 3 else value,
            "third_diverged": lambda i, value: -1e30 if i % 3 == 0 else value,
            "all_equal": lambda i, value: 0.7,
            "all_zero": lambda i, value: 0.0,
            "tiny": lambda i, value: 1e-12 * value,
        }
        trials = [
            finished(trial.number, trial.point, change[case](trial.number, trial.results[0].values["value"]))
            for trial in history.trials
        ]
        ask(self.make(self.any_space), replace(history, trials=tuple(trials)), 0)

    def test_results_at_several_budgets(self) -> None:
        """Successive halving leaves few results at large budgets, some trials running on, one failed there."""
        fidelity = Fidelity(1, 9)
        history = random_history(self.any_space, max(self.startup, 18), fidelity=fidelity)
        trials, order = [], 0
        for trial in history.trials:
            value, reached = trial.results[0].values["value"], 1 if trial.number % 3 else (9 if trial.number < 7 else 3)
            results = []
            for budget in (1.0, 3.0, 9.0):
                if budget <= reached:
                    results.append(Result({"value": value * (1 - 0.3 / budget)}, budget, order, seconds=budget))
                    order += 1
            trials.append(replace(trial, results=tuple(results), budget=float(reached)))
        trials[9] = replace(trials[9], state=TrialState.FAILED, budget=9.0, reason="diverged")
        trials[12] = replace(trials[12], state=TrialState.RUNNING, budget=9.0)
        for budget in (1.0, 9.0):
            ask(self.make(self.any_space), replace(history, trials=tuple(trials)), 0, budget)

    def test_minimizing_is_maximizing_the_negative(self) -> None:
        """The direction is nothing but a sign."""
        up = random_history(self.any_space, self.startup)
        trials = tuple(finished(t.number, t.point, -t.results[0].values["value"]) for t in up.trials)
        down = replace(up, objectives=(Objective("value", "minimize"),), trials=trials)
        sampler = self.make(self.any_space)
        assert ask(sampler, up, 1).point == ask(sampler, down, 1).point

    def test_repetitions_of_a_trial(self) -> None:
        """Trials that repeat another one on a new seed are evidence and no proposals."""
        history = random_history(self.any_space, self.startup)
        first = history.trials[0]
        for value in (0.2, 0.25):
            trial = finished(len(history), first.point, value, replicate_of=0, seed=7)
            history = replace(history, trials=(*history.trials, trial))
        history = appended(history, first.point, replicate_of=0)
        ask(self.make(self.any_space), history, 0)

    def test_several_objectives(self) -> None:
        """Two objectives of opposite directions."""
        if not self.several_objectives:
            return
        history = random_history(self.any_space, self.startup)
        trials = tuple(_with_metric(trial, "cost", float(trial.number % 5)) for trial in history.trials)
        objectives = (Objective("value"), Objective("cost", "minimize"))
        ask(self.make(self.any_space), replace(history, objectives=objectives, trials=trials), 0)

    @pytest.mark.parametrize("bound", [2.0, -1.0])
    def test_outcome_constraints(self, bound: float) -> None:
        """Some trials violate a bound, or all."""
        if not self.outcome_constraints:
            return
        history = random_history(self.any_space, self.startup)
        trials = tuple(_with_metric(trial, "cost", float(trial.number % 5)) for trial in history.trials)
        constraints = (OutcomeConstraint("cost", "<=", bound),)
        ask(self.make(self.any_space), replace(history, constraints=constraints, trials=trials), 0)

    # -- finite spaces -----------------------------------------------------------------------------------------

    def test_a_finite_space_is_covered_before_anything_is_repeated(self) -> None:
        """Six points come up in six proposals; then the sampler goes on, or says that it is exhausted."""
        if "categorical" not in self.spaces:
            return
        space = SPACES["categorical"]
        sampler, history = self.make(space), History(space)
        for number in range(8):
            try:
                point = ask(sampler, history, number).point
            except Exhausted:
                assert self.exhausts
                assert number >= 6
                break
            if not self.repeats and number < 6:
                assert dict(point) not in [dict(trial.point) for trial in history.trials]
            history = replace(history, trials=(*history.trials, finished(number, point, smooth_value(space, point))))

    # -- quality -----------------------------------------------------------------------------------------------

    def test_a_quadratic_is_climbed_faster_than_at_random(self) -> None:
        """The median best value is closer to the optimum than random search's."""
        if not self.model_based:
            return
        space = SPACES["float"]

        def function(point: Point) -> float:
            return smooth_value(space, point)

        n = self.quadratic_trials
        best = [
            max(result.values["value"] for _, result in play(self.make(space), space, function, n, seed).observations)
            for seed in self.quadratic_seeds
        ]
        at_random = [
            max(result.values["value"] for _, result in random_history(space, n, seed).observations)
            for seed in range(101)
        ]
        assert 1.0 - float(np.median(best)) < 1.0 - float(np.median(at_random))


def _with_metric(trial: Trial, name: str, value: float) -> Trial:
    result = trial.results[0]
    return replace(trial, results=(replace(result, values={**result.values, name: value}),))


def _ambient_states() -> list[Any]:
    """The states of the process-wide generators."""
    states: list[Any] = [random.getstate(), repr(np.random.get_state())]  # noqa: NPY002 - the point is who uses it
    if "torch" in sys.modules:
        states.append(sys.modules["torch"].get_rng_state().tolist())
    return states
