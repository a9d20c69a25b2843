"""The detection task: settings in range, one cache for all splits, ignored regions up to the score."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.ops import box_convert

from darts_hpo.errors import ConfigError
from supernets.detection.augment import Augmentation
from supernets.detection.digits_scenes import digits_scenes
from supernets.detection.task import DetectionTask

DATA = digits_scenes(6, 3, 2, 2, image_size=64)


def made(data=DATA, **settings):
    return DetectionTask(data, 64, Augmentation(), **settings)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        *((gain, (-0.1, float("nan"), float("inf")), "a weight of 0 or more") for gain in ("box_gain", "cls_gain")),
        *((gain, (-0.1, float("nan")), "a weight of 0 or more") for gain in ("dfl_gain", "auxiliary_weight")),
        *((f"{split}_fraction", (0.0, 1.0, -1.0), "a share between 0 and 1") for split in ("arch", "val", "test")),
        ("confidence", (-0.1, 1.0, float("nan")), "a score from 0 to below 1"),
        ("iou", (0.0, 1.1, float("nan")), "an overlap above 0, at most 1"),
        ("evaluation_batch_size", (0, -4), "a number of at least 1"),
        ("max_detections", (0, -1), "a number of at least 1"),
        ("workers", (-1,), "a number of at least 0"),
        ("cache_gib", (-1.0, float("nan"), float("inf")), "GiB, 0 or more"),
    ],
)
def test_settings_out_of_range_are_refused(name, values, expected):
    for value in values:
        with pytest.raises(ConfigError, match=rf"task\.{name}={value}: expected {expected}"):
            made(**{name: value})


def test_settings_at_the_ends_of_their_ranges_are_taken():
    made(box_gain=0, auxiliary_weight=0, confidence=0, iou=1, max_detections=1, evaluation_batch_size=1, cache_gib=0)


def test_a_full_cache_is_reported_once_for_all_splits(tmp_path, caplog):
    task = made(cache_gib=0)
    with caplog.at_level(logging.WARNING):
        task.prepare(tmp_path, 0)
        for split in ("train", "val", "train+arch"):
            next(iter(task.loader(split, training=False)))
    assert [entry.getMessage() for entry in caplog.records if "cache" in entry.getMessage()] == [
        "13 of 13 images do not fit the cache and are decoded at every use"
    ]


def test_detections_in_an_ignored_region_cost_nothing(tmp_path):
    boxes, nothing = np.array([[8, 8, 24, 24], [32, 16, 56, 48]], np.float32), np.zeros(1, np.int64)

    def score(name, **ignored):
        scene = replace(DATA.splits["val"][0], boxes=boxes[:1], labels=nothing, **ignored)
        task = made(replace(DATA, splits={**DATA.splits, "val": (scene,)}))
        task.prepare(tmp_path / name, 0)
        outputs = torch.zeros(1, 14, 2)
        outputs[0, :4] = box_convert(torch.from_numpy(boxes), "xyxy", "cxcywh").T
        outputs[0, 4] = torch.tensor([0.5, 0.9])
        metric = task.metric()
        metric.update(torch.nn.Identity(), outputs, next(iter(task.loader("val", training=False))))
        return metric.compute()["map"]

    assert score("without") == pytest.approx(0.5)
    assert score("with", ignored_boxes=boxes[1:], ignored_labels=nothing) == pytest.approx(1.0)
