import math

import pytest
import torch

from supernets.detection.predictions import RawPredictions
from supernets.gelan.head import DetectionHead


def test_decoded_boxes_are_centre_and_size_in_pixels():
    head = DetectionHead([16], [8], 2)
    sides = (1, 2, 3, 5)  # left, top, right, bottom, in strides
    logits = torch.full((1, 1, 4, 16), -1e4)
    for side, distance in enumerate(sides):
        logits[0, 0, side, distance] = 0.0
    raw = RawPredictions(logits.flatten(2), torch.zeros(1, 1, 2), torch.tensor([[10.5, 4.5]]), torch.tensor([8.0]))
    decoded = head.decode(raw)[0, :, 0]
    x1, y1, x2, y2 = (10.5 - 1) * 8, (4.5 - 2) * 8, (10.5 + 3) * 8, (4.5 + 5) * 8
    assert decoded.tolist() == pytest.approx([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, 0.5, 0.5])


@pytest.mark.parametrize(
    ("first", "classes", "box", "scores"), [(64, 80, 64, 128), (64, 3, 64, 64), (512, 3, 128, 512)]
)
def test_branch_widths(first, classes, box, scores):
    head = DetectionHead([first, 512], [8, 16], classes)
    assert head.box_branches[1][0].conv.out_channels == box
    assert head.class_branches[1][0].conv.out_channels == scores


def test_biases():
    head = DetectionHead([16, 16, 16], [8, 16, 32], 20)
    for level, stride in enumerate((8, 16, 32)):
        assert (head.box_branches[level][-1].bias == 1.0).all()
        prior = math.log(5 / 20 / (640 / stride) ** 2)
        torch.testing.assert_close(head.class_branches[level][-1].bias, torch.full((20,), prior))


def test_the_head_knows_its_mode():
    head = DetectionHead([16], [8], 2)
    features = [torch.rand(2, 16, 4, 6)]
    assert isinstance(head(features), RawPredictions)
    decoded = head.eval()(features)
    assert decoded.shape == (2, 6, 24)
    torch.testing.assert_close(decoded, head.decode(head.predict(features)))
