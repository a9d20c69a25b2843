"""Boxes show up where they are, in the colour of their class."""

import torch

from supernets.detection.drawing import class_color, draw_objects


def test_edges_have_the_class_colour_and_padding_is_not_drawn() -> None:
    image = torch.zeros(3, 64, 64)
    boxes = torch.tensor([[10.0, 30.0, 40.0, 50.0], [0.0, 0.0, 0.0, 0.0]])
    drawn = draw_objects(image, boxes, torch.tensor([1, -1]), ("a", "b"), scores=torch.tensor([0.5, 0.0]))
    assert drawn.dtype == torch.uint8
    assert tuple(drawn[:, 50, 25].tolist()) == class_color(1)
    assert not drawn[:, 55:, :].any()
    assert not image.any()


def test_without_objects_the_image_comes_back_as_bytes() -> None:
    image = torch.rand(3, 8, 8)
    drawn = draw_objects(image, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), ("a",))
    assert torch.equal(drawn, (image * 255).round().to(torch.uint8))


def test_classes_have_different_colours() -> None:
    assert len({class_color(label) for label in range(80)}) == 80
