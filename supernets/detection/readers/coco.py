"""COCO form: a json of images, annotations and categories per split, and folders of images.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014. Boxes are x, y, width, height in pixels,
0-based; category ids may have gaps and are mapped to 0..C-1 in the order of their ids. Crowd regions
(``iscrowd``) are ignored: neither learned nor counted against a detection inside them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from darts_hpo.errors import DataError
from supernets.detection.readers.builder import DataBuilder, check_declared, child_folder, split_of
from supernets.detection.records import DetectionData, ImageRecord, check_class_names

LOOKS_FOR = "instances json files in annotations/ or beside the images (_annotations.coco.json)"

_KEYS = ("images", "annotations", "categories")
_Id: TypeAlias = int | float | str


@dataclass(frozen=True)
class _Instances:
    """One json and what it says of its categories."""

    file: Path
    content: dict[str, Any]
    names: list[str]
    index: dict[int, int]


@dataclass
class _Image:
    """One entry of ``images`` and the annotations that belong to it."""

    name: str
    size: tuple[float, float] | None
    boxes: list[list[float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    ignored: list[bool] = field(default_factory=list)


def detects(folder: Path) -> bool:
    """Whether there are jsons with images, annotations and categories where COCO or Roboflow put them."""
    return bool(_json_files(folder))


def read(folder: Path, builder: DataBuilder, class_names: Sequence[str] | None) -> DetectionData:
    """Read the data set.

    Args:
        folder: holds the jsons, or is a json.
        builder: makes the records.
        class_names: if given, must equal the declared categories in the order of their ids.

    Raises:
        DataError: a json is malformed, its ids do not match, or an image is missing.
    """
    files = _by_split(_json_files(folder), folder)
    base = folder if folder.is_dir() else folder.parent
    names: list[str] | None = None
    splits: dict[str, list[ImageRecord | None]] = {}
    for split, file in files.items():
        instances = _load(builder.inside(file, str(folder)))
        if names is not None and instances.names != names:
            raise DataError(f"The categories of {file} differ from those of the other split; make them equal.")
        names = instances.names
        splits[split] = _records(instances, split, base, builder)
    check_declared(class_names, names or [], str(folder))
    return builder.data(names or [], splits)


def _json_files(folder: Path) -> list[Path]:
    """Candidate jsons; COCO's files of other tasks (captions, keypoints) give way to ``instances_*``."""
    if folder.is_file():
        candidates = [folder] if folder.suffix == ".json" else []
    else:
        places = [folder, child_folder(folder, "annotations")]
        places += [child for child in sorted(folder.iterdir()) if child.is_dir() and split_of(child.name)]
        candidates = [file for place in places if place for file in sorted(place.glob("*.json"))]
    found = [file for file in candidates if _mentions_keys(file)]
    return [file for file in found if file.name.startswith("instances")] or found


def _mentions_keys(file: Path) -> bool:
    content = file.read_bytes()
    return content.lstrip()[:1] == b"{" and all(f'"{key}"'.encode() in content for key in _KEYS)


def _by_split(files: list[Path], folder: Path) -> dict[str, Path]:
    if len(files) == 1:
        return {split_of(files[0].stem) or split_of(files[0].parent.name) or "train": files[0]}
    splits: dict[str, Path] = {}
    for file in files:
        split = split_of(file.stem) or split_of(file.parent.name)
        if split is None or split in splits:
            listed = ", ".join(f.name for f in files)
            raise DataError(
                f"Cannot tell the splits of {listed} in {folder} apart; name one file each with train, val or test."
            )
        splits[split] = file
    return {split: splits[split] for split in ("train", "val", "test") if split in splits}


def _load(file: Path) -> _Instances:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not valid JSON ({error}); correct it.") from error
    for key in _KEYS:
        if not isinstance(content.get(key), list):
            raise DataError(f"{file} has no list {key!r}; it must have {', '.join(_KEYS)}.")
    try:
        categories = sorted((int(c["id"]), str(c["name"])) for c in content["categories"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: every category needs an integer 'id' and a 'name'; correct the list.") from error
    ids, names = [i for i, _ in categories], [name for _, name in categories]
    if len(set(ids)) != len(ids):
        raise DataError(f"{file}: category ids {ids} are not unique; number them apart.")
    check_class_names(names, str(file))
    return _Instances(file, content, names, {identity: position for position, identity in enumerate(ids)})


def _records(instances: _Instances, split: str, base: Path, builder: DataBuilder) -> list[ImageRecord | None]:
    file = instances.file
    images: dict[_Id, _Image] = {}
    for entry in instances.content["images"]:
        identity, image = _image(entry, file)
        if identity in images:
            raise DataError(f"{file}: image id {identity} is used twice; number the images apart.")
        images[identity] = image
    for annotation in instances.content["annotations"]:
        _add(annotation, instances, images, builder)
    first = next((image.name for image in images.values()), None)
    folder = _image_folder(instances, first, split, base, builder)
    records = []
    for image in images.values():
        where = f"{file}, image {image.name}"
        path = builder.inside(folder / image.name, str(file))
        if not path.is_file():
            raise DataError(f"{file} names image {image.name}, which is not in {folder}; add it or remove the entry.")
        size = builder.size(path, image.size, where)
        if size is None:
            continue
        records.append(builder.record(path, size, image.boxes, image.labels, where, image.ignored))
    return records


def _image(entry: Any, file: Path) -> tuple[_Id, _Image]:
    """Id and content of one entry of ``images``."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("id"), _Id) or "file_name" not in entry:
        raise DataError(f"{file}: every image needs 'id' and 'file_name'; correct {_shown(entry)} in 'images'.")
    size = entry.get("width"), entry.get("height")
    declared = None
    if all(size):  # zero is how some tools write that they do not know
        if not all(isinstance(side, int | float) for side in size):
            raise DataError(f"{file}: width and height of {entry['file_name']} are {size}; expected pixels.")
        declared = (float(size[0]), float(size[1]))  # type: ignore[arg-type]
    return entry["id"], _Image(str(entry["file_name"]), declared)


def _add(annotation: Any, instances: _Instances, images: Mapping[_Id, _Image], builder: DataBuilder) -> None:
    """Give one annotation to its image."""
    if not isinstance(annotation, Mapping):
        raise DataError(f"{instances.file}: the annotation {_shown(annotation)} is no object of keys; correct it.")
    where = f"{instances.file}: annotation {annotation.get('id', '(without id)')}"
    identity, category = annotation.get("image_id"), annotation.get("category_id")
    if not isinstance(identity, _Id) or identity not in images:
        raise DataError(f"{where} belongs to image id {identity}, which is not in 'images'; add it or remove it.")
    if not isinstance(category, int) or category not in instances.index:
        valid = ", ".join(map(str, sorted(instances.index)))
        raise DataError(f"{where} has category_id {category}, which is out of range; valid are {valid}.")
    values = annotation.get("bbox")
    numbers = isinstance(values, list) and len(values) == 4 and all(isinstance(v, int | float) for v in values)
    if not isinstance(values, list) or not numbers or not all(map(math.isfinite, values)):
        raise DataError(f"{where} has bbox {values}; expected four numbers: x, y, width, height in pixels.")
    crowd = bool(annotation.get("iscrowd"))
    builder.report.add("crowd regions ignored, in training and in scores", str(instances.file), crowd)
    x, y, w, h = values
    image = images[identity]
    image.boxes.append([x, y, x + w, y + h])
    image.labels.append(instances.index[category])
    image.ignored.append(crowd)


def _shown(value: object) -> str:
    """The beginning of a value, for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _image_folder(instances: _Instances, first: str | None, split: str, base: Path, builder: DataBuilder) -> Path:
    """The folder the images lie in: the first of the usual places that holds the first image."""
    file = instances.file
    # instances_train2017.json goes with train2017/.
    named = file.stem.removeprefix("instances_")
    places = [file.parent]
    for top in (base, base / "images", file.parent.parent, file.parent.parent / "images"):
        places += [top / named, top / split, *([top / "valid"] if split == "val" else []), top]
    if first is None:
        return base
    for place in dict.fromkeys(places):
        if (place / first).is_file() and (place / first).resolve().is_relative_to(builder.root):
            return place
    builder.inside(base / first, str(file))
    tried = ", ".join(str(place) for place in dict.fromkeys(places) if place.is_dir())
    raise DataError(f"{file} names image {first}, found in none of {tried}; add the image folder beside the json.")
