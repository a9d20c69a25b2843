"""PASCAL VOC form: one XML file per image, split lists in ImageSets/Main.

Everingham et al., "The Pascal Visual Object Classes Challenge", IJCV 2010. Pixel coordinates are 1-based and
inclusive, so pixel columns xmin..xmax become the half-open interval [xmin - 1, xmax). Objects marked difficult are
ignored as in the challenge, neither learned nor counted, unless they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from darts_hpo.errors import DataError, unknown_name
from supernets.detection.readers.builder import DataBuilder, child_folder, split_of
from supernets.detection.records import IMAGE_SUFFIXES, DetectionData, ImageRecord, check_class_names

if TYPE_CHECKING:
    # The standard parser is named for its types only; parsing goes through defusedxml.
    from xml.etree.ElementTree import Element

LOOKS_FOR = "folders Annotations/ (xml) and JPEGImages/, or train/ valid/ test/ with an xml beside each image"

_ANNOTATIONS, _IMAGES = ("Annotations", "labels"), ("JPEGImages", "images")


@dataclass(frozen=True)
class _Object:
    name: str
    box: tuple[float, float, float, float]
    ignored: bool


@dataclass(frozen=True)
class _Annotation:
    """One XML file: the image size it declares, if it does, and its objects."""

    size: tuple[float, float] | None
    objects: list[_Object]


def detects(folder: Path) -> bool:
    """Whether the folder is laid out as VOCdevkit/VOC20xx, or in split folders of images with an xml each."""
    annotations = child_folder(folder, *_ANNOTATIONS)
    if annotations and child_folder(folder, *_IMAGES) and any(annotations.glob("*.xml")):
        return True
    return bool(_split_folders(folder))


def read(folder: Path, builder: DataBuilder, class_names: Sequence[str] | None) -> DetectionData:
    """Read the data set.

    Args:
        folder: with ``Annotations`` and ``JPEGImages``, or with split folders.
        builder: makes the records.
        class_names: the classes, in order; None takes all names found in any split, sorted.

    Raises:
        DataError: an annotation is missing, malformed, declares XML entities, or names an unlisted class.
    """
    files = _annotation_files(folder, builder)
    parsed = {file: _parse(file, builder) for split in files.values() for file, _ in split}
    if class_names is None:
        class_names = sorted({found.name for annotation in parsed.values() for found in annotation.objects})
    check_class_names(class_names, f"the annotations in {folder}")
    index = {name: i for i, name in enumerate(class_names)}
    splits: dict[str, list[ImageRecord | None]] = {}
    for split, pairs in files.items():
        splits[split] = [_record(file, image, parsed[file], index, builder) for file, image in pairs]
    return builder.data(class_names, splits)


def _split_folders(folder: Path) -> dict[str, Path]:
    """Split folders that hold xml files."""
    if not folder.is_dir():
        return {}
    found = {split_of(child.name): child for child in sorted(folder.iterdir()) if child.is_dir()}
    return {split: child for split, child in found.items() if split and any(child.glob("*.xml"))}


def _annotation_files(folder: Path, builder: DataBuilder) -> dict[str, list[tuple[Path, Path]]]:
    """Annotation and image files of each offered split."""
    annotations, images = child_folder(folder, *_ANNOTATIONS), child_folder(folder, *_IMAGES)
    if not annotations or not images:
        folders = _split_folders(folder)
        return {
            split: [_pair(file.stem, child, child, str(child), builder) for file in sorted(child.glob("*.xml"))]
            for split, child in folders.items()
        }
    lists = _image_sets(folder, builder)
    if not lists:
        lists = {"train": [(file.stem, str(annotations)) for file in sorted(annotations.glob("*.xml"))]}
    return {
        split: [_pair(stem, annotations, images, where, builder) for stem, where in entries]
        for split, entries in lists.items()
    }


def _image_sets(folder: Path, builder: DataBuilder) -> dict[str, list[tuple[str, str]]]:
    """Image names of each split with the line that names them; empty without ImageSets/Main."""
    main = folder / "ImageSets" / "Main"
    lists: dict[str, list[tuple[str, str]]] = {}
    for split in ("train", "val", "test", "trainval"):
        file = main / f"{split}.txt"
        if file.is_file():
            lines = builder.inside(file, str(main)).read_text(encoding="utf-8").splitlines()
            # A per-class list carries a flag after the name; the name comes first either way.
            lists[split] = [(line.split()[0], f"{file}:{n}") for n, line in enumerate(lines, 1) if line.strip()]
    both = lists.pop("trainval", [])
    if "train" not in lists and both:
        held_out = {stem for stem, _ in lists.get("val", [])}
        lists["train"] = [entry for entry in both if entry[0] not in held_out]
    return lists


def _pair(stem: str, annotations: Path, images: Path, where: str, builder: DataBuilder) -> tuple[Path, Path]:
    file = builder.inside(annotations / f"{stem}.xml", where)
    if not file.is_file():
        raise DataError(f"{where} names {stem}, but {file} does not exist; add the annotation or remove the name.")
    candidates = (images / f"{stem}{suffix}" for suffix in _suffixes())
    image = next((candidate for candidate in candidates if candidate.is_file()), None)
    if image is None:
        raise DataError(f"No image {stem}.* in {images} for {file}; add the image or remove the annotation.")
    return file, builder.inside(image, str(file))


def _suffixes() -> list[str]:
    ordered = sorted(IMAGE_SUFFIXES, key=lambda suffix: (suffix != ".jpg", suffix))
    return [*ordered, *(suffix.upper() for suffix in ordered)]


def _parse(file: Path, builder: DataBuilder) -> _Annotation:
    try:
        root: Element = ElementTree.fromstring(file.read_bytes(), forbid_dtd=True)
    except DefusedXmlException as error:
        raise DataError(
            f"{file} declares a document type or XML entities, which can exhaust memory or read files; "
            "refused. Remove the declaration."
        ) from error
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{file} is not well-formed XML ({error}); correct or remove it.") from error
    objects = []
    for element in root.iter("object"):
        ignored = (element.findtext("difficult") or "0").strip() == "1" and not builder.keep_difficult
        builder.report.add("objects marked difficult ignored, in training and in scores", str(file), ignored)
        objects.append(_Object(_text(element, "name", file), _box(element, file), ignored))
    return _Annotation(_size(root, file), objects)


def _size(root: Element, file: Path) -> tuple[float, float] | None:
    """Declared width and height; None without them, or where they are zero, as some tools write it."""
    element = root.find("size")
    if element is None:
        return None
    width, height = (_number(element, tag, file) if element.findtext(tag) else 0.0 for tag in ("width", "height"))
    return (width, height) if width and height else None


def _text(element: Element, tag: str, file: Path) -> str:
    text = (element.findtext(tag) or "").strip()
    if not text:
        raise DataError(f"{file}: an <object> has no <{tag}>; add it or remove the object.")
    return text


def _box(element: Element, file: Path) -> tuple[float, float, float, float]:
    box = element.find("bndbox")
    if box is None:
        raise DataError(f"{file}: an <object> has no <bndbox>; add it or remove the object.")
    x1, y1, x2, y2 = (_number(box, tag, file) for tag in ("xmin", "ymin", "xmax", "ymax"))
    # Equal corners are a click without a drag, not an object one pixel wide: kept degenerate, to be counted.
    return x1 - 1, y1 - 1, (x2 if x2 > x1 else x1 - 1), (y2 if y2 > y1 else y1 - 1)


def _number(element: Element, tag: str, file: Path) -> float:
    text = _text(element, tag, file)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{file}: <{tag}> is {text!r}; expected a number of pixels.")
    return value


def _record(
    file: Path, image: Path, annotation: _Annotation, index: dict[str, int], builder: DataBuilder
) -> ImageRecord | None:
    objects = annotation.objects
    for found in objects:
        if found.name not in index:
            raise DataError(f"{file}: {unknown_name('class', found.name, index)} Add it to data.class_names.")
    size = builder.size(image, annotation.size, str(file))
    if size is None:
        return None
    labels, ignored = [index[o.name] for o in objects], [o.ignored for o in objects]
    return builder.record(image, size, [o.box for o in objects], labels, str(file), ignored)
