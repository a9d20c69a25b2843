"""What a run returns to a sweeper, and runs that pause on the way."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from integration.commands import results
from integration.here import FAST, Outcome, at_batch, contents, metrics_of, run_here
from omegaconf import DictConfig

from darts_hpo.errors import RunStopped
from darts_hpo.runs import RunDirectory

SEARCH = (*FAST, "objective=search", "run=a")


class Returned(Callback):
    """What a job gave back to Hydra."""

    values: ClassVar[list[Any]] = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        self.values.append(job_return._return_value)


def returned(folder: Path, *arguments: str) -> tuple[Outcome, Any]:
    """The outcome of a command and what its job returned."""
    Returned.values.clear()
    callback = f"+hydra.callbacks.returned._target_={Returned.__module__}.{Returned.__qualname__}"
    done = run_here(folder, *arguments, callback)
    return done, Returned.values[-1] if Returned.values else None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted full run."""
    folder = tmp_path_factory.mktemp("whole")
    assert run_here(folder, *FAST, "run=whole").code == 0
    return folder / "runs/toy_darts/whole"


def scores(run_dir: Path, stage: str) -> dict[int, float]:
    rows = RunDirectory(run_dir).progress.rows()
    return {row["epoch"]: row["accuracy"] for row in rows if row["stage"] == stage}


def same_checkpoint(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same numbers."""

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.tolist()
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return value

    def content(path: Path) -> dict[str, Any]:
        state = torch.load(path, weights_only=True)
        del state["loops"]  # Lightning's own counters know of the restart
        return dict(plain(state))

    return content(one) == content(other)


def test_the_search_alone_is_scored_and_the_same_directory_goes_on_to_a_full_run(tmp_path: Path, whole: Path):
    run_dir = tmp_path / "runs/toy_darts/a"
    done, value = returned(tmp_path, *SEARCH)
    assert done.code == 0, done.err
    metrics = metrics_of(run_dir)
    assert metrics["status"] == "COMPLETED"
    assert value == metrics["search"]["discretized_val"]["accuracy"] == scores(run_dir, "search")[2]
    assert metrics["search"]["choices"] == json.loads((run_dir / "genotype.json").read_text())["choices"]
    assert metrics["search"]["costs"]["params_deployed"] > 0
    assert metrics["found"] is None
    assert not (run_dir / "retrain").exists()
    assert not (run_dir / "export").exists()
    assert (run_dir / "report.html").exists()
    assert "discretized supernet" in done.out

    again, value_again = returned(tmp_path, *SEARCH)
    assert "is finished" in again.out
    assert value_again == value

    full, val = returned(tmp_path, *FAST, "run=a")
    assert full.code == 0, full.err
    assert "Searching" not in full.out, "what the cheap run found is kept"
    assert val == metrics_of(run_dir)["found"]["val"]["accuracy"]
    assert results(run_dir) == results(whole)
    assert (run_dir / "export/bundle.pt").exists()
    cheap, value_after = returned(tmp_path, *SEARCH)
    assert "is finished" in cheap.out
    assert value_after == value


def test_a_paused_search_returns_its_score_and_goes_on_bit_equally(tmp_path: Path):
    assert run_here(tmp_path, *SEARCH[:-1], "run=whole").code == 0
    run_dir, whole = (tmp_path / "runs/toy_darts" / name for name in ("a", "whole"))
    first, value = returned(tmp_path, *SEARCH, "budget.search_epochs=1")
    assert first.code == 0, first.err
    metrics = metrics_of(run_dir)
    assert metrics["status"] == "STOPPED"
    assert metrics["reason"].startswith("search ended after epoch 1 of 3: budget.search_epochs is used up")
    assert metrics["search"]["epochs"] == 1
    assert value == metrics["search"]["discretized_val"]["accuracy"]
    assert scores(run_dir, "search") == {0: value}
    assert not (run_dir / "genotype.json").exists(), "its presence would say that the search is done"

    before = contents(run_dir / "search")
    again, value_again = returned(tmp_path, *SEARCH, "budget.search_epochs=1")
    assert (again.code, value_again) == (0, value), "as after a kill between checkpoint and score"
    assert contents(run_dir / "search") == before

    _, second = returned(tmp_path, *SEARCH, "budget.search_epochs=2")
    last, third = returned(tmp_path, *SEARCH, "budget.search_epochs=3")
    assert last.code == 0, last.err
    assert metrics_of(run_dir)["status"] == "COMPLETED"
    assert scores(run_dir, "search") == {0: value, 1: second, 2: third}
    assert same_checkpoint(run_dir / "search/last.ckpt", whole / "search/last.ckpt")
    assert results(run_dir) == results(whole)


def test_a_search_scored_at_every_epoch_is_the_search_that_is_not(tmp_path: Path):
    watched, unwatched = (tmp_path / "runs/toy_darts" / name for name in ("watched", "unwatched"))
    for directory, every in ((watched, 1), (unwatched, 0)):
        arguments = (*FAST, "objective=search", f"run={directory.name}", f"search.validate_every={every}")
        assert run_here(tmp_path, *arguments).code == 0
    assert set(scores(watched, "search")) == {0, 1, 2}
    assert set(scores(unwatched, "search")) == {2}
    assert same_checkpoint(watched / "search/last.ckpt", unwatched / "search/last.ckpt")


def test_a_paused_retraining_returns_the_best_score_so_far(tmp_path: Path, whole: Path):
    run_dir = tmp_path / "runs/toy_darts/a"
    run = (*FAST, "run=a", "reference=true")
    done, value = returned(tmp_path, *run, "budget.retrain_epochs=2")
    assert done.code == 0, done.err
    assert value == max(scores(run_dir, "retrain").values())
    assert metrics_of(run_dir)["paused"]["epochs"] == 2
    assert not (run_dir / "reference").exists(), "a budget ends before the reference begins"
    again, value_again = returned(tmp_path, *run, "budget.retrain_epochs=2")
    assert (again.code, value_again) == (0, value)
    finished, final = returned(tmp_path, *run)
    assert finished.code == 0, finished.err
    metrics = metrics_of(run_dir)
    assert metrics["paused"] is None
    assert metrics["reference"] is not None
    assert final == metrics["found"]["val"]["accuracy"] == metrics_of(whole)["found"]["val"]["accuracy"]
    assert same_checkpoint(run_dir / "retrain/last.ckpt", whole / "retrain/last.ckpt")


def test_a_pause_between_two_scored_epochs_changes_nothing_of_the_training(tmp_path: Path):
    rare = (*FAST, "retrain.validate_every=3")
    paused, whole = (tmp_path / "runs/toy_darts" / name for name in ("paused", "whole"))
    assert run_here(tmp_path, *rare, "run=whole").code == 0
    done, value = returned(tmp_path, *rare, "run=paused", "budget.retrain_epochs=2")
    assert done.code == 0, done.err
    assert scores(paused, "retrain") == {1: value}
    assert not (paused / "retrain/best.ckpt").exists()
    assert run_here(tmp_path, *rare, "run=paused").code == 0
    assert results(paused) == results(whole)


def test_a_retraining_is_not_scored_where_the_search_has_paused(tmp_path: Path):
    done, value = returned(tmp_path, *FAST, "run=a", "budget.search_epochs=2")
    assert done.code == 3
    assert "search ended after epoch 2 of 3: budget.search_epochs is used up" in done.err
    assert isinstance(value, RunStopped)


def test_a_stop_file_stops_a_cheap_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as wish:
        at_batch(wish, 7, lambda _: (tmp_path / "runs/toy_darts/a/STOP").touch())
        stopped, value = returned(tmp_path, *SEARCH, "budget.search_epochs=2")
    assert stopped.code == 3
    assert isinstance(value, RunStopped)
    assert "STOP was found" in metrics_of(tmp_path / "runs/toy_darts/a")["reason"]


def test_several_objectives_come_as_a_mapping(tmp_path: Path):
    run_dir = tmp_path / "runs/toy_darts/a"
    done, values = returned(tmp_path, *FAST, "run=a", "objective=[search,params_deployed]")
    assert done.code == 0, done.err
    search = metrics_of(run_dir)["search"]
    assert values == {
        "search": search["discretized_val"]["accuracy"],
        "params_deployed": search["costs"]["params_deployed"],
    }
    assert not (run_dir / "retrain").exists()
    done, values = returned(tmp_path, *FAST, "run=a", "objective=[val,accuracy,search,params_deployed]")
    assert done.code == 0, done.err
    found = metrics_of(run_dir)["found"]
    assert values == {
        "val": found["val"]["accuracy"],
        "accuracy": found["val"]["accuracy"],
        "search": search["discretized_val"]["accuracy"],
        "params_deployed": found["costs"]["params_deployed"],
    }
    assert found["costs"]["params_deployed"] == search["costs"]["params_deployed"], "table and measurement agree"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["objective=vall"], r"Unknown objective: 'vall'. Did you mean 'val'"),
        (["objective=[val,params_deployd]"], r"Did you mean 'params_deployed'"),
        (["objective=[val,latency_ms]"], r"Unknown objective: 'latency_ms'.*Valid: accuracy, params_deployed"),
        (["objective=test"], r"read once.*Use objective=val"),
        (["objective=[val,test/accuracy]"], r"read once.*Use objective=val"),
        (["objective=[]"], r"names nothing"),
        (["objective=[val,val]"], r"something twice"),
        (["objective=3.5"], r"objective=3\.5: expected a value of type str"),
        (
            ["objective=search", *(f"search.fixed.stage{n}.op=skip" for n in (1, 2, 3, 4))],
            r"every choice is fixed; use objective=val",
        ),
        (["data_fraction=0"], r"data_fraction=0\.0: expected a share above 0, at most 1"),
        (["data_fraction=1.5"], r"expected a share above 0"),
        (["lr=-1"], r"lr=-1\.0: expected a number above 0"),
        (["momentum=1"], r"momentum=1\.0: expected a number from 0 to below 1"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_objective_that_cannot_be_is_refused_before_any_training(tmp_path: Path, arguments: list[str], message: str):
    refused = run_here(tmp_path, *FAST, *arguments)
    assert refused.code == 1
    assert re.search(f"^error: .*{message}", refused.err), refused.err
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
