"""Bad input: one line that names what is wrong and what to do, an exit code, and nothing half-written."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from integration.commands import results
from integration.datasets import TINY_DETECTOR, write_image, write_voc, write_yolo
from integration.here import FAST, Outcome, at_batch, contents, metrics_of, run_here

from darts_hpo.pipeline.networks import Networks
from darts_hpo.runs import RunDirectory
from supernets.toy.task import DigitsClassification

TOY = "+experiment=toy_darts"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run, which every continued one must equal bit for bit."""
    folder = tmp_path_factory.mktemp("whole")
    done = run_here(folder, *FAST, "run=whole")
    assert done.code == 0, done.err
    return folder / "runs/toy_darts/whole"


def is_refused(outcome: Outcome, message: str, code: int = 1) -> None:
    """One line of ours on the error stream, nothing of anybody else's."""
    assert outcome.code == code
    assert re.fullmatch(rf"error: .*({message}).*\n", outcome.err), outcome.err


def nothing_is_left(folder: Path) -> bool:
    return not any(path.is_file() or path.is_symlink() for path in folder.rglob("*"))


# -- typing errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["+experiment=toy_dart"],
            r"no experiment=toy_dart\. Did you mean experiment=toy_darts.*Valid: quantum_darts.*toy_darts, yolo",
        ),
        (["supernet=gelann"], r"no supernet=gelann\. Did you mean supernet=gelan\? Valid: gelan, supercircuit, toy"),
        (["relaxation=soft"], r"Did you mean relaxation=softmax"),
        (["supernett=toy"], r"no configuration key 'supernett'\. Did you mean supernet "),
        (["serch.epochs=3"], r"no configuration key 'serch\.epochs'\. Did you mean search\.epochs"),
        ([TOY, "search.epoch=3"], r"Did you mean search\.epochs.*--cfg job"),
        ([TOY, "+search.epoch=3"], r"Unknown configuration key: 'search\.epoch'\. Did you mean 'search\.epochs'"),
        ([TOY, "supernet.widht=8"], r"Did you mean supernet\.width"),
        (["search.epochs"], r"search\.epochs"),
        (["search.epochs=many"], r"search\.epochs='many': expected a value of type int"),
        (["search.optimizer.lr=fast"], r"search\.optimizer\.lr='fast': expected a value of type float"),
        (["reference=perhaps"], r"reference='perhaps': expected a value of type bool"),
        (["search.arch_optimizer.betas=[0.5]"], r"betas=\[0\.5\]: expected 2 numbers"),
        (["search.epochs=0"], r"search\.epochs=0: expected a number of at least 1"),
        (["search.optimizer.lr=-1"], r"search\.optimizer\.lr=-1\.0: expected a number above 0"),
        (["retrain.optimizer.momentum=1.0"], r"retrain\.optimizer\.momentum=1\.0: expected a number from 0 to below 1"),
        (["data=yolo"], r"data\.root is not set; type data\.root=VALUE"),
        (["name=../elsewhere"], r"name='\.\./elsewhere' names a folder"),
        (["hydra.run.dir=/proc/nowhere/run"], r"/proc/nowhere/run could not be written"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_typing_error_is_answered_before_anything_is_made(tmp_path: Path, arguments: list[str], message: str):
    is_refused(run_here(tmp_path, *arguments), message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.image_size=100"], r"data\.image_size is 100; it must be a multiple of 32, for example 96 or 128"),
        (["supernet.options=[3x3_silu,3x3_rellu]"], r"Unknown block option: '3x3_rellu'\. Did you mean '3x3_relu'"),
        (["supernet.network=gelan-x"], r"Unknown network: 'gelan-x'\. Did you mean 'gelan-"),
        (["supernet.searched=tango"], r"searched=tango needs .* yolov9-m, -c or -base.* Use one of those"),
        (["search.fixed.neck.p9=3x3_relu"], r"Unknown choice of gelan-t/deployed: 'neck\.p9'\. Did you mean 'neck\.p"),
        (["search.fixed.neck.p4=3x3_rellu"], r"'3x3_rellu'\. Did you mean '3x3_relu'"),
        ([TOY, "search.fixed.stage1.op=conv9x9"], r"'conv9x9'\. Did you mean 'conv"),
        ([TOY, "search.optimizer.name=sdg"], r"Unknown optimizer: 'sdg'\. Did you mean 'sgd'"),
        ([TOY, "retrain.schedule.decay=line"], r"Unknown learning rate decay: 'line'\. Did you mean 'linear'"),
        ([TOY, "search.batch_size=9999"], r"train split has too few samples for search\.batch_size=9999"),
        ([TOY, "retrain.batch_size=9999"], r"train\+arch split has too few samples for retrain\.batch_size=9999"),
        ([TOY, "trainer.accelerator=gpuu"], r"trainer\.accelerator=gpuu .*Available names are.*accelerator=auto"),
        ([TOY, "trainer.precision=12"], r"Unknown trainer\.precision: '12'\. Valid: 32-true"),
        ([TOY, "supernet.width=wide"], r"width='wide': expected a value of type int"),
        ([TOY, "supernet._target_=os.system"], r"'os\.system' lies outside the packages"),
        ([TOY, "penalty=flops", "costs.gflops=null"], r"Unknown cost in penalty\.cost .*: 'flops'\. Valid: "),
        (["data=auto", "data.root=missing"], r"Data root missing does not exist; pass data\.root="),
        (["data=bccd"], r"blood cell images are not here; pass data\.root=.*data\.download=true"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_mistake_found_at_the_start_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    small = [] if TOY in arguments or arguments[0].startswith("data=") else ["data.source.n_train=8"]
    is_refused(run_here(tmp_path, *arguments, *small), message)
    assert nothing_is_left(tmp_path)


# -- data ----------------------------------------------------------------------------------------------------------


def class_out_of_range(root: Path) -> str:
    write_yolo(root)
    (root / "labels/03.txt").write_text("2 0.5 0.5 0.4 0.5\n")
    return r"labels/03\.txt:1: class id 2 is out of range; valid are 0 to 1"


def truncated_jpeg(root: Path) -> str:
    write_yolo(root)
    image = root / "images/05.jpg"
    image.write_bytes(image.read_bytes()[:700])
    return r"Image .*05\.jpg cannot be decoded.*replace or remove it, or pass data\.on_bad_image=skip"


def entity_bomb(root: Path) -> str:
    write_voc(root)
    (root / "Annotations/04.xml").write_text(
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
        "<annotation><object><name>&b;</name></object></annotation>"
    )
    return r"04\.xml declares a document type or XML entities.*refused"


def path_out_of_the_root(root: Path) -> str:
    write_yolo(root)
    outside = root.parent / "outside"
    outside.mkdir()
    write_image(outside / "a.jpg", 0)
    (root / "data.yaml").write_text("train: ../outside\nnames: [cat, dog]\n")
    return r"data\.yaml names .*outside, which leads out of the data root"


def no_known_format(root: Path) -> str:
    root.mkdir()
    (root / "notes.txt").write_text("nothing here")
    return r"No known detection format in .*Looked for yolo: .*coco: .*voc: "


@pytest.mark.parametrize(
    "broken", [class_out_of_range, truncated_jpeg, entity_bomb, path_out_of_the_root, no_known_format]
)
def test_broken_data_are_named_and_nothing_is_left(tmp_path: Path, broken: Callable[[Path], str]):
    message = broken(tmp_path / "data")
    (tmp_path / "work").mkdir()
    refused = run_here(tmp_path / "work", "data=auto", f"data.root={tmp_path / 'data'}", *TINY_DETECTOR)
    is_refused(refused, message)
    assert nothing_is_left(tmp_path / "work")


def test_the_remedy_for_a_damaged_image_and_strange_boxes_are_trained_around(tmp_path: Path):
    root = tmp_path / "data"
    truncated_jpeg(root)
    (root / "labels/00.txt").write_text("")  # a background image
    (root / "labels/01.txt").unlink()  # another
    (root / "labels/02.txt").write_text("0 0.5 0.5 0.0 0.5\n1 0.5 0.5 0.2 0.2\n")  # no width
    (root / "labels/04.txt").write_text("0 0.9 0.5 0.6 0.5\n1 3.0 0.5 0.2 0.2\n")  # reaches out; lies outside
    arguments = ["data=yolo", f"data.root={root}", "data.on_bad_image=skip", "supernet.searched=none", *TINY_DETECTOR]
    done = run_here(tmp_path, *arguments, "run=a")
    assert done.code == 0, done.err
    log = (tmp_path / "runs/default/a/train.log").read_text()
    assert re.search(r"2 degenerate or out-of-image boxes dropped, first in .*02\.txt", log)
    assert re.search(r"1 boxes clipped to the image, first in .*04\.txt", log)
    assert re.search(r"1 images that cannot be decoded skipped, first in .*05\.jpg", log)
    assert metrics_of(tmp_path / "runs/default/a")["status"] == "COMPLETED"


# -- training that diverges ----------------------------------------------------------------------------------------


def has_failed(run_dir: Path, reason: str) -> None:
    """``metrics.json`` says why, and no table holds a number that is none."""
    metrics = metrics_of(run_dir)
    assert metrics["status"] == "FAILED"
    assert re.search(reason, metrics["reason"])
    for table in run_dir.rglob("metrics.csv"):
        for row in csv.DictReader(table.read_text().splitlines()):
            numbers = [float(cell) for name, cell in row.items() if cell and name != "not_finite"]
            assert all(map(math.isfinite, numbers)), table
    assert RunDirectory(run_dir).status() == "FAILED"


@pytest.mark.parametrize("stage", ["search", "retrain"])
def test_an_absurd_learning_rate_fails_with_its_reason(tmp_path: Path, stage: str):
    longer = ("search.batch_size=64", "retrain.batch_size=64", "run=a")
    failed = run_here(tmp_path, *(a for a in FAST if "batch_size" not in a), *longer, f"{stage}.optimizer.lr=1e6")
    is_refused(failed, r"became nan: training diverged\. Lower the learning rate|not finite: training diverged")
    has_failed(tmp_path / "runs/toy_darts/a", "training diverged. Lower the learning rate")
    assert (metrics_of(tmp_path / "runs/toy_darts/a")["found"]) is None


@pytest.mark.parametrize(("lr", "momentum"), [(0.1, 0.0), (1000.0, 0.999999)])
def test_the_ends_of_what_a_sweep_may_propose_give_a_score(tmp_path: Path, lr: float, momentum: float):
    done = run_here(tmp_path, *FAST, "search.epochs=1", "retrain.epochs=1", "run=a", f"lr={lr}", f"momentum={momentum}")
    assert done.code == 0, done.err
    metrics = metrics_of(tmp_path / "runs/toy_darts/a")
    assert metrics["status"] == "COMPLETED"
    assert 0 <= metrics["found"]["val"]["accuracy"] <= 1


def nan_loss(terms: dict[str, Any]) -> None:
    terms["loss"] = terms["loss"] * float("nan")


# Of FAST: 5 batches of each kind in an epoch of the search, hence 30 losses; the retraining's come after.
@pytest.mark.parametrize(("batch", "which"), [(11, "arch loss"), (12, "train loss"), (32, "retraining loss")])
def test_an_injected_nan_fails_the_run_which_then_continues_without_it(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, batch: int, which: str
):
    with monkeypatch.context() as defect:
        at_batch(defect, batch, nan_loss)
        is_refused(run_here(tmp_path, *FAST, "run=a"), f"The {which} became nan: training diverged")
    has_failed(tmp_path / "runs/toy_darts/a", f"The {which} became nan")
    assert run_here(tmp_path, *FAST, "run=a").code == 0
    assert results(tmp_path / "runs/toy_darts/a") == results(whole)


def test_weights_that_are_nan_are_no_score(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch):
    original = Networks.best

    def spoilt(self: Networks, *arguments: Any) -> torch.nn.Module:
        network = original(self, *arguments)
        with torch.no_grad():
            next(network.parameters()).fill_(float("nan"))
        return network

    with monkeypatch.context() as defect:
        defect.setattr(Networks, "best", spoilt)
        is_refused(run_here(tmp_path, *FAST, "run=a"), "outputs on the val split are not finite")
    has_failed(tmp_path / "runs/toy_darts/a", "outputs on the val split are not finite")
    assert run_here(tmp_path, *FAST, "run=a").code == 0
    assert results(tmp_path / "runs/toy_darts/a") == results(whole)


def test_a_metric_that_is_nan_is_no_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Broken:
        def update(self, *_: Any) -> None:
            pass

        def compute(self) -> dict[str, float]:
            return {"accuracy": float("nan")}

    monkeypatch.setattr(DigitsClassification, "metric", lambda self: Broken())
    is_refused(run_here(tmp_path, *FAST, "run=a"), "val score accuracy is nan")
    has_failed(tmp_path / "runs/toy_darts/a", "val score accuracy is nan")


# -- the disk, and who may write on it -----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A folder on a disk that is nearly full, and how to free space.

    A real file system where this process may mount one, else an operating system that refuses every larger file.
    """
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    mounted = (
        shutil.which("mount") is not None and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    )
    if mounted:
        ballast = folder / "ballast"
        free = shutil.disk_usage(folder).free - 128 * 1024
        ballast.write_bytes(b"\0" * free)
        yield folder, ballast.unlink
        subprocess.run(["umount", str(folder)], check=True)
        return
    fsync = os.fsync

    def refusing(descriptor: int) -> None:
        if os.fstat(descriptor).st_size > 128 * 1024:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refusing)
    yield folder, lambda: monkeypatch.setattr(os, "fsync", fsync)


def test_a_full_disk_is_said_and_the_same_command_continues(
    tmp_path: Path, small_disk: tuple[Path, Callable[[], None]], whole: Path
):
    folder, free_space = small_disk
    run_dir = folder / "run"
    is_refused(
        run_here(tmp_path, *FAST, f"hydra.run.dir={run_dir}"), r"The disk is full.*last\.ckpt.*run the same command"
    )
    assert not list(run_dir.rglob("*.partial"))
    assert not (run_dir / "search/last.ckpt").exists()
    free_space()
    continued = run_here(tmp_path, *FAST, f"hydra.run.dir={run_dir}")
    assert continued.code == 0, continued.err
    assert results(run_dir) == results(whole)


def test_a_second_process_is_refused_and_the_first_undisturbed(tmp_path: Path, whole: Path):
    second: list[Outcome] = []
    run_dir = tmp_path / "runs/toy_darts/a"
    with pytest.MonkeyPatch.context() as patch:
        # In the middle of the first run's search. (A lock of the same process excludes as one of another does.)
        at_batch(patch, 8, lambda _: second.append(refused_while_locked(run_dir)))
        first = run_here(tmp_path, *FAST, "run=a")
    assert first.code == 0, first.err
    is_refused(second[0], rf"a is in use by process {os.getpid()}\. Wait until it ends.*run=NAME")
    assert results(run_dir) == results(whole)


def refused_while_locked(run_dir: Path) -> Outcome:
    before = contents(run_dir, "train.log")
    process = subprocess.run(
        [sys.executable, "-m", "darts_hpo", *FAST, "run=a"],
        cwd=run_dir.parents[2],
        env={name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert contents(run_dir, "train.log") == before
    return Outcome(process.returncode, process.stdout, process.stderr)


def test_another_configuration_under_the_same_name_is_refused_with_the_difference(tmp_path: Path, whole: Path):
    run_dir = tmp_path / "runs/toy_darts/whole"
    shutil.copytree(whole, run_dir)
    before = contents(run_dir, "train.log", ".lock")
    refused = run_here(tmp_path, *FAST, "run=whole", "search.optimizer.lr=0.01", "retrain.epochs=9")
    assert refused.code == 1
    assert "belongs to another configuration" in refused.err
    assert "search.optimizer.lr: 0.05 -> 0.01" in refused.err
    assert "retrain.epochs: 3 -> 9" in refused.err
    assert "run=NAME" in refused.err
    assert contents(run_dir, "train.log", ".lock") == before


def test_a_failed_start_leaves_an_existing_run_as_it_was(tmp_path: Path):
    budget = (*FAST, "run=a", "budget.search_epochs=1")
    run_dir = tmp_path / "runs/toy_darts/a"
    assert run_here(tmp_path, *budget).code == 3
    (run_dir / "splits.json").write_text("{}")
    (run_dir / "provenance.json").unlink()  # would be written anew
    before = contents(run_dir, "train.log", ".lock")
    is_refused(run_here(tmp_path, *budget), r"splits\.json is no division of the 1797 digits.*run=NAME")
    assert contents(run_dir, "train.log", ".lock") == before


def test_a_failed_start_in_somebody_elses_folder_spares_what_is_there(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    is_refused(run_here(tmp_path, TOY, "hydra.run.dir=.", "search.batch_size=9999"), "too few samples")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert {path.name for path in tmp_path.iterdir()} <= {"thesis.tex", "train.log", ".lock"}


# -- damaged files -------------------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damaged", "remedied"),
    [
        ("search/last.ckpt", "search/last.ckpt"),
        ("search/costs.json", "search/costs.json"),
        ("retrain/last.ckpt", "retrain/last.ckpt"),
        ("retrain/best.ckpt", "retrain"),
        ("genotype.json", "genotype.json"),
    ],
)
def test_a_damaged_file_is_named_with_a_remedy_that_works(tmp_path: Path, whole: Path, damaged: str, remedied: str):
    run_dir = tmp_path / "runs/toy_darts/whole"
    shutil.copytree(whole, run_dir)
    metrics = metrics_of(run_dir) | {"status": "RUNNING", "found": None}  # as if killed before the evaluation
    del metrics["stages"]["export"]
    (run_dir / "metrics.json").write_text(json.dumps(metrics))
    if damaged.startswith("search"):
        (run_dir / "genotype.json").unlink()
    truncate(run_dir / damaged)
    is_refused(run_here(tmp_path, *FAST, "run=whole"), rf"{damaged} is .*; delete (it|.*{remedied}) and run the")
    target = run_dir / remedied
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    again = run_here(tmp_path, *FAST, "run=whole")
    assert again.code == 0, again.err
    assert results(run_dir) == results(whole)


# -- runs that end early -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [7, 32], ids=["search", "retrain"])
def test_a_stop_file_ends_the_run_and_the_same_command_continues(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, batch: int
):
    run_dir = tmp_path / "runs/toy_darts/a"
    with monkeypatch.context() as wish:
        at_batch(wish, batch, lambda _: (run_dir / "STOP").touch())
        stopped = run_here(tmp_path, *FAST, "run=a")
    assert stopped.code == 3
    assert re.fullmatch(r"stopped: .*STOP was found\. The same command continues\.\n", stopped.err)
    assert metrics_of(run_dir)["status"] == "STOPPED"
    assert run_here(tmp_path, *FAST, "run=a").code == 0
    assert results(run_dir) == results(whole)


def test_budgets_end_a_run_early_and_larger_ones_continue_it(tmp_path: Path, whole: Path):
    run_dir = tmp_path / "runs/toy_darts/a"
    first = run_here(tmp_path, *FAST, "run=a", "budget.search_epochs=1")
    assert first.code == 3
    assert "search ended after epoch 1 of 3: budget.search_epochs is used up" in first.err
    before = contents(run_dir / "search")
    assert run_here(tmp_path, *FAST, "run=a", "budget.search_epochs=1").code == 3
    assert contents(run_dir / "search") == before, "a budget that is used up buys no further epoch"
    second = run_here(tmp_path, *FAST, "run=a", "budget.search_epochs=3", "budget.retrain_epochs=2")
    assert second.code == 0, "there is a val score by now: the run pauses and returns it"
    assert "paused: retrain ended after epoch 2 of 3: budget.retrain_epochs is used up" in second.out
    assert metrics_of(run_dir)["status"] == "STOPPED"
    assert run_here(tmp_path, *FAST, "run=a").code == 0
    assert results(run_dir) == results(whole)


@pytest.mark.parametrize("batch", [12, 32], ids=["search", "retrain"])
def test_an_interrupted_run_says_so_and_continues(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, batch: int
):
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as person:
        at_batch(person, batch, lambda _: signal.raise_signal(signal.SIGINT))
        interrupted = run_here(tmp_path, *FAST, "run=a")
    assert interrupted.code == 130
    assert re.fullmatch(r"interrupted: the same command continues.*\n", interrupted.err)
    assert signal.getsignal(signal.SIGINT) is handler
    assert RunDirectory(tmp_path / "runs/toy_darts/a").status() == "INTERRUPTED"
    assert run_here(tmp_path, *FAST, "run=a").code == 0
    assert results(tmp_path / "runs/toy_darts/a") == results(whole)
