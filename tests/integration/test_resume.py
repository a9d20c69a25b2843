"""A killed run continues: the same command, the same result, bit for bit."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from integration.commands import TOY, killed, results, run

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


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    done = run(folder, *TOY, "run=whole")
    assert done.returncode == 0, done.stderr
    return folder / "runs/toy_darts/whole"


def with_latency_table_of(whole: Path, other: Path) -> None:
    (other / "search").mkdir(parents=True)
    shutil.copy(whole / "search/costs.json", other / "search/costs.json")


def test_a_run_killed_in_every_stage_continues_bit_equally(uninterrupted: Path):
    folder = uninterrupted.parents[2]
    directory = uninterrupted.parent / "killed"
    with_latency_table_of(uninterrupted, directory)
    moments: list[tuple[str, int, int | str]] = [
        ("search", 1, 3),
        ("search", 1, "checkpoint"),
        ("retrain", 0, 5),
        ("retrain", 2, "checkpoint"),
        ("reference", 1, 0),
        ("0", 1, "checkpoint"),  # of the random networks
        ("1", 2, 1),
    ]
    for moment in moments:
        assert killed(folder, moment, *TOY, "run=killed"), moment
    done = run(folder, *TOY, "run=killed")
    assert done.returncode == 0, done.stderr
    assert results(directory) == results(uninterrupted)
    tables = [
        "search/alphas.jsonl",
        *(f"{stage}/metrics.csv" for stage in ("search", "retrain", "reference", "random/1")),
    ]
    for table in tables:
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
    whole, continued = (tmp_path / "runs/yolov9_darts" / name for name in ("whole", "killed"))
    done = run(tmp_path, *SMALL_DETECTION, "run=whole")
    assert done.returncode == 0, done.stderr
    with_latency_table_of(whole, continued)
    draw = random.Random(0)
    epochs = range(4) if stage == "search" else range(5)
    moments: list[tuple[str, int, int | str]] = [(stage, epoch, draw.randrange(3)) for epoch in epochs]
    moments.insert(2, (stage, 1, "checkpoint"))
    for moment in moments:
        assert killed(tmp_path, moment, *SMALL_DETECTION, "run=killed"), moment
    done = run(tmp_path, *SMALL_DETECTION, "run=killed")
    assert done.returncode == 0, done.stderr
    assert results(continued) == results(whole)


def without_seconds(path: Path) -> list[str]:
    """The lines of a table without the column of the clock."""
    lines = path.read_text().splitlines()
    if path.suffix != ".csv":
        return lines
    position = lines[0].split(",").index("seconds")
    return [",".join(cell for i, cell in enumerate(line.split(",")) if i != position) for line in lines]
