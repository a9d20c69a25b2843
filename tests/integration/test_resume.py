"""A killed run continues: the same command, the same result, bit for bit."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.commands import TOY, kill_when, results, run, start

SMALL_DETECTION = (
    "+experiment=yolov9_darts",
    "supernet.network=gelan-t",
    "supernet.width=0.25",
    "data.image_size=64",
    "data.source.n_train=24",
    "data.source.n_arch=16",
    "data.source.n_val=8",
    "data.source.n_test=8",
    "data.augmentation.mosaic=1.0",
    "data.augmentation.close_mosaic=2",
    "data.recipe.search_epochs=4",
    "data.recipe.retrain_epochs=5",
    "data.recipe.batch_size=8",
    "trainer.threads=1",
)


def rows(path: Path) -> int:
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def being_written(checkpoint: Path) -> Callable[[], bool]:
    return lambda: any(checkpoint.parent.glob(f".{checkpoint.name}.*")) if checkpoint.parent.is_dir() else False


def reaches(table: Path, epochs: int) -> Callable[[], bool]:
    return lambda: rows(table) >= epochs


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    done = run(folder, *TOY, "run=whole")
    assert done.returncode == 0, done.stderr
    return folder / "runs/toy_darts/whole"


def with_latency_table_of(whole: Path, killed: Path) -> None:
    (killed / "search").mkdir(parents=True)
    shutil.copy(whole / "search/costs.json", killed / "search/costs.json")


def test_a_run_killed_in_every_stage_continues_bit_equally(uninterrupted: Path):
    folder = uninterrupted.parents[2]
    directory = uninterrupted.parent / "killed"
    with_latency_table_of(uninterrupted, directory)
    moments = [
        reaches(directory / "search/metrics.csv", 1),
        being_written(directory / "search/last.ckpt"),
        reaches(directory / "retrain/metrics.csv", 2),
        being_written(directory / "reference/last.ckpt"),
    ]
    kills = sum(kill_when(start(folder, *TOY, "run=killed"), moment) for moment in moments)
    assert kills == len(moments)
    done = run(folder, *TOY, "run=killed")
    assert done.returncode == 0, done.stderr
    assert results(directory) == results(uninterrupted)
    for table in ("search/alphas.jsonl", "search/metrics.csv", "retrain/metrics.csv", "reference/metrics.csv"):
        assert without_seconds(directory / table) == without_seconds(uninterrupted / table)
    assert not list(directory.rglob("*.partial")), "what a crash left half-written is removed"


def test_a_finished_run_says_so_and_trains_nothing(uninterrupted: Path):
    before = (uninterrupted / "metrics.json").read_text()
    again = run(uninterrupted.parents[2], *TOY, "run=whole")
    assert again.returncode == 0
    assert "is finished" in again.stdout
    assert (uninterrupted / "metrics.json").read_text() == before


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["search", "retrain"])
def test_a_detection_run_with_average_and_mosaic_killed_at_random_moments(tmp_path: Path, stage: str):
    whole, killed = (tmp_path / "runs/yolov9_darts" / name for name in ("whole", "killed"))
    done = run(tmp_path, *SMALL_DETECTION, "run=whole")
    assert done.returncode == 0, done.stderr
    with_latency_table_of(whole, killed)
    moments = random.Random(0)
    for attempt in range(5):
        epoch = min(attempt, 3)
        process = start(tmp_path, *SMALL_DETECTION, "run=killed")
        kill_when(process, reaches(killed / stage / "metrics.csv", epoch), delay=moments.uniform(0.0, 2.0))
    done = run(tmp_path, *SMALL_DETECTION, "run=killed")
    assert done.returncode == 0, done.stderr
    assert results(killed) == results(whole)


def without_seconds(path: Path) -> list[str]:
    """The lines of a table without the column of the clock."""
    lines = path.read_text().splitlines()
    if path.suffix != ".csv":
        return lines
    position = lines[0].split(",").index("seconds")
    return [",".join(cell for i, cell in enumerate(line.split(",")) if i != position) for line in lines]
