"""Splits: disjoint whatever is offered, the test split untouched, saved and loaded."""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from darts_hpo.errors import ConfigError, DataError
from supernets.detection.records import DetectionData, ImageRecord
from supernets.detection.splits import (
    SPLIT_NAMES,
    DetectionSplits,
    content_keys,
    make_splits,
    prepare_splits,
    verify_disjoint,
)


def record(identity, number):
    """An image whose content is its number."""
    pixels = np.full((8, 8, 3), number % 251, np.uint8)
    pixels[0, 0] = number // 251
    return ImageRecord(identity, pixels, 8, 8, np.array([[1, 1, 5, 5]], np.float32), np.array([0]))


def dataset(**sizes):
    """So many distinct images in each offered split."""
    start = 0
    splits = {}
    for name, size in sizes.items():
        splits[name] = tuple(record(f"{name}/{i}", start + i) for i in range(size))
        start += size
    return DetectionData(("thing",), splits, None, "memory")


@settings(max_examples=60, deadline=None)
@given(
    train=st.integers(4, 60),
    offered=st.fixed_dictionaries({}, optional={name: st.integers(1, 9) for name in ("arch", "val", "test")}),
    seed=st.integers(0, 2**31),
    fraction=st.floats(0.05, 0.4),
)
def test_four_disjoint_splits_of_everything_offered(train, offered, seed, fraction):
    data = dataset(train=train, **offered)
    splits = make_splits(data, seed, arch_fraction=fraction, val_fraction=fraction, test_fraction=fraction)
    everything = [identity for name in SPLIT_NAMES for identity in splits.ids[name]]
    assert sorted(everything) == sorted(r.id for records in data.splits.values() for r in records)
    assert all(splits.ids[name] for name in SPLIT_NAMES)
    for name in offered:
        assert list(splits.ids[name]) == [r.id for r in data.splits[name]]
    # What is missing comes from the training images alone.
    for name in set(SPLIT_NAMES) - set(offered):
        assert all(identity.startswith("train/") for identity in splits.ids[name])


def test_sizes_follow_the_fractions():
    splits = make_splits(dataset(train=100), 0, arch_fraction=0.3, val_fraction=0.2, test_fraction=0.1)
    assert {name: len(splits.ids[name]) for name in SPLIT_NAMES} == {
        "train": 49,
        "arch": 21,
        "val": 20,
        "test": 10,
    }


def test_the_drawing_depends_on_the_seed_alone():
    data = dataset(train=50, val=5, test=5)
    assert make_splits(data, 1) == make_splits(data, 1)
    assert make_splits(data, 1).ids["arch"] != make_splits(data, 2).ids["arch"]


def test_records_of_train_and_arch_are_their_union():
    data = dataset(train=20, val=5, test=5)
    splits = make_splits(data, 0)
    both = [r.id for r in splits.records(data, "train+arch")]
    assert both == [*splits.ids["train"], *splits.ids["arch"]]


@pytest.mark.parametrize("name", ["arch_fraction", "val_fraction", "test_fraction"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, float("nan")])
def test_fractions_out_of_range(name, value):
    with pytest.raises(ConfigError, match=rf"task\.{name} is .*; it must lie between 0 and 1"):
        make_splits(dataset(train=50), 0, **{name: value})


def test_no_training_images():
    with pytest.raises(DataError, match="offers no training images"):
        make_splits(dataset(val=5, test=5), 0)


def test_a_training_list_that_is_the_validation_list_is_named():
    data = dataset(train=9)
    copied = DetectionData(data.class_names, {"train": data.splits["train"], "val": data.splits["train"]}, None, "x")
    with pytest.raises(DataError, match=r"every one of train is in another split too \(train/0 is train/0 of val\)"):
        make_splits(copied, 0)


def test_too_few_images():
    with pytest.raises(DataError, match="3 training images are too few for the splits train, test, val, arch"):
        make_splits(dataset(train=3), 0)


def test_duplicates_leave_the_training_side(caplog):
    data = dataset(train=20, val=5, test=5)
    copies = (
        record("train/like_test", 25),  # the first test image
        record("train/like_val", 20),
        record("train/like_train", 3),
    )
    val = (*data.splits["val"], record("val/like_test", 26))
    data = DetectionData(
        data.class_names,
        {**data.splits, "train": (*data.splits["train"], *copies), "val": val},
        None,
        "memory",
    )
    with caplog.at_level(logging.WARNING):
        splits = make_splits(data, 0)
    assert sorted(splits.ids["train"] + splits.ids["arch"]) == sorted(f"train/{i}" for i in range(20))
    assert splits.ids["val"] == tuple(f"val/{i}" for i in range(5))
    assert splits.ids["test"] == tuple(f"test/{i}" for i in range(5))
    assert "3 duplicate images removed from train" in caplog.text
    assert "1 duplicate images removed from val, for example val/like_test is test/1 of test" in caplog.text


@pytest.mark.parametrize("link", ["symbolic", "hard", "copy"])
def test_links_and_copies_are_the_same_image(tmp_path, link):
    original, other, third = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(original)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(third)
    {
        "symbolic": lambda: other.symlink_to(original),
        "hard": lambda: os.link(original, other),
        "copy": lambda: other.write_bytes(original.read_bytes()),
    }[link]()
    files = [
        ImageRecord(path.name, path, 8, 8, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        for path in (original, other, third)
    ]
    first, second, unlike = content_keys(files)
    assert first == second != unlike
    data = DetectionData(("x",), {"train": (record("r", 1), *files)}, None, "memory")
    ids = {"train": ("r",), "arch": ("a.png",), "val": ("b.png",), "test": ("c.png",)}
    with pytest.raises(DataError, match=r"Image b\.png of split 'val' is also in split 'arch' \(as a\.png\)"):
        verify_disjoint(DetectionSplits(ids, 0), data)


def test_saved_splits_are_used_again(tmp_path):
    data = dataset(train=30, val=5, test=5)
    first = prepare_splits(data, tmp_path / "run", 0, arch_fraction=0.5)
    assert json.loads((tmp_path / "run/splits.json").read_text())["schema_version"] == 1
    # Seed and fractions of a continued run do not matter: the file does.
    assert prepare_splits(data, tmp_path / "run", 99, arch_fraction=0.1) == first
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["splits.json"]


def test_saved_splits_with_an_image_that_is_gone(tmp_path):
    prepare_splits(dataset(train=30, val=5, test=5), tmp_path, 0)
    with pytest.raises(DataError, match=r"Image val/4 of split 'val' .* is not in"):
        prepare_splits(dataset(train=30, val=4, test=5), tmp_path, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"schema_version": 1, "seed": 0, "splits": {"train": []}}', "cannot be read"),
        ('{"schema_version": 9}', "has version 9, expected 1"),
    ],
)
def test_damaged_file(tmp_path, text, message):
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(DataError, match=message):
        prepare_splits(dataset(train=30), tmp_path, 0)


def test_saved_splits_that_overlap_are_refused(tmp_path):
    data = dataset(train=10)
    ids = {"train": ("train/0", "train/1"), "arch": ("train/2",), "val": ("train/1",), "test": ("train/3",)}
    DetectionSplits(ids, 0).save(tmp_path)
    with pytest.raises(DataError, match="Image train/1 of split 'val' is also in split 'train'"):
        prepare_splits(data, Path(tmp_path), 0)
