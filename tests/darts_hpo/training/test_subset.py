"""Nested parts of a data set."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from darts_hpo.training.subset import nested_subset
from supernets.detection.augment import Augmentation
from supernets.detection.digits_scenes import digits_scenes
from supernets.detection.task import DetectionTask
from supernets.toy.task import DigitsClassification

FRACTIONS = (0.01, 0.125, 0.25, 0.5, 0.9, 1.0)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("size", [1, 7, 100, 403])
def test_parts_lie_in_one_another_and_have_their_size(size: int, seed: int):
    strata = np.random.default_rng(seed).integers(0, 5, size).tolist()
    parts = [nested_subset(strata, fraction, seed) for fraction in FRACTIONS]
    for fraction, part in zip(FRACTIONS, parts, strict=True):
        assert part == sorted(set(part))
        assert fraction * size <= len(part) < fraction * size + 1
    for smaller, larger in itertools.pairwise(parts):
        assert set(smaller) <= set(larger)
    assert parts[-1] == list(range(size))


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_every_stratum_keeps_its_share_to_within_one(fraction: int):
    strata = ["a"] * 200 + ["b"] * 50 + ["c"] * 7
    counts = Counter(strata[position] for position in nested_subset(strata, fraction, 0))
    for stratum, size in Counter(strata).items():
        assert abs(counts[stratum] - fraction * size) <= 1


def test_another_seed_takes_other_samples_and_the_same_one_the_same():
    strata = [0] * 100
    assert nested_subset(strata, 0.3, 0) == nested_subset(strata, 0.3, 0)
    assert nested_subset(strata, 0.3, 0) != nested_subset(strata, 0.3, 1)
    assert nested_subset(strata, 0.3, 0) != list(range(30)), "drawn, not the first ones"


def digits(folder: Path, fraction: float) -> DigitsClassification:
    task = DigitsClassification()
    task.prepare(folder, 0)
    task.reduce_training_data(fraction, 0)
    return task


def test_the_digits_train_on_a_part_and_are_judged_on_all(tmp_path: Path):
    def images(task: DigitsClassification, split: str) -> list[int]:
        loader = task.loader(split, training=False, batch_size=64)  # type: ignore[arg-type]
        return sorted(int(index) for batch in loader for index in batch.indices)

    whole, half, quarter = (digits(tmp_path, fraction) for fraction in (1.0, 0.5, 0.25))
    for split in ("train", "arch", "train+arch"):
        parts = [images(task, split) for task in (quarter, half, whole)]
        assert set(parts[0]) < set(parts[1]) < set(parts[2])
        assert len(parts[1]) / len(parts[2]) == pytest.approx(0.5, abs=0.01)
    for split in ("val", "test"):
        assert images(whole, split) == images(half, split) == images(quarter, split)
    assert set(images(quarter, "train+arch")) == set(images(quarter, "train")) | set(images(quarter, "arch"))


def test_a_detection_task_draws_no_mosaic_partner_from_what_is_left_out(tmp_path: Path):
    task = DetectionTask(
        digits_scenes(n_train=24, n_arch=8, n_val=4, n_test=4, image_size=64), 64, Augmentation(mosaic=1.0)
    )
    task.prepare(tmp_path, 0)
    whole = {split: task.splits.ids[split] for split in ("train", "arch", "val", "test")}
    task.reduce_training_data(0.25, 0)
    assert {split: len(task.splits.ids[split]) for split in whole} == {"train": 6, "arch": 2, "val": 4, "test": 4}
    assert set(task.splits.ids["train"]) < set(whole["train"])
    dataset = task.dataset("train+arch", training=True)
    assert {record.id for record in dataset.records} == set(task.splits.ids["train"]) | set(task.splits.ids["arch"])
    assert set(map(len, [task.strata("train"), task.splits.ids["train"]])) == {6}
