"""The assigner on cases small enough to work out by hand, and against a plain loop."""

import pytest
import torch
from torch import Tensor

from supernets.detection.assigner import Assignment, TaskAlignedAssigner
from supernets.detection.boxes import complete_iou

CENTRES = torch.tensor([[x + 0.5, y + 0.5] for y in range(6) for x in range(6)]) * 10.0
"""A 6 x 6 grid of anchor points 10 pixels apart."""


def boxes_around(centres: Tensor, half: float) -> Tensor:
    return torch.cat((centres - half, centres + half), -1)


def as_dict(assignment: Assignment) -> dict[tuple[int, int], tuple[int, float]]:
    images, anchors, objects, scores = (part.tolist() for part in assignment)
    return {(i, a): (o, s) for i, a, o, s in zip(images, anchors, objects, scores, strict=True)}


def test_one_object_around_one_anchor() -> None:
    boxes = boxes_around(CENTRES, 4.0)[None]
    scores = torch.full((1, 36, 2), 0.25)
    target = torch.tensor([[[10.5, 0.5, 19.5, 9.5]]])
    result = TaskAlignedAssigner()(scores, boxes, CENTRES, target, torch.tensor([[1]]))
    iou = 64.0 / 81.0  # concentric squares: no distance and no aspect term
    # One candidate holds the largest alignment itself, so its target is the IoU.
    assert as_dict(result) == {(0, 1): (0, pytest.approx(iou, rel=1e-6))}


def test_alignment_and_scaled_targets_by_hand() -> None:
    # One object over two anchors; the second predicts it exactly, the first half of it.
    centres = torch.tensor([[5.0, 5.0], [15.0, 5.0]])
    target = torch.tensor([[[0.0, 0.0, 20.0, 10.0]]])
    boxes = torch.tensor([[[0.0, 0.0, 20.0, 5.0], [0.0, 0.0, 20.0, 10.0]]])
    scores = torch.tensor([[[0.64], [0.04]]])
    result = TaskAlignedAssigner(beta=1.0)(scores, boxes, centres, target, torch.tensor([[0]]))
    iou = float(complete_iou(boxes[0, 0], target[0, 0]))
    alignments = (0.8 * iou, 0.2 * 1.0)
    largest, best_iou = max(alignments), 1.0
    assert as_dict(result) == {
        (0, 0): (0, pytest.approx(alignments[0] * best_iou / largest, rel=1e-5)),
        (0, 1): (0, pytest.approx(alignments[1] * best_iou / largest, rel=1e-5)),
    }


def test_centres_on_the_border_are_outside() -> None:
    boxes = boxes_around(CENTRES, 5.0)[None]
    scores = torch.full((1, 36, 1), 0.5)
    # From centre (5, 5) to centre (25, 25): strictly inside is (15, 15) alone, anchor 7.
    result = TaskAlignedAssigner()(
        scores, boxes, CENTRES, torch.tensor([[[5.0, 5.0, 25.0, 25.0]]]), torch.tensor([[0]])
    )
    assert set(as_dict(result)) == {(0, 7)}


def test_at_most_topk_predictions_and_the_best_of_them() -> None:
    scores = torch.linspace(0.01, 0.99, 36).reshape(1, 36, 1)
    everywhere = torch.tensor([0.0, 0.0, 60.0, 60.0]).expand(1, 36, 4)
    result = TaskAlignedAssigner(topk=10)(
        scores, everywhere, CENTRES, torch.tensor([[[0.0, 0.0, 60.0, 60.0]]]), torch.tensor([[0]])
    )
    assert result.anchors.tolist() == list(range(26, 36))


def test_contested_prediction_goes_to_the_object_it_overlaps_most() -> None:
    centres = torch.tensor([[5.0, 5.0]])
    predicted = torch.tensor([[[0.0, 0.0, 10.0, 10.0]]])
    objects = torch.tensor([[[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 10.0, 11.0]]])
    # The class score favours the first object by far; the IoU decides nevertheless.
    scores = torch.tensor([[[0.99, 0.01]]])
    result = TaskAlignedAssigner()(scores, predicted, centres, objects, torch.tensor([[0, 1]]))
    overlap = float(complete_iou(predicted[0, 0], objects[0, 1]))
    assert as_dict(result) == {(0, 0): (1, pytest.approx(overlap, rel=1e-5))}


@pytest.mark.parametrize("n_objects", [0, 3])
def test_without_objects_all_is_background(n_objects: int) -> None:
    result = TaskAlignedAssigner()(
        torch.rand(2, 36, 3),
        boxes_around(CENTRES, 5.0).expand(2, 36, 4),
        CENTRES,
        torch.zeros(2, n_objects, 4),
        torch.full((2, n_objects), -1),
    )
    assert [part.numel() for part in result] == [0, 0, 0, 0]


def test_padding_and_other_images_do_not_matter() -> None:
    boxes = boxes_around(CENTRES, 6.0).expand(2, 36, 4)
    scores = torch.rand(2, 36, 2, generator=torch.Generator().manual_seed(0))
    objects = torch.tensor([[[3.0, 3.0, 27.0, 30.0]], [[12.0, 22.0, 58.0, 41.0]]])
    labels = torch.tensor([[0], [1]])
    plain = as_dict(TaskAlignedAssigner()(scores, boxes, CENTRES, objects, labels))
    padded = as_dict(
        TaskAlignedAssigner()(
            scores,
            boxes,
            CENTRES,
            torch.cat((objects, torch.zeros(2, 4, 4)), 1),
            torch.cat((labels, torch.full((2, 4), -1)), 1),
        )
    )
    assert plain == padded
    alone = as_dict(TaskAlignedAssigner()(scores[1:], boxes[1:], CENTRES, objects[1:], labels[1:]))
    assert {key: value for key, value in plain.items() if key[0] == 1} == {
        (1, anchor): value for (_, anchor), value in alone.items()
    }


def test_more_than_a_hundred_objects_are_all_assigned() -> None:
    centres = torch.tensor([[x + 0.5, y + 0.5] for y in range(15) for x in range(15)]) * 8.0
    objects = boxes_around(centres, 3.5)[None]
    result = TaskAlignedAssigner()(
        torch.full((1, 225, 1), 0.1), objects, centres, objects, torch.zeros(1, 225, dtype=torch.long)
    )
    assert result.objects.tolist() == list(range(225))
    torch.testing.assert_close(result.scores, torch.ones(225))


def loop_reference(
    scores: Tensor, boxes: Tensor, centres: Tensor, objects: Tensor, labels: Tensor, topk: int
) -> dict[tuple[int, int], tuple[int, float]]:
    result: dict[tuple[int, int], tuple[int, float]] = {}
    for i in range(len(scores)):
        wanted: dict[int, list[tuple[float, float, int]]] = {}
        for o, (box, label) in enumerate(zip(objects[i], labels[i].tolist(), strict=True)):
            if label < 0:
                continue
            candidates = []
            for a, (x, y) in enumerate(centres.tolist()):
                if box[0] < x < box[2] and box[1] < y < box[3]:
                    iou = max(float(complete_iou(boxes[i, a], box)), 0.0)
                    candidates.append((float(scores[i, a, label]) ** 0.5 * iou**6, iou, a))
            for align, iou, a in sorted(candidates, reverse=True)[:topk]:
                wanted.setdefault(a, []).append((iou, align, o))
        winners = {a: max(claims) for a, claims in wanted.items()}
        for o in range(len(objects[i])):
            mine = {a: (iou, align) for a, (iou, align, owner) in winners.items() if owner == o}
            if mine:
                top_iou = max(iou for iou, _ in mine.values())
                top_align = max(align for _, align in mine.values())
                for a, (_, align) in mine.items():
                    result[i, a] = (o, align * top_iou / (top_align + 1e-9))
    return result


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_plain_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    centres = CENTRES.double()
    boxes = torch.cat((centres - rand(3, 36, 2) * 20, centres + rand(3, 36, 2) * 20), -1)
    corner = rand(3, 7, 2) * 40
    objects = torch.cat((corner, corner + 5 + rand(3, 7, 2) * 30), -1)
    labels = torch.randint(-1, 3, (3, 7), generator=generator)
    scores = rand(3, 36, 3)
    result = as_dict(TaskAlignedAssigner(topk=4)(scores, boxes, centres, objects, labels))
    expected = loop_reference(scores, boxes, centres, objects, labels, 4)
    assert result.keys() == expected.keys()
    for key, (obj, score) in expected.items():
        assert result[key] == (obj, pytest.approx(score, rel=1e-9, abs=1e-12))
