"""Average precision against values worked out by hand."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from darts_hpo.errors import DataError
from supernets.detection.metrics import DetectionMetric
from supernets.detection.predictions import DetectionBatch

NAMES = ("red", "white", "plate")
NETWORK = nn.Identity()


def outputs(images: list[list[tuple[list[float], int, float]]], classes: int = 3) -> Tensor:
    """Evaluation output with the given (corners, label, score) per image."""
    n = max((len(rows) for rows in images), default=0) or 1
    result = torch.zeros(len(images), 4 + classes, n)
    for i, rows in enumerate(images):
        for a, (corners, label, score) in enumerate(rows):
            result[i, :4, a] = box_convert(torch.tensor(corners), "xyxy", "cxcywh")
            result[i, 4 + label, a] = score
    return result


def batch_of(images: list[list[tuple[list[float], int]]]) -> DetectionBatch:
    n = max(len(rows) for rows in images)
    boxes, labels = torch.zeros(len(images), n, 4), torch.full((len(images), n), -1)
    for i, rows in enumerate(images):
        for m, (corners, label) in enumerate(rows):
            boxes[i, m], labels[i, m] = torch.tensor(corners), label
    return DetectionBatch(torch.zeros(len(images), 3, 64, 64), boxes, labels, torch.arange(len(images)))


A, B, C = [0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 40.0, 40.0], [45.0, 5.0, 60.0, 25.0]


def test_perfect_predictions_score_one_and_absent_classes_are_left_out() -> None:
    metric = DetectionMetric(NAMES)
    metric.update(NETWORK, outputs([[(A, 0, 0.9)], [(B, 2, 0.8), (C, 0, 0.7)]]), batch_of([[(A, 0)], [(B, 2), (C, 0)]]))
    numbers = metric.compute()
    assert set(numbers) == {"map", "map50", "map75", "map/red", "map50/red", "map/plate", "map50/plate"}
    assert all(value == pytest.approx(1.0) for value in numbers.values())


def test_values_by_hand() -> None:
    metric = DetectionMetric(NAMES)
    # red: a hit at IoU 1 and, more certain, a false alarm, with one of two objects missed.
    # Precision 1/2 up to recall 1/2: 51 of the 101 recalls.
    # white: one hit with IoU 0.82 (10 x 8.2 of 10 x 10): right at 7 of the 10 thresholds.
    near = [0.0, 0.0, 10.0, 8.2]
    metric.update(
        NETWORK,
        outputs([[(B, 0, 0.6), (C, 0, 0.9)], [(near, 1, 0.5)]]),
        batch_of([[(B, 0), (A, 0)], [(A, 1)]]),
    )
    numbers = metric.compute()
    red = 0.5 * 51 / 101
    assert numbers["map/red"] == pytest.approx(red, abs=1e-6)
    assert numbers["map50/red"] == pytest.approx(red, abs=1e-6)
    assert numbers["map50/white"] == pytest.approx(1.0)
    assert numbers["map/white"] == pytest.approx(0.7, abs=1e-6)
    assert numbers["map"] == pytest.approx((red + 0.7) / 2, abs=1e-6)
    assert numbers["map50"] == pytest.approx((red + 1.0) / 2, abs=1e-6)
    assert numbers["map75"] == pytest.approx((red + 1.0) / 2, abs=1e-6)


def test_means_equal_those_of_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(0)
    metric = DetectionMetric(NAMES)
    for _ in range(3):
        corner = torch.rand(4, 6, 2, generator=generator) * 40
        boxes = torch.cat((corner, corner + 4 + torch.rand(4, 6, 2, generator=generator) * 20), -1)
        labels = torch.randint(0, 3, (4, 6), generator=generator)
        guess = torch.zeros(4, 7, 12)
        noisy = torch.cat((boxes, boxes + torch.randn(boxes.shape, generator=generator)), 1).sort(1).values
        guess[:, :4] = box_convert(noisy, "xyxy", "cxcywh").transpose(1, 2)
        guess[:, 4:] = torch.rand(4, 3, 12, generator=generator)
        metric.update(NETWORK, guess, DetectionBatch(torch.zeros(4, 3, 64, 64), boxes, labels, torch.arange(4)))
    numbers = metric.compute()
    whole = metric._average_precision.compute()
    for name, theirs in {"map": "map", "map50": "map_50", "map75": "map_75"}.items():
        assert 0 < numbers[name] < 1
        assert numbers[name] == pytest.approx(float(whole[theirs]), abs=1e-6)


def test_false_alarms_of_absent_classes_do_not_count() -> None:
    metric = DetectionMetric(NAMES)
    metric.update(NETWORK, outputs([[(A, 0, 0.9), (B, 1, 0.9)]]), batch_of([[(A, 0)]]))
    assert metric.compute()["map"] == pytest.approx(1.0)


def test_detections_in_ignored_regions_of_their_class_do_not_count() -> None:
    guess = outputs([[(A, 0, 0.5), (B, 0, 0.9), ([25.0, 25.0, 35.0, 35.0], 0, 0.8)]])
    batch = batch_of([[(A, 0)]])
    scores = []
    for label in (None, 0, 1):
        ignored = {}
        if label is not None:
            ignored = {"ignored_boxes": torch.tensor([[B]]), "ignored_labels": torch.tensor([[label]])}
        metric = DetectionMetric(NAMES)
        metric.update(NETWORK, guess, batch._replace(**ignored))
        scores.append(metric.compute())
    # Two more certain false alarms halve precision twice; a crowd of red swallows both, one of white neither.
    assert [s["map/red"] for s in scores] == pytest.approx([1 / 3, 1.0, 1 / 3])
    assert "map/white" not in scores[2]  # what is ignored alone is no object to be found


def test_nothing_found_scores_zero() -> None:
    metric = DetectionMetric(NAMES)
    metric.update(NETWORK, torch.zeros(2, 7, 21), batch_of([[(A, 0)], [(B, 1)]]))
    assert metric.compute() == dict.fromkeys(
        ("map", "map50", "map75", "map/red", "map50/red", "map/white", "map50/white"), 0.0
    )


def test_no_object_at_all_is_refused() -> None:
    metric = DetectionMetric(NAMES)
    metric.update(NETWORK, outputs([[(A, 0, 0.9)]]), batch_of([[]]))
    with pytest.raises(DataError, match="no object"):
        metric.compute()


def test_is_silent_with_many_detections(capfd: pytest.CaptureFixture[str]) -> None:
    metric = DetectionMetric(NAMES)
    guess = torch.rand(1, 7, 400, generator=torch.Generator().manual_seed(0))
    guess[:, :2] *= 64
    metric.update(NETWORK, guess, batch_of([[(A, 0)]]))
    assert metric.compute()["map"] >= 0
    assert capfd.readouterr() == ("", "")
