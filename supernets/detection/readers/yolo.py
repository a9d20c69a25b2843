"""Ultralytics form: a yaml with class names and split lists, one text file of rows per image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from darts_hpo.errors import DataError
from supernets.detection.readers.builder import DataBuilder, check_declared, images_below
from supernets.detection.records import IMAGE_SUFFIXES, DetectionData, ImageRecord, check_class_names

LOOKS_FOR = "a yaml file with keys 'names' and 'train', label files beside or in labels/"

_SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


def detects(folder: Path) -> bool:
    """Whether the folder (or file) is described by such a yaml."""
    return bool(_yaml_files(folder))


def read(folder: Path, builder: DataBuilder, class_names: Sequence[str] | None) -> DetectionData:
    """Read the data set.

    Args:
        folder: holds the yaml, or is the yaml.
        builder: makes the records.
        class_names: if given, must equal the yaml's.
    """
    files = _yaml_files(folder)
    if len(files) != 1:
        found = ", ".join(f.name for f in files) or "none"
        raise DataError(f"Expected one data yaml in {folder}, found {found}; set data.root to the yaml itself.")
    file = files[0]
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    names = _class_names(settings, file)
    check_declared(class_names, names, str(file))
    base = _base(settings, file, builder)
    splits: dict[str, list[ImageRecord | None]] = {}
    for split, keys in _SPLIT_KEYS.items():
        entry = next((settings[key] for key in keys if settings.get(key)), None)
        if entry is None:
            continue
        images = _images(entry, split, base, file, builder)
        splits[split] = [_record(image, len(names), builder) for image in images]
    return builder.data(names, splits)


def _yaml_files(folder: Path) -> list[Path]:
    if folder.is_file():
        candidates = [folder] if folder.suffix in {".yaml", ".yml"} else []
    else:
        candidates = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    return [file for file in candidates if _is_description(file)]


def _is_description(file: Path) -> bool:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        if file.stem in {"data", "dataset"}:
            detail = " ".join(str(error).split())
            raise DataError(f"{file} is not valid YAML ({detail}); correct it.") from error
        return False
    return isinstance(content, dict) and "train" in content and ("names" in content or "nc" in content)


def _class_names(settings: dict[str, Any], file: Path) -> list[str]:
    names = settings.get("names")
    if isinstance(names, dict):
        keys = list(names)
        if sorted(map(str, keys), key=lambda k: (len(k), k)) != [str(i) for i in range(len(keys))]:
            raise DataError(f"The indices of 'names' in {file} are {keys}; number the classes 0 to {len(keys) - 1}.")
        names = [names[key] for key in sorted(keys, key=int)]
    if not isinstance(names, list):
        raise DataError(f"'names' in {file} is {names!r}; give a list, or a map from index to name.")
    texts = [str(name) for name in names]
    check_class_names(texts, str(file))
    if "nc" in settings and settings["nc"] != len(texts):
        raise DataError(f"{file} says nc: {settings['nc']} but has {len(texts)} names; make them agree.")
    return texts


def _base(settings: dict[str, Any], file: Path, builder: DataBuilder) -> Path:
    """The folder that split entries are relative to: ``path`` where it exists, otherwise the yaml's own.

    ``path`` is often written for another machine or working directory; the yaml's folder is then what was
    meant.
    """
    declared = settings.get("path")
    if not declared:
        return file.parent
    candidate = file.parent / Path(str(declared)).expanduser()
    if not candidate.is_dir():
        return file.parent
    return builder.inside(candidate, f"Key 'path' of {file}")


def _images(entry: Any, split: str, base: Path, file: Path, builder: DataBuilder) -> list[Path]:
    """The image files of a split: a folder, a list file, an image, or a list of these."""
    entries = entry if isinstance(entry, list) else [entry]
    named_in = f"Key '{split}' of {file}"
    images: list[Path] = []
    for item in entries:
        path = _resolve(str(item), base, named_in, builder)
        if path.is_dir():
            found = images_below(path)
            images += [builder.inside(image, named_in) for image in found]
        elif path.suffix == ".txt" and path.is_file():
            images += _listed(path, base, builder)
        elif path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            images.append(path)
        else:
            raise DataError(f"{named_in} names {item}, which is no folder, list or image in {base}; correct it.")
    if not images and split == "train":
        raise DataError(f"{named_in} leads to no images ({entry}); correct it.")
    return images


def _resolve(item: str, base: Path, named_in: str, builder: DataBuilder) -> Path:
    # Roboflow writes "../train/images" for a folder that lies beside the yaml.
    stripped = item
    while stripped.startswith("../"):
        stripped = stripped[3:]
    if stripped != item and (base / stripped).exists():
        item = stripped
    return builder.inside(base / item, named_in)


def _listed(file: Path, base: Path, builder: DataBuilder) -> list[Path]:
    images = []
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        named_in = f"{file}:{number}"
        entry = Path(line.strip())
        # "./x" is relative to the list itself by convention, everything else to the data set.
        candidates = (
            [file.parent / entry, base / entry] if line.startswith("./") else [base / entry, file.parent / entry]
        )
        image = next((c for c in candidates if c.exists()), candidates[0])
        image = builder.inside(image, named_in)
        if not image.is_file():
            raise DataError(f"{named_in} names image {entry}, which does not exist; remove the line or add the image.")
        images.append(image)
    return images


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not a text file (UTF-8); write it again as plain text.") from error


def label_file(image: Path, root: Path) -> Path:
    """Where an image's rows lie: its path with the last folder ``images`` replaced by ``labels``."""
    parts = list(PurePosixPath(image.relative_to(root).as_posix()).parts)
    for position in reversed(range(len(parts) - 1)):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return root.joinpath(*parts).with_suffix(".txt")


def _record(image: Path, num_classes: int, builder: DataBuilder) -> ImageRecord | None:
    size = builder.size(image)
    if size is None:
        return None
    labels_path = label_file(image, builder.root)
    boxes = np.zeros((0, 4))
    labels: list[int] = []
    # A missing or empty file is the convention for an image without objects.
    if labels_path.exists():
        labels_path = builder.inside(labels_path, f"The label path of {image}")
        rows = [
            _parse_row(line, num_classes, f"{labels_path}:{number}")
            for number, line in enumerate(_lines(labels_path), 1)
            if line.strip()
        ]
        labels = [label for label, _ in rows]
        if rows:
            boxes = np.stack([box for _, box in rows]) * np.tile(size[:2], 2)
    return builder.record(image, size, boxes, labels, str(labels_path))


def _parse_row(line: str, num_classes: int, where: str) -> tuple[int, NDArray[np.float64]]:
    """Class and normalized corners of one row.

    Five values are class, centre x, centre y, width and height; an odd number from seven on is a class and
    the points of a polygon, whose extent is the box.
    """
    try:
        values = [float(value) for value in line.split()]
    except ValueError:
        values = []
    if len(values) < 5 or len(values) % 2 == 0 or not all(map(math.isfinite, values)):
        raise DataError(
            f"{where}: cannot read {line.strip()[:60]!r}; expected 'class cx cy width height' "
            "or 'class x1 y1 x2 y2 x3 y3 ...', numbers relative to the image size."
        )
    label = int(values[0])
    if label != values[0] or not 0 <= label < num_classes:
        raise DataError(
            f"{where}: class id {values[0]:g} is out of range; valid are 0 to {num_classes - 1} "
            "(the 'names' of the data yaml); correct the row or add the class."
        )
    if len(values) == 5:
        x, y, w, h = values[1:]
        return label, np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    points = np.array(values[1:]).reshape(-1, 2)
    return label, np.concatenate([points.min(0), points.max(0)])
