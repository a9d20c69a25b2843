"""The loss against values worked out by hand, and the properties training relies on."""

import math

import pytest
import torch
from torch import Tensor

from supernets.detection.boxes import complete_iou, decode_boxes
from supernets.detection.loss import DetectionLoss
from supernets.detection.predictions import DetectionBatch, DetectorOutput, RawPredictions

GRID = torch.tensor([[x + 0.5, y + 0.5] for y in range(4) for x in range(4)])


def raw(seed: int, batch: int = 2, classes: int = 3, dtype: torch.dtype = torch.float32) -> RawPredictions:
    generator = torch.Generator().manual_seed(seed)
    return RawPredictions(
        torch.randn(batch, 16, 64, generator=generator, dtype=dtype).requires_grad_(),
        torch.randn(batch, 16, classes, generator=generator, dtype=dtype).requires_grad_(),
        GRID,
        torch.full((16,), 8.0),
    )


def batch_of(boxes: list[list[list[float]]], labels: list[list[int]]) -> DetectionBatch:
    n = len(labels)
    return DetectionBatch(
        torch.zeros(n, 3, 32, 32),
        torch.tensor(boxes).reshape(n, -1, 4),
        torch.tensor(labels, dtype=torch.long).reshape(n, -1),
        torch.arange(n),
    )


OBJECTS = batch_of(
    [[[2.0, 2.0, 22.0, 18.0], [9.0, 9.0, 31.0, 31.0]], [[0.0, 12.0, 14.0, 30.0], [0.0, 0.0, 0.0, 0.0]]],
    [[0, 2], [1, -1]],
)


def test_perfect_prediction_by_hand() -> None:
    # One anchor, one object whose sides lie exactly 1 unit away; the box is exact, the class at 0.5.
    logits = torch.full((1, 1, 4, 16), -1e4)
    logits[..., 1] = 0.0
    output = RawPredictions(logits.flatten(2), torch.zeros(1, 1, 2), torch.tensor([[1.5, 1.5]]), torch.tensor([8.0]))
    batch = batch_of([[[4.0, 4.0, 20.0, 20.0]]], [[1]])
    terms = DetectionLoss(2)(DetectorOutput(output), batch)
    assert terms["box"].item() == pytest.approx(0.0, abs=1e-6)
    assert terms["dfl"].item() == pytest.approx(0.0, abs=1e-6)
    # Target 1 for the right class and 0 for the other, both predicted 0.5.
    assert terms["cls"].item() == pytest.approx(0.5 * 2 * math.log(2), rel=1e-5)
    assert terms["loss"].item() == pytest.approx(terms["cls"].item())


def test_distribution_loss_by_hand() -> None:
    # Distances 2.25 on all sides and uniform logits: the cross entropy is log 16 whatever the weights.
    loss = DetectionLoss(1)
    uniform = loss._distribution_loss(torch.zeros(1, 64), torch.full((1, 4), 2.25))
    assert uniform.item() == pytest.approx(math.log(16))
    logits = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(0))
    value = loss._distribution_loss(logits.flatten(1), torch.full((1, 4), 2.25))
    log_p = logits.log_softmax(-1)
    torch.testing.assert_close(value, -(0.75 * log_p[..., 2] + 0.25 * log_p[..., 3]).mean(-1))


def test_distances_beyond_the_bins_are_clamped() -> None:
    loss = DetectionLoss(1)
    logits = torch.randn(3, 64)
    distances = torch.tensor([[-3.0], [15.0], [400.0]]).expand(3, 4)
    clamped = torch.tensor([[0.0], [14.99], [14.99]]).expand(3, 4)
    assert torch.equal(loss._distribution_loss(logits, distances), loss._distribution_loss(logits, clamped))


def test_terms_follow_their_definitions() -> None:
    head = raw(0)
    memo: dict[str, object] = {}
    terms = DetectionLoss(3)(DetectorOutput(head), OBJECTS, memo)
    images, anchors, objects, scores = memo["assignment/main"]  # type: ignore[misc]
    total = max(float(scores.sum()), 1.0)
    cls = box = 0.0
    probability = head.class_logits.detach().sigmoid()
    target = torch.zeros(2, 16, 3)
    boxes = decode_boxes(head.box_logits.detach(), head.anchors, head.strides)
    for i, a, o, s in zip(images.tolist(), anchors.tolist(), objects.tolist(), scores.tolist(), strict=True):
        target[i, a, OBJECTS.labels[i, o]] = s
        box += s * (1 - float(complete_iou(boxes[i, a], OBJECTS.boxes[i, o])))
    cls = float(-(target * probability.log() + (1 - target) * (1 - probability).log()).sum())
    assert len(scores) > 3
    assert terms["cls"].item() == pytest.approx(0.5 * cls / total, rel=1e-5)
    assert terms["box"].item() == pytest.approx(7.5 * box / total, rel=1e-5)
    parts = terms["box"] + terms["cls"] + terms["dfl"]
    assert terms["loss"].item() == pytest.approx(2 * parts.item(), rel=1e-6)  # two images


def test_gains_scale_their_terms() -> None:
    plain = DetectionLoss(3, box_gain=1, cls_gain=1, dfl_gain=1)(DetectorOutput(raw(0)), OBJECTS)
    published = DetectionLoss(3)(DetectorOutput(raw(0)), OBJECTS)
    for name, gain in {"box": 7.5, "cls": 0.5, "dfl": 1.5}.items():
        assert published[name].item() == pytest.approx(gain * plain[name].item(), rel=1e-6)


def test_dual_loss_is_main_plus_a_quarter_of_auxiliary() -> None:
    loss = DetectionLoss(3)
    main, auxiliary = raw(0, dtype=torch.float64), raw(1, dtype=torch.float64)
    both = loss(DetectorOutput(main, auxiliary), OBJECTS)
    alone = loss(DetectorOutput(main), OBJECTS)
    other = loss(DetectorOutput(auxiliary), OBJECTS)
    torch.testing.assert_close(both["loss"], alone["loss"] + 0.25 * other["loss"], rtol=1e-14, atol=0)
    for name in ("box", "cls", "dfl"):
        assert torch.equal(both[name], alone[name])
        assert torch.equal(both[f"aux_{name}"], other[name])


def test_main_terms_do_not_depend_on_the_auxiliary_head() -> None:
    main, auxiliary = raw(0), raw(1)
    terms = DetectionLoss(3)(DetectorOutput(main, auxiliary), OBJECTS)
    grads = torch.autograd.grad(
        terms["box"] + terms["cls"] + terms["dfl"],
        (auxiliary.box_logits, auxiliary.class_logits),
        allow_unused=True,
    )
    assert grads == (None, None)


def test_auxiliary_weight_of_zero_skips_the_head() -> None:
    terms = DetectionLoss(3, auxiliary_weight=0)(DetectorOutput(raw(0), raw(1)), OBJECTS)
    assert set(terms) == {"loss", "box", "cls", "dfl"}


@pytest.mark.parametrize("batch", [batch_of([[], []], [[], []]), batch_of([[[0.0] * 4], [[0.0] * 4]], [[-1], [-1]])])
def test_without_objects_only_the_class_loss_remains(batch: DetectionBatch) -> None:
    head, auxiliary = raw(0), raw(1)
    terms = DetectionLoss(3)(DetectorOutput(head, auxiliary), batch)
    terms["loss"].backward()
    assert terms["box"].item() == terms["dfl"].item() == 0.0
    assert terms["loss"].isfinite()
    for logits in (head.class_logits, auxiliary.class_logits):
        assert logits.grad is not None
        assert logits.grad.abs().sum() > 0
    assert head.box_logits.grad is not None
    assert not head.box_logits.grad.any()


def test_memo_keeps_the_assignment() -> None:
    loss = DetectionLoss(3)
    memo: dict[str, object] = {}
    loss(DetectorOutput(raw(0), raw(1)), OBJECTS, memo)
    assert set(memo) == {"assignment/main", "assignment/auxiliary"}
    moved = DetectorOutput(raw(2), raw(3))
    kept = loss(moved, OBJECTS, memo)["loss"]
    fresh = loss(moved, OBJECTS)["loss"]
    assert not torch.equal(kept, fresh)
    assert torch.equal(kept, loss(moved, OBJECTS, memo)["loss"])


def test_is_smooth_once_the_assignment_is_kept() -> None:
    loss, memo = DetectionLoss(1), {}
    head = raw(0, dtype=torch.float64)
    head = head._replace(class_logits=head.class_logits[:1, :, :1].detach().requires_grad_())
    head = head._replace(box_logits=head.box_logits[:1].detach())
    batch = batch_of([[[2.0, 2.0, 22.0, 18.0]]], [[0]])
    loss(DetectorOutput(head), batch, memo)

    def value(class_logits: Tensor) -> Tensor:
        return loss(DetectorOutput(head._replace(class_logits=class_logits)), batch, memo)["loss"]

    assert torch.autograd.gradcheck(value, (head.class_logits,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_computes_in_float32_under_autocast(dtype: torch.dtype) -> None:
    head = raw(0)
    low = head._replace(box_logits=head.box_logits.to(dtype), class_logits=head.class_logits.to(dtype) - 60)
    exact = low._replace(box_logits=low.box_logits.float(), class_logits=low.class_logits.float())
    with torch.autocast("cpu", torch.bfloat16):
        terms = DetectionLoss(3)(DetectorOutput(low), OBJECTS)
    expected = DetectionLoss(3)(DetectorOutput(exact), OBJECTS)
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert torch.equal(term, expected[name])
        assert term.isfinite()


def test_gradient_descent_on_the_logits_finds_the_objects() -> None:
    head = raw(0)
    loss = DetectionLoss(3)
    optimizer = torch.optim.Adam([head.box_logits, head.class_logits], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss(DetectorOutput(head), OBJECTS)["loss"].backward()
        optimizer.step()
    boxes = decode_boxes(head.box_logits, head.anchors, head.strides)
    for image, label in ((0, 0), (0, 2), (1, 1)):
        obj = int((OBJECTS.labels[image] == label).nonzero()[0])
        best = head.class_logits[image, :, label].argmax()
        assert complete_iou(boxes[image, best], OBJECTS.boxes[image, obj]) > 0.95
