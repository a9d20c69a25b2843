"""Images with their boxes, as every reader hands them over."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from darts_hpo.errors import DataError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

# A box side below half a pixel (after clipping) carries nothing that could be learned or measured.
MIN_BOX_SIDE = 0.5
# Formats disagree by up to one pixel about where a pixel starts; only more than that is reported as clipped.
CLIP_TOLERANCE = 1.0
# Orientation 5..8 of the EXIF standard swap width and height; 274 is the tag's number.
_EXIF_ORIENTATION, _EXIF_SWAPPED = 274, frozenset({5, 6, 7, 8})


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image and its objects.

    Attributes:
        id: unique in the data set; for files the path below the data set's root, with forward slashes.
        source: the file, or the decoded image, `height x width x 3`, uint8, RGB.
        width: in pixels, as displayed (EXIF orientation applied).
        height: in pixels, as displayed.
        boxes: `N x 4`, float32, corners (x1, y1, x2, y2) in pixels, 0-based, x2 and y2 exclusive.
        labels: `N`, int64, class indices.
        ignored_boxes: `K x 4`, like ``boxes``: crowds and objects too difficult to ask for. Nothing is learned
            from them, and finding something there is neither right nor wrong.
        ignored_labels: `K`, int64, their class indices.
    """

    id: str
    source: Path | NDArray[np.uint8]
    width: int
    height: int
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored_boxes: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    ignored_labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def load(self, min_side: int | None = None) -> NDArray[np.uint8]:
        """The decoded image, `height x width x 3`, uint8, RGB.

        Args:
            min_side: allows a JPEG to be decoded at a half, a quarter or an eighth of its size as long as
                both sides stay at least this long, which is several times faster for photographs.

        Raises:
            DataError: the file is truncated, corrupt or not an image.
        """
        if isinstance(self.source, np.ndarray):
            return self.source
        try:
            with warnings.catch_warnings():
                # Size alone is no defect of a file; Pillow still refuses what could exhaust the memory.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(self.source) as image:
                    if min_side is not None:
                        image.draft("RGB", (min_side, min_side))
                    return _rgb(ImageOps.exif_transpose(image))
        except FileNotFoundError as error:
            raise DataError(f"Image {self.source} has gone since the data set was read; restore it.") from error
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(
                f"Image {self.source} cannot be decoded ({error}); replace or remove it, "
                "or pass data.on_bad_image=skip."
            ) from error

    def digest(self) -> str:
        """SHA-256 of the file's bytes, or of an in-memory image's size and pixels."""
        if isinstance(self.source, np.ndarray):
            hasher = hashlib.sha256(str(self.source.shape).encode())
            hasher.update(np.ascontiguousarray(self.source).data)
            return hasher.hexdigest()
        with self.source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels in eight bits and three colours, whatever the file has."""
    if image.mode.startswith("I"):
        # Pillow clips deeper greys to 255 where they should be scaled: a 16-bit microscope image turns white.
        grey = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no known range; convert it to 8 bits")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


@dataclass
class CleaningReport:
    """How many boxes and images a reader repaired or left out, and the first example of each kind.

    Attributes:
        counts: number of cases by kind, for example ``{"clipped boxes": 3}``.
        examples: one case of each kind, naming its file.
    """

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, where: str, number: int = 1) -> None:
        """Count ``number`` cases of a kind."""
        if number:
            self.counts[kind] = self.counts.get(kind, 0) + number
            self.examples.setdefault(kind, where)

    def __getitem__(self, kind: str) -> int:
        return self.counts.get(kind, 0)

    def log(self) -> None:
        """One warning line for each kind."""
        for kind, number in sorted(self.counts.items()):
            logger.warning("%d %s, first in %s", number, kind, self.examples[kind])


@dataclass(frozen=True)
class DetectionData:
    """A data set as it comes, before the four splits are made of it.

    Attributes:
        class_names: by class index.
        splits: records of each split the data set offers: ``train`` and any of ``arch``, ``val``, ``test``.
        root: folder the paths lie in; none for data in memory.
        format: the reader's name.
        report: what was clipped or left out.
    """

    class_names: tuple[str, ...]
    splits: Mapping[str, tuple[ImageRecord, ...]]
    root: Path | None
    format: str
    report: CleaningReport = field(default_factory=CleaningReport)

    def __post_init__(self) -> None:
        where = f"the {self.format} data set{f' in {self.root}' if self.root else ''}"
        check_class_names(self.class_names, where)
        for split, records in self.splits.items():
            ids = [record.id for record in records]
            if len(set(ids)) != len(ids):
                twice = next(name for name in ids if ids.count(name) > 1)
                raise DataError(f"Image {twice} is listed twice in split {split!r} of {where}; list it once.")
        if not any(self.splits.values()):
            raise DataError(f"There are no images in {where}; check data.root and its split lists.")
        if not any(len(record.labels) for records in self.splits.values() for record in records):
            raise DataError(
                f"There is no usable box in {where}; check that the annotations lie where the format expects them."
            )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def class_counts(self, split: str) -> NDArray[np.int64]:
        """`C`: number of boxes of each class in a split."""
        labels = [record.labels for record in self.splits[split]]
        return np.bincount(np.concatenate([np.zeros(0, np.int64), *labels]), minlength=self.num_classes)

    def log_summary(self) -> None:
        """Log images and boxes of every split, what was left out, and classes without a training box."""
        for split, records in self.splits.items():
            counts = self.class_counts(split)
            per_class = ", ".join(f"{n} {c}" for n, c in zip(self.class_names, counts, strict=True))
            logger.info("%s: %d images, %d boxes (%s)", split, len(records), counts.sum(), per_class)
        self.report.log()
        if "train" in self.splits:
            absent = [n for n, c in zip(self.class_names, self.class_counts("train"), strict=True) if c == 0]
            if absent:
                logger.warning("no training box of class %s: it cannot be learned", ", ".join(absent))


def check_class_names(names: Iterable[str], where: str) -> None:
    """Refuse an empty list of classes, empty names and duplicates.

    Raises:
        DataError: names ``where``.
    """
    names = list(names)
    if not names:
        raise DataError(f"No class names in {where}; give at least one.")
    for name in names:
        if not name.strip():
            raise DataError(f"An empty class name in {where}; name every class.")
        if names.count(name) > 1:
            raise DataError(f"Class name {name!r} occurs twice in {where}; make the names unique.")


class ImageSize(NamedTuple):
    """Size of an image file as displayed.

    Attributes:
        width: in pixels.
        height: in pixels.
        turned: whether the file stores width and height the other way round, by its EXIF orientation.
    """

    width: int
    height: int
    turned: bool


def image_size(path: Path) -> ImageSize:
    """The size of an image file, from its header alone.

    Raises:
        DataError: not an image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
                if image.getexif().get(_EXIF_ORIENTATION) in _EXIF_SWAPPED:
                    return ImageSize(height, width, turned=True)
                return ImageSize(width, height, turned=False)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"Image {path} cannot be read ({error}); replace or remove it, or pass data.on_bad_image=skip."
        ) from error


def clean_boxes(
    boxes: ArrayLike, labels: ArrayLike, width: int, height: int, report: CleaningReport, where: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Clip boxes to the image, drop degenerate and repeated ones, and count both.

    Args:
        boxes: `N x 4`, corners in pixels.
        labels: `N`, class indices.
        width: of the image, pixels.
        height: of the image, pixels.
        report: counts are added here.
        where: names the image or annotation in the log.

    Returns:
        The boxes kept, float32, and their labels, int64, in the order given.
    """
    given = np.asarray(boxes, np.float64).reshape(-1, 4)
    classes = np.asarray(labels, np.int64).reshape(-1)
    clipped = np.clip(given, 0, np.array([width, height, width, height], np.float64))
    sound = (given[:, 2:] - given[:, :2] > 0).all(1) & (clipped[:, 2:] - clipped[:, :2] >= MIN_BOX_SIDE).all(1)
    moved = (np.abs(given - clipped) > CLIP_TOLERANCE).any(1) & sound
    report.add("degenerate or out-of-image boxes dropped", where, int((~sound).sum()))
    report.add("boxes clipped to the image", where, int(moved.sum()))
    clipped, classes = clipped[sound], classes[sound]
    rows = np.concatenate([clipped, classes[:, None]], axis=1)
    first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
    report.add("repeated boxes dropped", where, len(rows) - len(first))
    return clipped[first].astype(np.float32), classes[first]


def inside(root: Path, path: Path, named_in: str) -> Path:
    """``path``, resolved, if it lies below ``root`` once every symbolic link is followed.

    Args:
        root: the data set's folder.
        path: absolute, or relative to ``root``.
        named_in: the file that names the path, for the message.

    Raises:
        DataError: it does not.
    """
    resolved = (root / path).resolve()
    if not resolved.is_relative_to(root.resolve()):
        raise DataError(
            f"{named_in} names {path}, which leads out of the data root {root}; "
            "copy the data below the root or set data.root to the folder that holds both."
        )
    return resolved
