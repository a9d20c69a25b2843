"""The asynchronous loop: slots stay busy, failures are records, and a crash costs nothing."""

import dataclasses
import json
import random
from pathlib import Path

import pytest

from darts_hpo.errors import ConfigError, RunStopped
from darts_hpo.space import Float, Space
from darts_hpo.tuning.executors.base import Executor, Job, Outcome
from darts_hpo.tuning.loop import Loop, LoopSettings, TooManyFailures
from darts_hpo.tuning.objectives import Fidelity, ObjectiveError
from darts_hpo.tuning.progress import Progress
from darts_hpo.tuning.samplers.base import Sampler, Suggestion
from darts_hpo.tuning.schedulers.base import Promote, Scheduler, Start
from darts_hpo.tuning.study import Study
from darts_hpo.tuning.trial import TrialState

SPACE = Space({"x": Float(0.0, 1.0)})


class Uniform(Sampler):
    def suggest(self, history, *, seed, budget=None):
        return Suggestion(history.space.sample(random.Random(seed)))


class Plain(Scheduler):
    def next(self, history):
        return Start()


class Scripted(Executor):
    """Ends a job after as many looks as its script says, with the outcome that it says."""

    def __init__(self, script, slots=2):
        self.slots, self.script = slots, script
        self.looks, self.submitted, self.cancelled, self.most = {}, [], [], 0
        self.living = {}

    def submit(self, job):
        self.submitted.append((job.trial, job.attempt))
        self.looks[job.trial] = 0
        self.living[job.trial] = job.attempt
        self.most = max(self.most, len(self.living))
        return {"pid": 1000 + job.trial}

    def poll(self, job):
        self.looks[job.trial] = self.looks.get(job.trial, 0) + 1
        outcome = self.script(job, self.looks[job.trial])
        if outcome is not None:
            self.living.pop(job.trial, None)
        return outcome

    def cancel(self, job):
        self.cancelled.append(job.trial)

    def adopt(self, job, facts):
        return self.living.get(job.trial) == job.attempt


def done(value):
    return Outcome("COMPLETED", value, seconds=1.0)


def looped(tmp_path, script, *, executor=None, settings=None, **study):
    arguments = {"sampler": Uniform(), "scheduler": Plain(), "n_trials": 4, "directory": tmp_path} | study
    executor = executor or Scripted(script)
    settings = dataclasses.replace(settings or LoopSettings(), poll_seconds=0.001)
    with Study(SPACE, **arguments) as s:
        Loop(s, executor, lambda t, attempt: Job(t.number, attempt, tmp_path / str(t.number)), settings).run()
        return s.history, executor


def test_slots_stay_busy_without_waiting_for_the_slowest(tmp_path):
    """Trial 0 takes as long as all others together."""
    ends = []

    def script(job, looks):
        if looks < (40 if job.trial == 0 else 4):
            return None
        ends.append(job.trial)
        return done(1.0)

    history, executor = looped(tmp_path, script, n_trials=6)
    assert ends == [1, 2, 3, 4, 5, 0]
    assert executor.most == 2
    assert [t.state for t in history] == [TrialState.COMPLETED] * 6


def test_failures_are_records(tmp_path):
    def script(job, looks):
        return {0: done(float("nan")), 1: Outcome("FAILED", reason="ValueError: no"), 2: done(1.0)}.get(
            job.trial, done(2)
        )

    history, _ = looped(tmp_path, script)
    assert [(t.number, t.reason) for t in history.failed] == [(0, "value is nan"), (1, "ValueError: no")]
    assert [r.values["value"] for _, r in history.observations] == [1.0, 2.0]


def test_a_worker_that_vanished_is_started_again_but_not_for_ever(tmp_path):
    def script(job, looks):
        if job.trial == 0 and job.attempt == 1:
            return Outcome("CRASHED", reason="killed by signal 9")
        return Outcome("CRASHED", reason="killed by signal 9") if job.trial == 1 else done(1.0)

    history, executor = looped(tmp_path, script, n_trials=3)
    assert [attempt for trial, attempt in executor.submitted if trial == 0] == [1, 2]
    assert history.trials[0].state is TrialState.COMPLETED
    assert history.trials[1].reason == "killed by signal 9"
    assert history.trials[1].attempts == 2


def test_trial_after_trial_failing_ends_the_study(tmp_path):
    with pytest.raises(TooManyFailures, match=r"3 trials in a row .*no module"):
        looped(
            tmp_path,
            lambda job, looks: Outcome("FAILED", reason="no module"),
            n_trials=9,
            settings=LoopSettings(failures_in_a_row=3),
        )


def test_an_objective_that_returns_no_number_ends_the_study_at_once(tmp_path):
    executor = Scripted(lambda job, looks: done("good") if job.trial == 0 and looks > 3 else None)
    with pytest.raises(ObjectiveError, match="'good'"):
        looped(tmp_path, None, executor=executor)
    assert 1 in executor.cancelled
    assert "'good'" in Study.load(tmp_path).trials[0].reason


def test_workers_that_live_are_adopted_and_dead_ones_continue(tmp_path):
    class Killed(BaseException):
        pass

    executor = Scripted(lambda job, looks: None, slots=3)

    def killed(job, looks):
        if sum(executor.looks.values()) > 12:
            raise Killed
        return

    executor.script = killed
    with pytest.raises(Killed):
        looped(tmp_path, None, executor=executor)
    assert sorted(executor.living) == [0, 1, 2]
    del executor.living[1]  # this worker died with the sweeper
    executor.script = lambda job, looks: done(float(job.trial))
    history, _ = looped(tmp_path, None, executor=executor)
    assert executor.submitted == [(0, 1), (1, 1), (2, 1), (1, 2), (3, 1)]
    assert [r.values["value"] for t in history for r in t.results] == [0.0, 1.0, 2.0, 3.0]


def test_stop_lets_running_trials_end_and_the_same_study_goes_on(tmp_path):
    def script(job, looks):
        if job.trial == 1 and looks == 1:
            (tmp_path / "STOP").touch()
        return done(1.0) if looks > 2 else None

    with pytest.raises(RunStopped, match="same command continues"):
        looped(tmp_path, script)
    assert len(Study.load(tmp_path)) == 2
    history, _ = looped(tmp_path, lambda job, looks: done(1.0))
    assert len(history.observations) == 4


def test_ctrl_c_takes_the_workers_along(tmp_path):
    def script(job, looks):
        if looks > 2:
            raise KeyboardInterrupt
        return

    executor = Scripted(script)
    with pytest.raises(KeyboardInterrupt):
        looped(tmp_path, None, executor=executor)
    assert executor.cancelled == [0, 1]
    assert len(Study.load(tmp_path).running) == 2


class UpToHalf(Scheduler):
    """Ends what reports less than 0.5; runs to 2, then to 4."""

    def next(self, history):
        for trial in history:
            if trial.state is TrialState.COMPLETED and trial.last.budget == 2:
                return Promote(trial.number, 4)
        return Start(2.0)

    def keeps(self, trial, history):
        return trial.reports[max(trial.reports)] >= 0.5


def reporting(tmp_path, job, steps, value):
    directory = tmp_path / str(job.trial)
    directory.mkdir(exist_ok=True)
    rows = [{"stage": "search", "epoch": e, "map": value} for e in range(steps)]
    (directory / "progress.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"cut')


def test_a_scheduler_ends_trials_through_stop_files(tmp_path):
    def script(job, looks):
        good = job.trial == 1
        reporting(tmp_path, job, 1, 0.7 if good else 0.25)
        if (tmp_path / str(job.trial) / "STOP").exists():
            return Outcome("FAILED", reason="RunStopped: STOP was found")
        return done(0.8) if looks > 3 else None

    history, executor = looped(tmp_path, script, n_trials=2, scheduler=UpToHalf(), fidelity=Fidelity(2, 4))
    stopped, kept = history.trials
    assert (stopped.state, stopped.last.budget, stopped.last.values) == (TrialState.STOPPED, 1.0, {"value": 0.25})
    assert "UpToHalf ended it at step 1" in stopped.reason
    assert [r.budget for r in kept.results] == [2.0, 4.0]
    assert executor.submitted.count((1, 2)) == 1
    assert not (tmp_path / "1" / "STOP").exists()


def test_the_best_and_the_baseline_are_repeated_on_fresh_seeds(tmp_path):
    made = []

    def script(job, looks):
        return done({0: 0.5, 1: 0.1, 2: 0.9}.get(job.trial, 0.4))

    executor = Scripted(script)
    settings = LoopSettings(replicate_top=1, replicate_seeds=(11, 12))
    history, _ = looped(tmp_path, None, executor=executor, settings=settings, n_trials=3, warm_start=[{"x": 0.3}])
    made = [(t.replicate_of, t.seed, t.point == history.trials[t.replicate_of].point) for t in history.trials[3:]]
    assert made == [(0, 11, True), (2, 11, True), (0, 12, True), (2, 12, True)]
    again, _ = looped(tmp_path, None, executor=executor, settings=settings, n_trials=3, warm_start=[{"x": 0.3}])
    assert again == history


def test_facts_are_kept_and_every_answer_is_announced(tmp_path):
    seen = []
    settings = LoopSettings(record=lambda trial, directory: {"at": directory.name}, on_answer=seen.append)
    history, _ = looped(tmp_path, lambda job, looks: done(1.0), settings=settings)
    assert [t.record for t in history] == [{"at": str(n)} for n in range(4)]
    assert sorted(t.number for t in seen) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("row", "pair"),
    [
        ({"step": 3, "value": 0.5}, (3, 0.5)),
        ({"epoch": 3, "map": 0.5, "stage": "search"}, (4, 0.5)),
        ({"epoch": 3, "map": 0.5, "stage": "retrain"}, None),
        ({"epoch": 3, "map": 0.5, "loss": 1.0, "stage": "search"}, None),
        ({"epoch": 3, "map": None, "stage": "search"}, None),
        ({"map": 0.5}, None),
    ],
)
def test_rows_of_progress(tmp_path, row, pair):
    (tmp_path / "progress.jsonl").write_text(json.dumps({"stage": "search", **row}) + "\n")
    assert Progress(where=(("stage", "search"),)).read(tmp_path) == ([] if pair is None else [pair])


def test_a_crash_between_promotion_and_start_does_not_take_the_old_answer_for_the_new(tmp_path):
    """What the small budget gave still lies there, and its executor would hand it out again."""
    executor = Scripted(lambda job, looks: done(float(job.attempt)))
    with Study(
        SPACE, sampler=Uniform(), scheduler=UpToHalf(), fidelity=Fidelity(2, 4), n_trials=1, directory=tmp_path
    ) as s:
        s.ask()
        s.started(0)
        s.worker(0, {"pid": 1})
        s.tell(0, 1.0)
        s.ask()  # promoted; here the process dies
    executor.living[0] = 1
    history, _ = looped(tmp_path, None, executor=executor, scheduler=UpToHalf(), fidelity=Fidelity(2, 4), n_trials=1)
    assert executor.submitted == [(0, 2)]
    assert [(r.budget, r.values["value"]) for r in history.trials[0].results] == [(2.0, 1.0), (4.0, 2.0)]


def test_a_stop_that_a_crash_cut_short_is_asked_for_again(tmp_path):
    arguments = {"sampler": Uniform(), "scheduler": UpToHalf(), "fidelity": Fidelity(2, 4), "n_trials": 1}
    with Study(SPACE, directory=tmp_path, **arguments) as s:
        s.ask()
        s.started(0)
        s.report(0, 1, 0.1)
        s.stop(0, "hopeless")  # here the process dies, before there is a file
    executor = Scripted(
        lambda job, looks: Outcome("FAILED", reason="STOP") if (tmp_path / "0" / "STOP").exists() else done(9.0)
    )
    executor.living[0] = 1
    (tmp_path / "0").mkdir()
    history, _ = looped(tmp_path, None, executor=executor, **arguments)
    assert history.trials[0].state is TrialState.STOPPED


def test_repetitions_follow_a_study_that_went_on(tmp_path):
    values = [0.5, 0.1, 0.9, 0.2, 1.5]
    settings = LoopSettings(replicate_top=1, replicate_seeds=(11,))
    executor = Scripted(lambda job, looks: done(values[job.trial] if job.trial < 3 else 1.4))
    looped(tmp_path, None, executor=executor, settings=settings, n_trials=3)
    executor.script = lambda job, looks: done(1.5)
    history, _ = looped(tmp_path, None, executor=executor, settings=settings, n_trials=4)
    assert [t.replicate_of for t in history] == [None, None, None, 2, None, 4]


def test_a_mistake_of_the_sampler_takes_the_workers_along(tmp_path):
    class Broken(Uniform):
        def suggest(self, history, *, seed, budget=None):
            if len(history):
                raise ConfigError("no such belief")
            return super().suggest(history, seed=seed)

    executor = Scripted(lambda job, looks: None)
    with pytest.raises(ConfigError, match="no such belief"):
        looped(tmp_path, None, executor=executor, sampler=Broken())
    assert executor.cancelled == [0]


@pytest.mark.parametrize("name", ["retries", "failures_in_a_row", "poll_seconds"])
def test_senseless_numbers(name):
    with pytest.raises(ConfigError, match=f"{name}=-1"):
        LoopSettings(**{name: -1})
    with pytest.raises(ConfigError, match="timeout=-3"):
        Job(0, 1, Path(), timeout=-3)
