"""Geometry against closed forms and against torchvision."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import complete_box_iou

from supernets.detection.boxes import (
    boxes_to_distances,
    complete_iou,
    decode_boxes,
    distances_to_boxes,
    expected_distances,
)


def random_boxes(n: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    left_top = torch.rand(n, 2, generator=generator, dtype=dtype) * 50
    size = torch.rand(n, 2, generator=generator, dtype=dtype) * 40 + 0.1
    return torch.cat((left_top, left_top + size), 1)


def test_equal_boxes_have_complete_iou_of_exactly_one() -> None:
    boxes = random_boxes(200, torch.float32)
    assert torch.equal(complete_iou(boxes, boxes), torch.ones(200))


def test_complete_iou_by_hand() -> None:
    # Unit-height boxes of widths 2 and 1: IoU 1/2; centres 0.5 apart in an enclosing box of 2 x 1.
    value = complete_iou(torch.tensor([0.0, 0.0, 2.0, 1.0]), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    angle = torch.atan(torch.tensor(2.0)) - torch.atan(torch.tensor(1.0))
    v = 4 / torch.pi**2 * angle**2
    expected = 0.5 - 0.25 / 5 - v * v / (1 - 0.5 + v)
    torch.testing.assert_close(value, expected)


def test_complete_iou_is_the_diagonal_of_torchvisions() -> None:
    first, second = random_boxes(64), random_boxes(65)[:64]
    torch.testing.assert_close(complete_iou(first, second), complete_box_iou(first, second).diagonal())


def test_complete_iou_broadcasts_and_is_symmetric() -> None:
    first, second = random_boxes(5), random_boxes(7)
    table = complete_iou(first[:, None], second[None])
    assert table.shape == (5, 7)
    torch.testing.assert_close(table, complete_iou(second[:, None], first[None]).T)


@pytest.mark.parametrize(
    "box",
    [
        (3.0, 3.0, 3.0, 3.0),
        (3.0, 3.0, 3.0, 9.0),
        (3.0, 3.0, 9.0, 3.0),
        (100.0, 100.0, 101.0, 101.0),
        (0.0, 0.0, 2.0, 2.0),
    ],
)
@pytest.mark.parametrize("other", [(0.0, 0.0, 2.0, 2.0), (3.0, 3.0, 3.0, 3.0)])
def test_gradient_is_finite_for_flat_far_and_equal_boxes(box: tuple[float, ...], other: tuple[float, ...]) -> None:
    first = torch.tensor(box, requires_grad=True)
    value = complete_iou(first, torch.tensor(other))
    value.backward()
    assert -2 < value.item() <= 1
    assert first.grad is not None
    assert first.grad.isfinite().all()
    assert first.grad.abs().max() < 1e3


def test_gradient_against_finite_differences_away_from_the_trade_off() -> None:
    # The trade-off is held constant by definition, so equal aspect ratios are where finite differences apply.
    first = torch.tensor([[0.0, 0.0, 4.0, 4.0], [1.0, 2.0, 9.0, 10.0]], dtype=torch.float64, requires_grad=True)
    second = torch.tensor([[1.0, 1.0, 4.5, 4.5], [30.0, 30.0, 33.0, 33.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda b: complete_iou(b, second), (first,), eps=1e-7, atol=1e-5)


def test_one_hot_distribution_decodes_to_its_bin() -> None:
    logits = torch.full((16, 4, 16), -1e4)
    for k in range(16):
        logits[k, :, k] = 0.0
    distances = expected_distances(logits.flatten(1), torch.arange(16.0))
    torch.testing.assert_close(distances, torch.arange(16.0)[:, None].expand(16, 4))


def test_uniform_distribution_decodes_to_the_middle() -> None:
    distances = expected_distances(torch.zeros(3, 4 * 8), torch.arange(8.0))
    torch.testing.assert_close(distances, torch.full((3, 4), 3.5))


def test_sides_are_left_top_right_bottom_in_units_of_the_stride() -> None:
    logits = F.one_hot(torch.tensor([1, 2, 3, 4]), 16).float().mul(1e4).reshape(1, 1, 64)
    box = decode_boxes(logits, torch.tensor([[10.5, 20.5]]), torch.tensor([8.0]))
    torch.testing.assert_close(box, 8 * torch.tensor([[[9.5, 18.5, 13.5, 24.5]]]))


def test_distances_and_boxes_are_inverse() -> None:
    anchors = torch.rand(50, 2, dtype=torch.float64) * 20
    strides = torch.tensor([8.0, 16.0, 32.0, 8.0, 16.0], dtype=torch.float64).repeat(10)
    distances = torch.rand(2, 50, 4, dtype=torch.float64) * 15
    boxes = distances_to_boxes(distances, anchors, strides)
    assert (boxes[..., 2:] >= boxes[..., :2]).all()
    torch.testing.assert_close(boxes_to_distances(boxes, anchors, strides), distances)
