"""Scenes of digits: reproducible, tightly boxed, and no digit in two splits."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from darts_hpo.errors import ConfigError
from supernets.detection import digits_scenes as module
from supernets.detection.digits_scenes import digits_scenes, source_pools
from supernets.detection.splits import make_splits

SMALL = {"n_train": 12, "n_arch": 6, "n_val": 5, "n_test": 4}


@pytest.fixture(scope="module")
def data():
    return digits_scenes(**SMALL)


def test_sizes_and_classes(data):
    assert {name: len(records) for name, records in data.splits.items()} == {
        "train": 12,
        "arch": 6,
        "val": 5,
        "test": 4,
    }
    assert data.class_names == tuple("0123456789")
    for records in data.splits.values():
        for record in records:
            assert record.load().shape == (160, 160, 3)
            assert record.load().dtype == np.uint8
            assert 1 <= len(record.labels) <= 10
            assert record.boxes.min() >= 0
            assert record.boxes.max() <= 160


def test_same_arguments_same_scenes(data):
    again = digits_scenes(**SMALL)
    other = digits_scenes(**SMALL, seed=1)
    for split, records in data.splits.items():
        for first, second in zip(records, again.splits[split], strict=True):
            assert first.digest() == second.digest()
            assert first.boxes.tolist() == second.boxes.tolist()
        assert [r.digest() for r in records] != [r.digest() for r in other.splits[split]]


def test_more_scenes_leave_the_first_ones_unchanged(data):
    more = digits_scenes(**{**SMALL, "n_train": 14})
    assert [r.digest() for r in more.splits["train"][:12]] == [r.digest() for r in data.splits["train"]]
    assert [r.digest() for r in more.splits["test"]] == [r.digest() for r in data.splits["test"]]


def test_no_digit_is_in_two_splits_and_every_class_in_each():
    targets = load_digits().target
    pools = source_pools(targets, seed=3)
    everything = np.concatenate(list(pools.values()))
    assert len(everything) == len(np.unique(everything)) == len(targets) == 1797
    for pool in pools.values():
        shares = np.bincount(targets[pool], minlength=10) / np.bincount(targets)
        assert shares.max() - shares.min() < 0.02


def test_scenes_draw_from_their_own_pool(monkeypatch):
    used = {}
    compose = module._compose

    def recording(rng, digits, targets, pool, size, number):
        used.setdefault(len(used), set(pool.tolist()))
        return compose(rng, digits, targets, pool, size, number)

    monkeypatch.setattr(module, "_compose", recording)
    digits_scenes(1, 1, 1, 1)
    pools = list(used.values())
    assert len(pools) == 4
    assert not any(a & b for i, a in enumerate(pools) for b in pools[i + 1 :])


def test_boxes_are_the_extent_of_the_ink(monkeypatch):
    monkeypatch.setattr(module, "_background", lambda rng, size: np.full((size, size, 3), 128, np.float32))
    data = digits_scenes(8, 1, 1, 1, digits_per_scene=(1, 1))
    for record in data.splits["train"]:
        x1, y1, x2, y2 = record.boxes[0].astype(int)
        # Noise has a deviation of at most 8 levels, ink is far from the background's 128 in brightness.
        ink = np.abs(record.load() @ np.array([0.299, 0.587, 0.114]) - 128) > 32
        rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        assert [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] == pytest.approx([x1, y1, x2, y2], abs=1)
        assert 0.08 * 160 <= y2 - y1 <= 0.42 * 160


def test_digits_hardly_overlap(data):
    for record in data.splits["train"]:
        b = record.boxes
        sides = np.minimum(b[:, None, 2:], b[None, :, 2:]) - np.maximum(b[:, None, :2], b[None, :, :2])
        area = (b[:, 2:] - b[:, :2]).prod(1)
        overlap = sides.clip(0).prod(2) / np.minimum(area[:, None], area[None])
        np.fill_diagonal(overlap, 0)
        assert overlap.max(initial=0) <= 0.15 + 1e-6


def test_offered_arch_split_is_used(data):
    splits = make_splits(data, 0)
    assert {name: len(ids) for name, ids in splits.ids.items()} == {
        "train": 12,
        "arch": 6,
        "val": 5,
        "test": 4,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_val": 0}, r"data\.source\.n_val is 0"),
        ({"image_size": 32}, r"data\.image_size is 32"),
        ({"digits_per_scene": (5, 3)}, r"data\.source\.digits_per_scene is \[5, 3\]"),
        ({"digits_per_scene": (0, 3)}, r"data\.source\.digits_per_scene"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ConfigError, match=message):
        digits_scenes(**{**SMALL, **arguments})
