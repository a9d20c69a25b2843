"""``hydra/sweeper=botorch`` tunes anybody's Hydra application."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from integration.commands import ROOT, environment_of_a_run
from integration.here import FAST
from integration.sweeps import QUICK, STRANGER, history, results, sweep, sweep_here

from darts_hpo.errors import DartsHPOError, RunStopped
from darts_hpo.tuning.trial import TrialState

SPACE = ("x=interval(0,1)", "optimizer=sgd,adam")


def value_of(cfg):
    """What the stranger's application returns."""
    return -((cfg.x - 0.3) ** 2) - abs(cfg.optimizer.momentum - 0.5)


# -- in processes of their own ------------------------------------------------------------------------------------


def test_a_strangers_application_is_tuned_continued_and_extended(tmp_path: Path):
    command = (*SPACE, "hydra.sweeper.n_trials=3", "hydra.sweeper.slots=2", "hydra.sweeper.defaults_first=true")
    done = sweep(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "multirun").iterdir()
    assert re.fullmatch(r"botorch-[0-9a-f]{8}", folder.name)  # no time in it: the same command finds it again
    study = history(folder)
    assert [trial.state for trial in study] == [TrialState.COMPLETED] * 3
    assert study.trials[0].point == {"x": 0.9, "optimizer": "sgd"}  # its own configuration
    for trial in study:
        point, momentum = trial.point, {"sgd": 0.9, "adam": 0.5}[trial.point["optimizer"]]
        assert trial.last.values["value"] == pytest.approx(-((point["x"] - 0.3) ** 2) - abs(momentum - 0.5))
        assert (folder / str(trial.number) / ".hydra" / "config.yaml").is_file()
    best = max(study, key=lambda trial: trial.last.values["value"])
    assert results(folder)["best_evaluated_params"] == best.point
    assert results(folder)["best_evaluated_result"] == best.last.values["value"]
    assert "best observed" in done.stdout
    assert (folder / "multirun.yaml").is_file()

    journal = (folder / "journal.jsonl").read_bytes()
    again = sweep(tmp_path, *command)
    assert again.returncode == 0, again.stderr
    assert (folder / "journal.jsonl").read_bytes() == journal  # nothing ran
    longer = ("hydra.sweeper.n_trials=4", "hydra.sweeper.slots=1")
    more = sweep(tmp_path, *command, *longer, "hydra.sweeper.posterior=true", "hydra.sweeper.report=true")
    assert more.returncode == 0, more.stderr
    assert "started from" in more.stdout
    assert "best by posterior mean" in more.stdout
    assert "<html" in (folder / "report.html").read_text()
    assert (folder / "journal.jsonl").read_bytes().startswith(journal)
    assert sorted(int(path.name) for path in folder.iterdir() if path.is_dir()) == list(range(4))
    assert list((tmp_path / "multirun").iterdir()) == [folder]


def test_failing_trials_are_recorded_and_the_sweep_goes_on(tmp_path: Path):
    app = tmp_path / "app.py"
    body = """
    if cfg.how == "raise": raise ValueError("lost\\n  in translation")
    if cfg.how == "die": os._exit(7)
    if cfg.how == "leave": sys.exit(2)
    if cfg.how == "sleep": time.sleep(60)
    return {"diverge": float("nan"), "good": 1.0}[cfg.how]
    """
    app.write_text(
        "import os, sys, time, hydra\n"
        f'@hydra.main(version_base=None, config_path="{tmp_path}", config_name="config")\n'
        f"def main(cfg):{body}\nmain()\n"
    )
    (tmp_path / "config.yaml").write_text("how: good\n")
    done = sweep(
        tmp_path,
        "how=choice(raise,diverge,die,leave,sleep,good)",
        "hydra/sweeper/sampler=grid",
        "hydra.sweep.dir=here",
        "hydra.sweeper.slots=6",
        "hydra.sweeper.retries=0",
        "hydra.sweeper.timeout=6",
        "hydra.sweeper.executor.grace=0.1",
        program=(str(app),),
    )
    assert done.returncode == 0, done.stderr
    study = history(tmp_path / "here")
    reasons = {trial.point["how"]: trial.reason or "" for trial in study}
    assert [trial.point["how"] for trial in study if trial.state is TrialState.COMPLETED] == ["good"]
    assert reasons["raise"] == "ValueError: lost in translation"
    assert reasons["diverge"] == "value is nan"
    assert "exit status 7" in reasons["die"]
    assert "exit status 2" in reasons["leave"]
    assert "time-out after 6 s" in reasons["sleep"]
    assert "5 of 6 trials failed" in done.stdout
    assert results(tmp_path / "here")["trials"] == {"total": 6, "completed": 1, "failed": 5}


def waiting_application(folder: Path) -> str:
    """An application whose runs wait for a file."""
    app = folder / "app.py"
    app.write_text(
        "import time, hydra, pathlib\n"
        f'@hydra.main(version_base=None, config_path="{STRANGER / "conf"}", config_name="config")\n'
        "def main(cfg):\n"
        f'    while not pathlib.Path("{folder / "go"}").exists(): time.sleep(0.05)\n'
        "    return cfg.x\nmain()\n"
    )
    return str(app)


def started_sweep(folder: Path, app: str, *arguments: str) -> subprocess.Popen[str]:
    """A sweep in the background, whose first trial is under way."""
    process = subprocess.Popen(
        [sys.executable, app, "-m", *QUICK, *arguments],
        cwd=folder,
        env=environment_of_a_run(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert any("Trial 0 starts" in line for line in process.stdout)
    return process


WAITING = ("x=interval(0,1)", "hydra.sweep.dir=here", "hydra.sweeper.n_trials=2")


def test_two_sweepers_in_one_directory(tmp_path: Path):
    app = waiting_application(tmp_path)
    first = started_sweep(tmp_path, app, *WAITING)
    second = sweep(tmp_path, *WAITING, program=(app,))
    assert second.returncode == 1
    assert f"here is in use by process {first.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    (tmp_path / "go").touch()
    _, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert [trial.attempts for trial in history(tmp_path / "here")] == [1, 1]


def test_after_a_kill_the_same_command_takes_the_living_trial_over(tmp_path: Path):
    app = waiting_application(tmp_path)
    killed = started_sweep(tmp_path, app, *WAITING)
    killed.kill()
    killed.communicate(timeout=60)
    point = history(tmp_path / "here").trials[0].point
    (tmp_path / "go").touch()
    done = sweep(tmp_path, *WAITING, program=(app,))
    assert done.returncode == 0, done.stderr
    study = history(tmp_path / "here")
    assert [trial.attempts for trial in study] == [1, 1]
    assert study.trials[0].point == point
    assert study.trials[0].last.values["value"] == point["x"]


@pytest.mark.parametrize("how", ["module", "console script"])
def test_an_application_started_in_another_way_is_started_the_same_way(tmp_path: Path, how: str):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").touch()
    (tmp_path / "theirs" / "run.py").write_text(
        "import hydra\n"
        "@hydra.main(version_base=None, config_path=None)\n"
        "def main(cfg):\n    return cfg.x\n"
        'if __name__ == "__main__": main()\n'
    )
    script = tmp_path / "their-app"
    script.write_text(f"#!{sys.executable}\nfrom theirs.run import main\nmain()\n")
    program = ("-m", "theirs.run") if how == "module" else (str(script),)
    done = sweep(
        tmp_path,
        "x=interval(0,1)",
        "hydra.sweeper.n_trials=2",
        "hydra.sweep.dir=here",
        "--config-name",
        "config",
        "--config-dir",
        str(STRANGER / "conf"),
        program=program,
        PYTHONPATH=os.pathsep.join([str(ROOT), str(tmp_path)]),
    )
    assert done.returncode == 0, done.stderr
    assert [trial.state for trial in history(tmp_path / "here")] == [TrialState.COMPLETED] * 2
    overrides = (tmp_path / "here" / "0" / ".hydra" / "overrides.yaml").read_text()
    assert re.fullmatch(r"- x=0\.\d+\n", overrides)


@pytest.mark.parametrize("option", [("--help",), ("--cfg", "hydra"), ("--info", "plugins")])
def test_hydras_own_options_still_work(tmp_path: Path, option: tuple[str, ...]):
    command = [sys.executable, str(STRANGER / "app.py"), "hydra/sweeper=botorch", *option]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment_of_a_run(), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "x: 0.9" in done.stdout or "BotorchSweeper" in done.stdout
    assert done.stderr == ""


def test_the_plugin_imports_nothing_heavy_at_start_up(tmp_path: Path):
    script = tmp_path / "app.py"
    script.write_text(
        "import sys, hydra\n"
        "@hydra.main(version_base=None, config_path=None)\n"
        "def main(cfg):\n"
        '    assert "hydra_plugins.darts_hpo_botorch.sweeper" in sys.modules\n'
        '    print(sorted({name.split(".")[0] for name in sys.modules}))\n'
        "main()\n"
    )
    command = [sys.executable, str(script)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment_of_a_run(), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    loaded = set(re.findall(r"'(\w+)'", done.stdout))
    assert "hydra" in loaded
    assert not loaded & {"torch", "botorch", "gpytorch", "numpy", "scipy", "sklearn", "darts_hpo", "pytorch_lightning"}


def test_our_own_application_tunes_learning_rate_momentum_and_an_operation(tmp_path: Path):
    command = [sys.executable, str(ROOT / "train.py"), "-m", *QUICK, *FAST, "search.fixed.stage1.op=skip,conv3x3"]
    command += ["hydra.sweeper.n_trials=1", "hydra.sweeper.replicates.top=0", "objective=search"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment_of_a_run(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "multirun" / "toy_darts").glob("botorch-*")
    study = history(folder)
    assert list(study.space) == ["lr", "momentum", "search.fixed.stage1.op"]
    trial = study.trials[0]
    assert trial.state is TrialState.COMPLETED, trial.reason
    assert set(trial.record["genotype"]) == {"stage1.op", "stage2.op", "stage3.op", "stage4.op"}
    assert trial.record["genotype"]["stage1.op"] == trial.point["search.fixed.stage1.op"]
    assert 0 < trial.record["entropy"] <= 1
    config = yaml.safe_load((folder / "0" / "config.yaml").read_text())
    assert config["search"]["optimizer"]["lr"] == trial.point["lr"]
    assert config["search"]["optimizer"]["momentum"] == trial.point["momentum"]


# -- in this process ----------------------------------------------------------------------------------------------


def test_hydras_launcher_runs_batches(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    sweep_here(tmp_path, value_of, *SPACE, "hydra.sweeper.n_trials=5", "hydra.sweeper.slots=2")
    study = history(tmp_path / "sweep")
    assert [trial.state for trial in study] == [TrialState.COMPLETED] * 5
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()) == list("01234")
    log = (tmp_path / "sweep" / "sweep.log").read_text()
    assert log.count("A batch of 2") == 2
    assert log.count("A batch of 1") == 1
    assert "slots stood idle" in log


def test_a_finished_sweep_runs_nothing_again_and_a_longer_one_continues(tmp_path: Path):
    asked = []

    def task(cfg):
        asked.append(cfg.x)
        return value_of(cfg)

    sweep_here(tmp_path, task, *SPACE, "hydra.sweeper.n_trials=2")
    sweep_here(tmp_path, task, *SPACE, "hydra.sweeper.n_trials=2")
    assert len(asked) == 2
    sweep_here(tmp_path, task, *SPACE, "hydra.sweeper.n_trials=3")
    assert [trial.point["x"] for trial in history(tmp_path / "sweep")] == asked


def test_another_space_in_the_same_directory_is_refused_with_what_differs(tmp_path: Path):
    sweep_here(tmp_path, value_of, *SPACE, "hydra.sweeper.n_trials=1")
    before = (tmp_path / "sweep" / "journal.jsonl").read_bytes()
    with pytest.raises(DartsHPOError, match=r"belongs to another study(?s:.*)x.high: 0.999999 -> 1.999998"):
        sweep_here(tmp_path, value_of, "x=interval(0,2)", "optimizer=sgd,adam")
    assert (tmp_path / "sweep" / "journal.jsonl").read_bytes() == before


def test_other_settings_than_the_sweep_began_with_are_pointed_out(tmp_path: Path):
    sweep_here(tmp_path, value_of, "x=interval(0,1)", "seed=1", "hydra.sweeper.n_trials=1")
    sweep_here(tmp_path, value_of, "x=interval(0,1)", "seed=2", "hydra.sweeper.n_trials=1")
    log = (tmp_path / "sweep" / "sweep.log").read_text()
    assert "began with other settings, of which these differ: seed=1, seed=2" in log


def test_repetitions_vary_the_seed(tmp_path: Path):
    seeds = []

    def task(cfg):
        seeds.append((cfg.seed, cfg.x))
        return value_of(cfg)

    sweep_here(tmp_path, task, *SPACE, "hydra.sweeper.n_trials=3", "hydra.sweeper.replicates.top=1")
    study = history(tmp_path / "sweep")
    best = study.best()[0]
    assert [trial.replicate_of for trial in study][3:] == [best.number] * 2
    assert seeds[3:] == [(2, best.point["x"]), (3, best.point["x"])]
    assert results(tmp_path / "sweep")["replicates"][0]["runs"] == 3


def test_budgets_are_passed_on_and_promoted_trials_keep_their_directory(tmp_path: Path):
    seen = []

    def task(cfg):
        seen.append((cfg.x, cfg.epochs))
        return value_of(cfg)

    sweep_here(
        tmp_path,
        task,
        "x=interval(0,1)",
        "hydra/sweeper/scheduler=successive_halving",
        "hydra.sweeper.scheduler.eta=2",
        "hydra.sweeper.budget.key=+epochs",
        "hydra.sweeper.budget.maximum=4",
        "hydra.sweeper.n_trials=null",
        "hydra.sweeper.slots=4",
    )
    study = history(tmp_path / "sweep")
    assert [epochs for _, epochs in seen] == [1, 1, 1, 1, 2, 2, 4]
    assert len(study) == 4
    best = study.best()
    assert best[1].budget == 4
    assert seen[-1][0] == best[0].point["x"]
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()) == list("0123")


def test_several_objectives_give_a_front(tmp_path: Path):
    sweep_here(
        tmp_path,
        lambda cfg: {"score": cfg.x, "size": cfg.x**2, "other": 1.0},
        "x=interval(0,1)",
        "hydra.sweeper.objectives.score=maximize",
        "hydra.sweeper.objectives.size=minimize",
        "hydra.sweeper.outcome_constraints.other='<= 2'",
        "hydra.sweeper.n_trials=3",
    )
    solutions = results(tmp_path / "sweep")["solutions"]
    assert [solution["trial"] for solution in solutions] == [0, 1, 2]
    assert set(solutions[0]["values"]) == {"score", "size", "other"}


def test_what_a_trial_leaves_in_files_is_kept_in_its_record(tmp_path: Path):
    def task(cfg):
        from hydra.core.hydra_config import HydraConfig

        folder = Path(HydraConfig.get().runtime.output_dir)
        (folder / "metrics.json").write_text(json.dumps({"val": {"a.b": [1, 2]}, "x": cfg.x}))
        (folder / "log.jsonl").write_text('{"epoch": 0}\n{"epoch": 1}\n')
        return 1.0

    record = "hydra.sweeper.record={last:'metrics.json:val.a.b.-1',epoch:'log.jsonl:epoch',none:'absent.json:x'}"
    sweep_here(tmp_path, task, "x=interval(0,1)", "hydra.sweeper.n_trials=1", record)
    assert history(tmp_path / "sweep").trials[0].record == {"last": 2, "epoch": 1}


def test_warm_start_points_are_completed_from_the_configuration(tmp_path: Path):
    points = "hydra.sweeper.warm_start=[{x:0.5},{optimizer:adam}]"
    sweep_here(tmp_path, value_of, *SPACE, "hydra.sweeper.n_trials=2", points)
    study = history(tmp_path / "sweep")
    assert [trial.point for trial in study] == [{"x": 0.5, "optimizer": "sgd"}, {"x": 0.9, "optimizer": "adam"}]
    assert {trial.source for trial in study} == {"warm_start"}


def test_own_values_outside_the_space_are_left_out_and_said_so(tmp_path: Path):
    options = ("x=interval(0,0.5)", "hydra.sweeper.n_trials=1", "hydra.sweeper.defaults_first=true")
    sweep_here(tmp_path, value_of, *options)
    assert history(tmp_path / "sweep").trials[0].source == "random"
    assert (
        "own values are not tried first: Parameter 'x': 0.9 lies outside"
        in (tmp_path / "sweep" / "sweep.log").read_text()
    )


def test_nnis_search_space_file(tmp_path: Path):
    space = {"x": {"_type": "loguniform", "_value": [0.1, 1]}, "optimizer": {"_type": "choice", "_value": ["adam"]}}
    (tmp_path / "space.json").write_text(json.dumps(space))
    sweep_here(tmp_path, value_of, "hydra.sweeper.search_space=space.json", "hydra.sweeper.n_trials=2")
    assert list(history(tmp_path / "sweep").space) == ["x", "optimizer"]


def test_a_request_to_stop_ends_the_sweep_and_the_same_command_continues(tmp_path: Path):
    def task(cfg):
        (tmp_path / "sweep" / "STOP").touch()
        return value_of(cfg)

    with pytest.raises(RunStopped, match="The same command continues"):
        sweep_here(tmp_path, task, *SPACE, "hydra.sweeper.n_trials=2")
    assert len(history(tmp_path / "sweep")) == 1
    sweep_here(tmp_path, value_of, *SPACE, "hydra.sweeper.n_trials=2")
    assert len(history(tmp_path / "sweep")) == 2


@pytest.mark.parametrize(
    ("returned", "options", "complaint"),
    [
        ("0.9", (), r"'0.9' \(a str\).*expected a number"),
        (None, (), "Does the objective function return its score"),
        ({"loss": 1.0}, ("hydra.sweeper.objectives.los=minimize",), "Unknown metric: 'los'. Did you mean 'loss'"),
    ],
)
def test_an_objective_that_returns_no_value_ends_the_sweep(tmp_path: Path, returned, options, complaint):
    with pytest.raises(DartsHPOError, match=complaint):
        sweep_here(tmp_path, lambda cfg: returned, "x=interval(0,1)", "hydra.sweeper.n_trials=3", *options)
    assert len(history(tmp_path / "sweep")) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("y=interval(0,1)",), "Could not override 'y'"),
        (("optimizer=sgd,adm",), "Could not find 'optimizer/adm'"),
        (("x=interval(1,1)",), "is empty"),
        (("x=tag(log,interval(0,1))",), "cannot start at 0.0"),
        ((), "nothing to tune"),
        (("x=interval(0,1)", "hydra.sweeper.objectives.loss=minimise"), "Did you mean 'minimize'"),
        (("x=interval(0,1)", "hydra.sweeper.outcome_constraints.size=small"), "expected for example '<= 2e6'"),
        (("x=interval(0,1)", "+hydra.sweeper.sampler.gama=1"), "Unknown argument of .*RandomSampler: 'gama'"),
        (("x=interval(0,1)", "hydra.sweeper.sampler._target_=os.system"), "lies outside the packages"),
        (("x=interval(0,1)", "~hydra.sweeper.sampler._target_"), "lacks _target_"),
        (("x=interval(0,1)", "hydra.sweeper.search_space=none.json"), "none.json: No such file"),
        (("x=interval(0,1)", "hydra.sweeper.budget.key=epochs"), "hydra.sweeper.budget.maximum=NUMBER"),
        (("x=interval(0,1)", "hydra.sweeper.replicates={top:1,key:sed}"), "hydra.sweeper.replicates.key=KEY"),
        (("x=interval(0,1)", "hydra.sweeper.record.a=metrics.json"), "for example 'metrics.json:val.map50'"),
        (("x=interval(0,1)", "hydra.sweeper.warm_start=[{y:1}]"), "warm_start: Unknown parameter: 'y'"),
        (("x=interval(0,1)", "hydra.sweeper.warm_start=[{x:2}]"), "'x': 2 lies outside"),
        (("x=interval(0,1)", "hydra.sweeper.n_trials=0"), "n_trials=0"),
        (("x=interval(0,1)", "hydra.sweeper.slots=0"), "slots=0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path: Path, arguments: tuple[str, ...], complaint: str):
    with pytest.raises(Exception, match=complaint):
        sweep_here(tmp_path, value_of, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_many_failures_in_a_row_end_the_sweep(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    def task(cfg):
        raise ValueError("no data")

    caplog.set_level(logging.WARNING)
    options = ("x=interval(0,1)", "hydra.sweeper.max_failures=2", "hydra.sweeper.n_trials=5")
    with pytest.raises(DartsHPOError, match="2 trials in a row have failed.*ValueError: no data"):
        sweep_here(tmp_path, task, *options)
    assert [trial.reason for trial in history(tmp_path / "sweep")] == ["ValueError: no data"] * 2
