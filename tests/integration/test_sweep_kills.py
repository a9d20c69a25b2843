"""A sweep that is killed at random moments loses nothing and repeats nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from integration.commands import environment_of_a_run
from integration.sweeps import QUICK, history, sweep

from darts_hpo.tuning.trial import TrialState

STEPS = 25

APPLICATION = f"""
import os, time, hydra
from pathlib import Path

@hydra.main(version_base=None, config_path=None)
def main(cfg):
    log = Path(hydra.core.hydra_config.HydraConfig.get().runtime.output_dir) / "steps"
    done = log.read_text().count("\\n") if log.exists() else 0
    for step in range(done, {STEPS}):
        time.sleep(0.1)
        with log.open("a") as file:
            file.write(f"{{step}} {{cfg.x!r}}\\n")
    return cfg.x
main()
"""

COMMAND = (*QUICK, "+x=interval(0,1)", "hydra.sweep.dir=here", "hydra.sweeper.slots=3", "hydra.sweeper.retries=99")


def started(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    (folder / "app.py").write_text(APPLICATION)
    with (folder / "errors").open("ab") as errors:
        return subprocess.Popen(
            [sys.executable, "app.py", "-m", *COMMAND, *arguments],
            cwd=folder,
            env=environment_of_a_run(),
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )


def kill_workers(folder: Path, rng: random.Random) -> None:
    """Kill the program, its supervisor, or both, of one trial that seems to run."""
    records = []
    for path in (folder / "here").glob("*/worker.json"):
        with suppress(OSError, ValueError):
            records.append(json.loads(path.read_text()))
    living = [record for record in records if Path(f"/proc/{record['pid']}").exists()]
    if living:
        record = rng.choice(living)
        for pid in rng.choice(([record["pid"]], [record["child_pid"]], [record["pid"], record["child_pid"]])):
            with suppress(ProcessLookupError, TypeError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_ten_kills_of_sweeper_workers_and_both(tmp_path: Path, seed: int):
    rng = random.Random(seed)
    n_trials = "hydra.sweeper.n_trials=40"
    process, kills = started(tmp_path, n_trials), 0
    while kills < 10:
        time.sleep(rng.uniform(0.3, 4.0))
        if process.poll() is not None:
            break
        whom = rng.choice(("sweeper", "worker", "both"))
        if whom != "worker":
            process.kill()
            process.wait()
        if whom != "sweeper":
            kill_workers(tmp_path, rng)
        if whom != "worker":
            process = started(tmp_path, n_trials)
        kills += 1
    assert process.wait(timeout=300) == 0, (tmp_path / "errors").read_text()
    study = history(tmp_path / "here")
    assert kills == 10
    assert [trial.number for trial in study] == list(range(40))
    assert [trial.state for trial in study] == [TrialState.COMPLETED] * 40
    assert len(study.observations) == 40
    for trial in study:
        steps = (tmp_path / "here" / str(trial.number) / "steps").read_text().split("\n")[:-1]
        assert steps == [f"{step} {trial.point['x']!r}" for step in range(STEPS)]
        assert trial.last.values["value"] == trial.point["x"]


FAILING = """
import os, time, zlib, hydra

@hydra.main(version_base=None, config_path=None)
def main(cfg):
    digits = zlib.crc32(repr(cfg.x).encode())  # as good as random, and the same for the same point
    if digits % 3 == 0:
        how = digits // 3 % 4
        if how == 0: raise ValueError("no luck")
        if how == 1: return float("nan")
        if how == 2: os.kill(os.getpid(), 9)
        time.sleep(60)
    return -((cfg.x - 0.3) ** 2) - (cfg.y - 0.6) ** 2
main()
"""


@pytest.mark.slow
def test_a_third_of_the_trials_fails_and_the_answer_stays_good(tmp_path: Path):
    """Exception, NaN, kill and time-out in turn; the same study without failures is the measure."""

    def best(name: str, source: str):
        app = tmp_path / f"{name}.py"
        app.write_text(source)
        done = sweep(
            tmp_path,
            "+x=interval(0,1)",
            "+y=interval(0,1)",
            "hydra/sweeper/sampler=gp",
            f"hydra.sweep.dir={name}",
            "hydra.sweeper.n_trials=30",
            "hydra.sweeper.slots=4",
            "hydra.sweeper.retries=0",
            "hydra.sweeper.timeout=20",
            "hydra.sweeper.executor.grace=0.1",
            program=(str(app),),
        )
        assert done.returncode == 0, done.stderr
        return history(tmp_path / name)

    failing = best("failing", FAILING)
    whole = best("whole", FAILING.replace("digits % 3 == 0", "False"))
    assert len(failing) == len(whole) == 30
    assert 5 <= len(failing.failed) <= 15
    reasons = " ".join(str(trial.reason) for trial in failing.failed)
    for reason in ("ValueError: no luck", "value is nan", "signal 9", "time-out after 20 s"):
        assert reason in reasons, reasons
    assert not whole.failed
    assert failing.best()[1].values["value"] > -0.01
    assert whole.best()[1].values["value"] > -0.01
