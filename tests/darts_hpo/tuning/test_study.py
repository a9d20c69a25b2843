"""The study: what it is told it knows again after any crash."""

import json
import math
import os
import random
import subprocess
import sys

import pytest

from darts_hpo.errors import ConfigError, RunDirectoryError, SpaceError
from darts_hpo.space import Categorical, Float, Space
from darts_hpo.tuning.objectives import Fidelity, Objective, ObjectiveError, OutcomeConstraint, read_values
from darts_hpo.tuning.samplers.base import Exhausted, Incumbent, Sampler, Suggestion
from darts_hpo.tuning.samplers.manual import ManualSampler
from darts_hpo.tuning.schedulers.base import Promote, Scheduler, Start
from darts_hpo.tuning.schedulers.full import FullBudget
from darts_hpo.tuning.schedulers.hyperband import Hyperband
from darts_hpo.tuning.study import Study, given_budget
from darts_hpo.tuning.trial import TrialState

SPACE = Space({"x": Float(0.0, 1.0), "kind": Categorical(("a", "b"))})


class Uniform(Sampler):
    def suggest(self, history, *, seed, budget=None):
        return Suggestion(history.space.sample(random.Random(seed)), labels={"seed": seed})


class Ended(Sampler):
    def suggest(self, history, *, seed, budget=None):
        raise Exhausted("two were enough")


class Plain(Scheduler):
    def next(self, history):
        return Start()


class Doubling(Scheduler):
    """Runs every trial to 1, then to 2 as soon as it has answered."""

    def next(self, history):
        for trial in history:
            if trial.state is TrialState.COMPLETED and trial.last.budget == 1.0:
                return Promote(trial.number, 2.0)
        return Start(1.0, {"rung": 0})

    def keeps(self, trial, history):
        return max(trial.reports.values()) > 0


def study(directory=None, **changes):
    settings = {"sampler": Uniform(), "scheduler": Plain(), "n_trials": 5, "directory": directory} | changes
    return Study(SPACE, **settings)


def worth(trial):
    return -((trial.point["x"] - 0.3) ** 2)


def journal(directory):
    return [json.loads(line) for line in (directory / "journal.jsonl").read_text().splitlines()]


# -- asking and telling ----------------------------------------------------------------------------------------------


def test_a_study_ends_after_its_trials():
    with study() as s:
        while (trial := s.ask()) is not None:
            s.tell(trial.number, worth(trial))
        assert [t.number for t in s.history] == [0, 1, 2, 3, 4]
        assert s.ask() is None


def test_failed_trials_count_and_keep_their_reason():
    with study(n_trials=2) as s:
        s.fail(s.ask().number, "out of memory")
        assert s.tell(s.ask().number, math.nan).state is TrialState.FAILED
        assert [t.reason for t in s.history.failed] == ["out of memory", "value is nan"]
        assert s.history.observations == ()
        assert s.ask() is None


def test_warm_start_points_come_first():
    with study(warm_start=[{"x": 0.5, "kind": "b"}]) as s:
        first, second = s.ask(), s.ask()
    assert (first.point, first.source) == ({"x": 0.5, "kind": "b"}, "warm_start")
    assert second.source == "uniform"


def test_a_wrong_warm_start_point_is_refused():
    with pytest.raises(SpaceError, match=r"warm-start point .*'kind'.*Did you mean"):
        study(warm_start=[{"x": 0.5, "kind": "bb"}])


def test_a_sampler_may_come_to_its_end():
    with study(sampler=Ended(), warm_start=[{"x": 0.1, "kind": "a"}]) as s:
        assert s.ask().number == 0
        assert s.ask() is None
        assert s.exhausted


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("0.9", "'0.9' .a str. as 'value'"),
        (None, "None .a NoneType."),
        ([1.0, 2.0], "returned 2 values; expected 1"),
        ({"valeu": 1.0}, "Did you mean 'valeu'"),
        (True, "a bool"),
    ],
)
def test_what_is_no_value_is_refused_and_the_trial_goes_on(returned, message):
    with study() as s:
        s.ask()
        with pytest.raises(ObjectiveError, match=message):
            s.tell(0, returned)
        assert s.history.trials[0].state is TrialState.RUNNING


def test_values_of_several_objectives_and_constraints():
    objectives = (Objective("map"), Objective("latency", "minimize"))
    bounds = (OutcomeConstraint("params", "<=", 2e6),)
    assert read_values([0.5, 3], objectives) == {"map": 0.5, "latency": 3.0}
    assert read_values({"map": 1, "latency": 2, "params": 3, "note": "x"}, objectives, bounds) == {
        "map": 1.0,
        "latency": 2.0,
        "params": 3.0,
    }
    with pytest.raises(ObjectiveError, match="params"):
        read_values({"map": 1, "latency": 2}, objectives, bounds)
    assert OutcomeConstraint("params", "<=", 2e6).violation(3e6) == 1e6
    assert OutcomeConstraint("map", ">=", 0.5).violation(0.25) == 0.25


def test_the_best_obeys_direction_and_constraints():
    bounds = (OutcomeConstraint("params", "<=", 2.0),)
    with study(objectives=(Objective("loss", "minimize"),), constraints=bounds) as s:
        for loss, params in ((3.0, 1.0), (1.0, 9.0), (2.0, 2.0)):
            s.tell(s.ask().number, {"loss": loss, "params": params})
        assert s.history.best()[0].number == 2


def test_mistakes_of_a_study_itself():
    with pytest.raises(ConfigError, match="nothing to tune"):
        Study(Space({}), sampler=Uniform(), scheduler=Plain())
    with pytest.raises(ConfigError, match="each named once"):
        study(objectives=(Objective(), Objective()))
    with pytest.raises(ConfigError, match="n_trials=0"):
        study(n_trials=0)
    with pytest.raises(ConfigError, match=r"budget\.key=budget\.search_epochs"):
        study(scheduler=Hyperband())
    with pytest.raises(ConfigError, match="scheduler=asha"):
        study(scheduler=Doubling(), fidelity=Fidelity(1, 2), objectives=(Objective("a"), Objective("b")))
    with pytest.raises(ConfigError, match=r"Did you mean 'maximize'"):
        Objective("v", "maximise")
    with pytest.raises(ConfigError, match="0 < minimum <= maximum"):
        Fidelity(3, 2)
    with pytest.raises(ConfigError, match="integer=false"):
        Fidelity(0.5, 2)


# -- budgets ----------------------------------------------------------------------------------------------------------


def test_promotions_are_asked_for_like_trials():
    with study(scheduler=Doubling(), fidelity=Fidelity(1, 2), n_trials=1) as s:
        first = s.ask()
        assert (first.budget, first.labels["rung"]) == (1.0, 0)
        assert s.ask() is None
        s.tell(0, 0.1)
        again = s.ask()
        assert (again.number, again.budget, again.state) == (0, 2.0, TrialState.RUNNING)
        s.tell(0, 0.2)
        assert [(r.budget, r.values["value"]) for r in s.history.trials[0].results] == [(1.0, 0.1), (2.0, 0.2)]
        assert s.ask() is None


@pytest.mark.parametrize("how", ["n_trials", "exhausted"])
def test_a_bracket_that_is_cut_short_is_judged_as_it_is(how):
    """Hyperband's first bracket of 9 gets 5 trials: a third of them goes on, not none and not all."""
    points = [{"x": x / 10, "kind": "a"} for x in range(5)]
    s = study(
        scheduler=Hyperband(),
        fidelity=Fidelity(1, 9),
        sampler=ManualSampler(points),
        n_trials=5 if how == "n_trials" else None,
    )
    while (trial := s.ask()) is not None:
        s.tell(trial.number, trial.point["x"])
    assert [[r.budget for r in t.results] for t in s.history] == [[1.0]] * 4 + [[1.0, 3.0, 9.0]]


def test_a_total_budget_ends_the_study():
    with study(scheduler=Doubling(), fidelity=Fidelity(1, 2), n_trials=None, total_budget=4) as s:
        while (trial := s.ask()) is not None:
            s.tell(trial.number, 1.0)
        assert given_budget(s.history, resumes=True) == 4
        assert given_budget(s.history, resumes=False) == 6


def test_a_sampler_may_choose_the_budget():
    class Halves(Uniform):
        chooses_budget = True

        def suggest(self, history, *, seed, budget=None):
            assert budget is None
            return Suggestion(history.space.sample(random.Random(seed)), budget=3.0)

        def incumbent(self, history):
            return Incumbent(history.trials[0].point, 1.0)

    with study(sampler=Halves(), scheduler=FullBudget(), fidelity=Fidelity(1, 9), n_trials=2) as s:
        assert s.ask().budget == 3.0
        s.tell(0, 0.5)
        assert s.recommend().incumbent.value == 1.0


def test_reports_can_end_a_trial_early():
    with study(scheduler=Doubling(), fidelity=Fidelity(1, 2)) as s:
        s.ask()
        assert s.report(0, 1, 0.5)
        assert s.report(0, 2, math.nan)  # says nothing
        other = s.ask()
        assert not s.report(other.number, 1, -0.5)
        s.stop(other.number, "hopeless")
        assert s.stopping(other.number) == "hopeless"
        ended = s.tell(other.number, -0.5, state=TrialState.STOPPED, budget=1.0, reason="hopeless")
        assert (ended.state, ended.last.budget, s.stopping(other.number)) == (TrialState.STOPPED, 1.0, None)


def test_none_is_the_largest_budget():
    with study() as s:
        s.tell(s.ask().number, 0.9, state=TrialState.STOPPED, budget=3.0)
        s.tell(s.ask().number, 0.1)
        assert s.history.budgets == (3.0, None)
        assert s.history.best()[0].number == 1


# -- the journal --------------------------------------------------------------------------------------------------


def lived_through(directory):
    """A study with one of everything."""
    with study(directory, scheduler=Doubling(), fidelity=Fidelity(1, 2), n_trials=4) as s:
        for value in (0.1, None, 0.3):
            trial = s.ask()
            s.started(trial.number)
            s.worker(trial.number, {"pid": 7 + trial.number})
            s.report(trial.number, 1, 0.5)
            if value is None:
                s.fail(trial.number, "no memory", record={"exit": 9})
            else:
                s.tell(trial.number, value, seconds=2.5, record={"entropy": 1.0})
        s.started(s.ask().number)
        return s.history


def test_an_opened_study_is_the_one_that_was_closed(tmp_path):
    before = lived_through(tmp_path)
    with study(tmp_path, scheduler=Doubling(), fidelity=Fidelity(1, 2), n_trials=4) as s:
        assert s.history == before
        assert s.problems == []
        assert s.worker_of(0) is None  # it has answered
        assert s.under_way(1)
        assert not s.under_way(0)
    assert Study.load(tmp_path) == before


def test_suggestions_do_not_depend_on_interruptions(tmp_path):
    def points(interrupted):
        directory = tmp_path / str(interrupted)
        s = study(directory)
        while (trial := s.ask()) is not None:
            s.tell(trial.number, worth(trial))
            if interrupted:
                s.close()
                s = study(directory)
        s.close()
        return [t.point for t in Study.load(directory)]

    assert points(True) == points(False)


def test_numbering_goes_on_when_more_trials_are_wanted(tmp_path):
    for n_trials in (2, 4):
        with study(tmp_path, n_trials=n_trials) as s:
            while (trial := s.ask()) is not None:
                s.tell(trial.number, worth(trial))
    assert [t.number for t in Study.load(tmp_path)] == [0, 1, 2, 3]


def test_another_space_in_the_same_directory_is_refused_with_what_differs(tmp_path):
    study(tmp_path).close()
    other = Space({"x": Float(0.0, 2.0), "kind": Categorical(("a", "b"))})
    with pytest.raises(RunDirectoryError, match=r"parameters\.x\.high: 1\.0 -> 2\.0(.|\n)*hydra\.sweep\.dir"):
        Study(other, sampler=Uniform(), scheduler=Plain(), directory=tmp_path)
    with pytest.raises(RunDirectoryError, match="objectives"):
        study(tmp_path, objectives=(Objective("value", "minimize"),))
    study(tmp_path).close()


def test_two_studies_in_one_directory(tmp_path):
    with study(tmp_path), pytest.raises(RunDirectoryError, match=rf"in use by process {os.getpid()}"):
        study(tmp_path)


def test_a_lock_goes_with_its_process(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from darts_hpo.runs.lock import DirectoryLock\n"
        "with DirectoryLock(Path(sys.argv[1]), '').held(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    study(tmp_path).close()


@pytest.mark.parametrize("damaged", range(1, 17))
def test_one_damaged_line_costs_little(tmp_path, damaged):
    """No trial and no number is lost; at most what that one line said."""
    before = lived_through(tmp_path)
    path = tmp_path / "journal.jsonl"
    lines = path.read_text().splitlines()
    event = json.loads(lines[damaged])["event"]
    lines[damaged] = lines[damaged][: len(lines[damaged]) // 2]
    path.write_text("\n".join(lines) + "\n")
    with study(tmp_path, scheduler=Doubling(), fidelity=Fidelity(1, 2), n_trials=4) as s:
        assert f"Line {damaged + 1} of {path}" in s.problems[0]
        assert [t.number for t in s.history] == [t.number for t in before]
        assert [t.point for t in s.history] == [t.point for t in before]
        lost = len(before.observations) - len(s.history.observations)
        assert lost == (1 if event == "tell" else 0)


def test_a_line_cut_by_a_crash_is_no_damage(tmp_path):
    before = lived_through(tmp_path)
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"event": "tell", "tri')
    with study(tmp_path, scheduler=Doubling(), fidelity=Fidelity(1, 2), n_trials=4) as s:
        assert s.problems == []
        assert s.history == before
        s.tell(s.history.running[0].number, 1.0)
    assert len(Study.load(tmp_path).observations) == len(before.observations) + 1


def test_a_lost_trial_keeps_its_number(tmp_path):
    """Every line of trial 0 is damaged: nobody knows its point, but 1 is still 1 and no sampler sees it."""
    lived_through(tmp_path)
    path = tmp_path / "journal.jsonl"
    lines = ["{" if '"trial": 0,' in line else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    with study(tmp_path, scheduler=Doubling(), fidelity=Fidelity(1, 2), n_trials=4) as s:
        assert s.history.trials[0].state is TrialState.FAILED
        assert s.history.trials[0] not in s.history.failed
        assert s.history.trials[1].number == 1


def test_a_damaged_first_line_is_refused(tmp_path):
    lived_through(tmp_path)
    path = tmp_path / "journal.jsonl"
    path.write_text(path.read_text().replace('"event": "study"', '"event"'))
    with pytest.raises(RunDirectoryError, match="first line"):
        Study.load(tmp_path)


def test_every_event_is_on_disk_before_it_is_true(tmp_path, monkeypatch):
    with study(tmp_path) as s:
        trial = s.ask()

        def full(*_, **__):
            raise RunDirectoryError("The disk is full")

        monkeypatch.setattr(s._journal, "append", full)
        with pytest.raises(RunDirectoryError):
            s.tell(trial.number, 1.0)
        assert s.history.trials[0].state is TrialState.RUNNING
    assert [row["event"] for row in journal(tmp_path)] == ["study", "ask"]


def test_the_journal_of_a_directory_that_has_none(tmp_path):
    with pytest.raises(RunDirectoryError, match="does not exist"):
        Study.load(tmp_path)
