"""Thresholds and suppression on hand-made predictions."""

import torch
from torch import Tensor

from supernets.detection.postprocess import detect


def predictions(rows: list[tuple[float, ...]]) -> Tensor:
    """One image from rows (x, y, w, h, scores...)."""
    return torch.tensor(rows).T[None]


def test_centre_layout_becomes_corners() -> None:
    (found,) = detect(predictions([(50.0, 40.0, 20.0, 10.0, 0.9)]))
    assert found["boxes"].tolist() == [[40.0, 35.0, 60.0, 45.0]]
    assert found["labels"].tolist() == [0]
    torch.testing.assert_close(found["scores"], torch.tensor([0.9]))


def test_overlap_is_suppressed_within_a_class_only() -> None:
    rows = [
        (50.0, 50.0, 20.0, 20.0, 0.6, 0.0),
        (51.0, 50.0, 20.0, 20.0, 0.8, 0.0),
        (50.0, 50.0, 20.0, 20.0, 0.0, 0.7),
    ]
    (found,) = detect(predictions(rows))
    assert found["labels"].tolist() == [0, 1]
    torch.testing.assert_close(found["scores"], torch.tensor([0.8, 0.7]))
    (loose,) = detect(predictions(rows), iou=0.95)
    assert loose["labels"].tolist() == [0, 1, 0]


def test_confidence_is_a_strict_lower_bound() -> None:
    rows = [(10.0, 10.0, 4.0, 4.0, 0.25), (30.0, 30.0, 4.0, 4.0, 0.5)]
    (found,) = detect(predictions(rows), confidence=0.25)
    assert found["scores"].tolist() == [0.5]


def test_one_prediction_may_name_several_classes() -> None:
    rows = [(10.0, 10.0, 4.0, 4.0, 0.5, 0.75)]
    (several,) = detect(predictions(rows))
    assert several["labels"].tolist() == [1, 0]
    (best,) = detect(predictions(rows), multi_label=False)
    assert best["labels"].tolist() == [1]


def test_keeps_the_most_certain_up_to_the_limits() -> None:
    rows = [(20.0 * k, 10.0, 4.0, 4.0, 0.1 + 0.05 * k) for k in range(10)]
    (found,) = detect(predictions(rows), max_detections=3)
    torch.testing.assert_close(found["scores"], torch.tensor([0.55, 0.5, 0.45]))
    (candidates,) = detect(predictions(rows), max_candidates=4)
    assert len(candidates["scores"]) == 4


def test_every_image_gets_an_entry_even_without_objects() -> None:
    empty = torch.zeros(3, 6, 21)
    found = detect(empty)
    assert [tuple(image["boxes"].shape) for image in found] == [(0, 4)] * 3
    assert [len(image["labels"]) for image in found] == [0, 0, 0]
    assert [image["labels"].dtype for image in detect(empty, multi_label=False)] == [torch.int64] * 3
