"""Small detection data sets on disk, sound but for what a test breaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 64
TINY_DETECTOR = (
    "data.image_size=64",
    "supernet.width=0.125",
    "search.epochs=1",
    "retrain.epochs=1",
    "search.batch_size=4",
    "retrain.batch_size=4",
    "reference=false",
    "export.onnx=false",
    "costs={}",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
)
"""Settings under which a detector trains in seconds."""


def write_yolo(root: Path, number: int = 12) -> Path:
    """Noise with one labelled box each, in Ultralytics form."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for index in range(number):
        write_image(root / f"images/{index:02}.jpg", index)
        (root / f"labels/{index:02}.txt").write_text(f"{index % 2} 0.5 0.5 0.4 0.5\n")
    (root / "data.yaml").write_text("train: images\nnames: [cat, dog]\n")
    return root


def write_voc(root: Path, number: int = 12) -> Path:
    """The same in the form of Pascal VOC."""
    for folder in ("JPEGImages", "Annotations"):
        (root / folder).mkdir(parents=True)
    for index in range(number):
        write_image(root / f"JPEGImages/{index:02}.jpg", index)
        (root / f"Annotations/{index:02}.xml").write_text(
            f"<annotation><filename>{index:02}.jpg</filename><object><name>cat</name><bndbox><xmin>9</xmin>"
            "<ymin>9</ymin><xmax>40</xmax><ymax>50</ymax></bndbox></object></annotation>"
        )
    return root


def write_image(path: Path, seed: int) -> None:
    """Noise, different for every seed."""
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(path)
