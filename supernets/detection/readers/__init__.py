"""Readers of the three usual formats of detection data, and the choice among them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeAlias, get_args

from darts_hpo.errors import ConfigError, DataError, unknown_name
from supernets.detection.readers import coco, voc, yolo
from supernets.detection.readers.builder import DataBuilder, OnBadImage
from supernets.detection.records import DetectionData

logger = logging.getLogger(__name__)

Format: TypeAlias = Literal["auto", "yolo", "coco", "voc"]

# Each module has LOOKS_FOR (a phrase), detects(folder) and read(folder, builder, class_names).
READERS: dict[str, ModuleType] = {"yolo": yolo, "coco": coco, "voc": voc}
# An archive often unpacks to a folder in a folder (BCCD_Dataset/BCCD, VOCdevkit/VOC2012).
_SEARCH_DEPTH = 2


def read_dataset(
    root: str | Path | None,
    format: Format = "auto",  # the name users know from the configuration
    *,
    class_names: Sequence[str] | None = None,
    on_bad_image: OnBadImage = "error",
    difficult: Literal["ignore", "keep"] = "ignore",
) -> DetectionData:
    """Read a detection data set in Ultralytics, COCO or VOC form.

    Args:
        root: its folder (or one that holds it), or its ``data.yaml`` or COCO json.
        format: ``yolo``, ``coco``, ``voc``, or ``auto`` to look at the folder.
        class_names: restricts VOC, which has no list of classes, to these in this order; for the others the
            names must be the ones the data set declares. None: as declared, for VOC all names found, sorted.
        on_bad_image: ``error`` stops at the first image that cannot be decoded, latest when it is used;
            ``skip`` decodes every image now and leaves bad ones out, naming them in the log.
        difficult: what becomes of VOC objects marked difficult: ``ignore``, as the challenge does, neither learns
            nor counts them; ``keep`` takes them as objects like others.

    Raises:
        ConfigError: ``on_bad_image`` or ``difficult`` is none of these words.
        DataError: the data set is missing, of unknown format or broken. The message names the file and the
            remedy.
    """
    if format != "auto" and format not in READERS:
        raise DataError(unknown_name("data format (data.format)", format, ["auto", *READERS]))
    if on_bad_image not in (words := get_args(OnBadImage)):
        raise ConfigError(unknown_name("data.on_bad_image", on_bad_image, words))
    if difficult not in ("ignore", "keep"):
        raise ConfigError(unknown_name("data.difficult", difficult, ("ignore", "keep")))
    if root is None:
        raise DataError("The data set's folder is not set; pass data.root=/path/to/dataset.")
    path = Path(root).expanduser()
    if not path.exists():
        raise DataError(f"Data root {path} does not exist; pass data.root=/path/to/dataset.")
    name, found = _locate(path, format)
    boundary = path if path.is_dir() else path.parent
    builder = DataBuilder(boundary.resolve(), name, on_bad_image=on_bad_image, keep_difficult=difficult == "keep")
    data: DetectionData = READERS[name].read(found.resolve(), builder, class_names)
    logger.info("read %s data in %s", name, found)
    return data


def _locate(path: Path, format: Format) -> tuple[str, Path]:
    """The reader's name and the folder or file it should read."""
    candidates = READERS if format == "auto" else {format: READERS[format]}
    level = [path]
    for _ in range(_SEARCH_DEPTH + 1):
        hits = [(name, folder) for folder in level for name, reader in candidates.items() if reader.detects(folder)]
        if len(hits) == 1:
            return hits[0]
        if hits:
            listed = ", ".join(f"{name} in {folder}" for name, folder in hits)
            raise DataError(f"Several data sets found: {listed}; set data.format or a narrower data.root.")
        level = sorted(child for folder in level if folder.is_dir() for child in folder.iterdir() if child.is_dir())
    looked_for = "; or ".join(f"{name}: {reader.LOOKS_FOR}" for name, reader in candidates.items())
    raise DataError(f"No known detection format in {path}. Looked for {looked_for}.")
