"""What all readers share: records made of raw annotations, checked and counted."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from darts_hpo.errors import DataError
from supernets.detection.records import (
    IMAGE_SUFFIXES,
    CleaningReport,
    DetectionData,
    ImageRecord,
    ImageSize,
    clean_boxes,
    image_size,
    inside,
)

logger = logging.getLogger(__name__)

OnBadImage: TypeAlias = Literal["error", "skip"]

# At the start of a word only: "latest.json" is no test split.
_SPLIT_WORDS = {s: re.compile(rf"(?<![a-z]){s}", re.IGNORECASE) for s in ("train", "val", "test")}


class DataBuilder:
    """Turns a reader's raw annotations into records.

    Args:
        root: resolved folder that no path may leave.
        format: the reader's name.
        on_bad_image: ``error`` or ``skip``, see `read_dataset`.
        keep_difficult: VOC objects marked difficult are objects like others, not ignored ones.
    """

    def __init__(self, root: Path, format: str, *, on_bad_image: OnBadImage, keep_difficult: bool) -> None:
        self.root, self.format = root, format
        self.on_bad_image, self.keep_difficult = on_bad_image, keep_difficult
        self.report = CleaningReport()

    def inside(self, path: Path, named_in: str) -> Path:
        """``path`` resolved, refused if it leaves the root."""
        return inside(self.root, path, named_in)

    def name_of(self, path: Path) -> str:
        """The path below the root, with forward slashes."""
        return path.relative_to(self.root).as_posix()

    def size(self, image: Path, declared: tuple[float, float] | None = None, where: str = "") -> ImageSize | None:
        """Width and height, or None for an image that is to be skipped.

        Args:
            image: resolved file.
            declared: width and height that the annotation speaks of, if it does.
            where: the annotation, for the message.

        Raises:
            DataError: not an image, and ``on_bad_image`` is ``error``; or the size is not the declared one, for
                boxes in pixels then lie elsewhere.
        """
        try:
            size = image_size(image)
        except DataError as error:
            if self.on_bad_image == "error":
                raise
            self._skip(image, error)
            return None
        fitting = [(size.width, size.height), *([(size.height, size.width)] if size.turned else [])]
        if declared is not None and declared not in fitting:
            raise DataError(
                f"{where} speaks of {declared[0]:g} x {declared[1]:g} pixels, but {image} has "
                f"{size.width} x {size.height}: the boxes belong to another picture. Restore the image or correct "
                "the annotation."
            )
        return size

    def record(
        self,
        image: Path,
        size: ImageSize,
        boxes: ArrayLike,
        labels: ArrayLike,
        where: str,
        ignored: ArrayLike | None = None,
    ) -> ImageRecord | None:
        """The record of one image, or None for one that is to be skipped.

        Args:
            image: resolved file.
            size: its width and height.
            boxes: `N x 4`, corners in pixels, 0-based, as annotated.
            labels: `N`, class indices.
            where: the annotation file, for the log.
            ignored: `N`, true for boxes that shall neither be learned nor counted; None for none.
        """
        given, classes = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(labels, np.int64)
        apart = np.zeros(len(classes), bool) if ignored is None else np.asarray(ignored, bool)
        width, height, _ = size
        asked, left = (
            clean_boxes(given[part], classes[part], width, height, self.report, where) for part in (~apart, apart)
        )
        record = ImageRecord(self.name_of(image), image, width, height, *asked, *left)
        if self.on_bad_image == "skip":
            try:
                record.load(min_side=1)
            except DataError as error:
                self._skip(image, error)
                return None
        return record

    def _skip(self, image: Path, error: DataError) -> None:
        logger.warning("skipped: %s", error)
        self.report.add("images that cannot be decoded skipped", str(image))

    def data(self, class_names: Sequence[str], splits: Mapping[str, Sequence[ImageRecord | None]]) -> DetectionData:
        """The finished data set. A held-out split without a single box measures nothing and is left out."""
        kept: dict[str, tuple[ImageRecord, ...]] = {}
        for split, records in splits.items():
            present = tuple(record for record in records if record is not None)
            if split == "train" or any(len(record.labels) for record in present):
                kept[split] = present
            else:
                logger.warning("split %r has no labelled box in %d images: left out", split, len(present))
        return DetectionData(tuple(class_names), kept, self.root, self.format, self.report)


def split_of(name: str) -> str | None:
    """The split a file's or folder's name speaks of, None for none of the three.

    ``instances_val2017`` is ``val``; ``trainval`` is ``train``, what may be trained on.
    """
    return next((split for split, pattern in _SPLIT_WORDS.items() if pattern.search(name)), None)


def images_below(folder: Path) -> list[Path]:
    """Image files in a folder and its subfolders, sorted by path."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def child_folder(folder: Path, *names: str) -> Path | None:
    """The first subfolder with one of the names, whatever its case."""
    if not folder.is_dir():
        return None
    folders = {child.name.lower(): child for child in sorted(folder.iterdir()) if child.is_dir()}
    return next((folders[name.lower()] for name in names if name.lower() in folders), None)


def check_declared(class_names: Sequence[str] | None, declared: Sequence[str], where: str) -> None:
    """Refuse class names given by the configuration that differ from the declared ones.

    Raises:
        DataError: they differ.
    """
    if class_names is not None and list(class_names) != list(declared):
        raise DataError(
            f"data.class_names {list(class_names)} differ from those of {where}: {list(declared)}; "
            "leave data.class_names unset."
        )
