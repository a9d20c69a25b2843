"""Pictures of what a detector sees, for the report."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional
from torchvision.utils import make_grid

from darts_hpo.report import Figure
from supernets.detection.dataset import DetectionDataset, collate
from supernets.detection.drawing import draw_objects
from supernets.detection.postprocess import detect

SHOWN_CONFIDENCE = 0.25
_SIDE = 320


@torch.no_grad()
def detection_examples(
    network: nn.Module, dataset: DetectionDataset, class_names: Sequence[str], count: int = 4
) -> Figure:
    """The truth above, what the network found below, for images spread over a split.

    Args:
        network: in evaluation mode, on the CPU.
        dataset: unaugmented.
        class_names: by class index.
        count: images.
    """
    step = max(1, len(dataset) // count)
    batch = collate([dataset[index] for index in range(0, len(dataset), step)][:count])
    found = detect(network(batch.images), confidence=SHOWN_CONFIDENCE, multi_label=False)
    truth = [
        _drawn(image, boxes, labels, class_names)
        for image, boxes, labels in zip(batch.images, batch.boxes, batch.labels, strict=True)
    ]
    predicted = [
        _drawn(image, objects["boxes"], objects["labels"], class_names)
        for image, objects in zip(batch.images, found, strict=True)
    ]
    grid = make_grid(torch.stack([*truth, *predicted]), nrow=len(truth), padding=4, pad_value=255)
    return Figure(
        title="Detections on images of the val split",
        caption=(
            f"Truth above, detections with a score of at least {SHOWN_CONFIDENCE} below. "
            "A bad sign: objects without a box below, or boxes around background."
        ),
        png=_png(grid),
    )


def _drawn(image: Tensor, boxes: Tensor, labels: Tensor, class_names: Sequence[str]) -> Tensor:
    """The image enlarged first, so that names stay legible."""
    scale = _SIDE / image.shape[-1]
    enlarged = functional.resize(image, [_SIDE, _SIDE], antialias=True)
    return draw_objects(enlarged, boxes * scale, labels, class_names)


def _png(image: Tensor) -> bytes:
    """A file's content for an image `3 x H x W`, uint8."""
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, format="PNG")
    return file.getvalue()
