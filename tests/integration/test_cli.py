"""The command line beyond errors: ways to type a command, several runs at once, what Hydra is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from integration.here import FAST, contents, metrics_of, run_here
from omegaconf import DictConfig

from darts_hpo.cli import normalised
from darts_hpo.pipeline import run as life

ONE_EPOCH = (*FAST, "search.epochs=1", "retrain.epochs=1")


class Witness(Callback):
    """What Hydra tells its callbacks about a job."""

    seen: ClassVar[list[tuple[JobStatus, Any]]] = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        self.seen.append((job_return.status, job_return._return_value))


def test_the_plus_may_be_left_out_where_hydra_asks_for_it():
    assert normalised(["experiment=a", "search.fixed.neck.p4=3x3", "seed=1", "-m"]) == [
        "+experiment=a",
        "++search.fixed.neck.p4=3x3",
        "seed=1",
        "-m",
    ]
    assert normalised(["+experiment=a", "++search.fixed.x=b"]) == ["+experiment=a", "++search.fixed.x=b"]


def test_a_run_leaves_every_file_of_the_contract(tmp_path: Path):
    done = run_here(tmp_path, "experiment=toy_darts", *FAST[1:], "run=a")
    assert done.code == 0, done.err
    assert done.err == ""
    assert "val accuracy" in done.out
    run_dir = tmp_path / "runs/toy_darts/a"
    assert {
        "config.yaml",
        "provenance.json",
        "search/last.ckpt",
        "search/alphas.jsonl",
        "search/metrics.csv",
        "genotype.json",
        "retrain/last.ckpt",
        "retrain/best.ckpt",
        "retrain/metrics.csv",
        "metrics.json",
        "export/bundle.pt",
        "report.html",
    } <= contents(run_dir).keys()
    assert (tmp_path / "runs/toy_darts/latest").resolve() == run_dir.resolve()
    lines = [json.loads(line) for line in (run_dir / "search/alphas.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert {"probabilities", "entropy", "flips", "indicators", "costs"} <= lines[0].keys()


def test_with_every_choice_fixed_the_search_is_skipped(tmp_path: Path):
    fixed = [f"search.fixed.stage{number}.op=skip" for number in (1, 2, 3, 4)]
    done = run_here(tmp_path, *ONE_EPOCH, *fixed, "run=a")
    assert done.code == 0, done.err
    assert "the search is skipped" in done.out
    run_dir = tmp_path / "runs/toy_darts/a"
    assert set(json.loads((run_dir / "genotype.json").read_text())["choices"].values()) == {"skip"}
    assert not (run_dir / "search/last.ckpt").exists()


def test_several_runs_in_one_command_have_directories_of_their_own(tmp_path: Path):
    done = run_here(tmp_path, "-m", *ONE_EPOCH, "seed=1,2")
    assert done.code == 0, done.err
    (sweep,) = (tmp_path / "multirun/toy_darts").iterdir()
    configs = [yaml.safe_load((sweep / job / "config.yaml").read_text()) for job in ("0", "1")]
    assert [config["seed"] for config in configs] == [1, 2]
    assert configs[0]["run"] != configs[1]["run"]
    assert all(metrics_of(sweep / job)["status"] == "COMPLETED" for job in ("0", "1"))
    assert not (tmp_path / "runs").exists()


def test_a_failed_run_among_several_is_told_apart(tmp_path: Path):
    done = run_here(tmp_path, "-m", *ONE_EPOCH, "search.batch_size=9999,256")
    assert done.code == 1
    assert "search.batch_size=9999" in done.err.splitlines()[0], "Hydra's line names the job"
    assert done.err.splitlines()[-1].startswith("error: The train split has too few samples")
    (sweep,) = (tmp_path / "multirun/toy_darts").iterdir()
    assert metrics_of(sweep / "1")["status"] == "COMPLETED", "the others go on"


@pytest.mark.parametrize(
    ("fault", "status"), [(None, JobStatus.COMPLETED), ("search.batch_size=9999", JobStatus.FAILED)]
)
def test_callbacks_of_hydra_learn_how_a_run_ended(tmp_path: Path, fault: str | None, status: JobStatus):
    Witness.seen.clear()
    callback = f"+hydra.callbacks.witness._target_={Witness.__module__}.{Witness.__qualname__}"
    run_here(tmp_path, *ONE_EPOCH, callback, *([fault] if fault else []))
    ((told, value),) = Witness.seen
    assert told is status
    assert isinstance(value, float if fault is None else Exception)


def test_a_defect_of_ours_is_a_traceback_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def defect(*_: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(life, "retrain", defect)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        run_here(tmp_path, *ONE_EPOCH, "run=a")
    metrics = metrics_of(tmp_path / "runs/toy_darts/a")
    assert (metrics["status"], metrics["reason"]) == ("FAILED", "ZeroDivisionError: a defect")


def test_the_configuration_can_be_shown_without_running(tmp_path: Path):
    shown = run_here(tmp_path, "experiment=toy_darts", "--cfg", "job", "--resolve")
    assert shown.code == 0
    assert yaml.safe_load(shown.out)["name"] == "toy_darts"
    assert not list(tmp_path.iterdir())


def test_the_package_can_be_run(tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    done = subprocess.run(
        [sys.executable, "-m", "darts_hpo", "experiment=toy_dart"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: There is no experiment=toy_dart. Did you mean experiment=toy_darts")
