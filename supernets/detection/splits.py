"""Four disjoint splits out of what a data set offers.

``train`` is for weights, ``arch`` for architecture logits, ``val`` for every selection, ``test`` for the
final number. Splits the data set offers are kept; missing ones are carved from its training images and never
from its test images.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from darts_hpo.errors import ConfigError, DataError
from darts_hpo.runs import write_json
from darts_hpo.training.task import Split
from supernets.detection.records import DetectionData, ImageRecord

logger = logging.getLogger(__name__)

SPLIT_NAMES: tuple[Split, ...] = ("train", "arch", "val", "test")
FILE_NAME = "splits.json"
SCHEMA_VERSION = 1

# An image found in several offered splits stays in the one that measures most.
_PRECEDENCE = ("test", "val", "arch", "train")


@dataclass(frozen=True)
class DetectionSplits:
    """Image ids of the four splits.

    Attributes:
        ids: by split, in the order in which the split is evaluated.
        seed: the images were drawn with.
    """

    ids: Mapping[str, tuple[str, ...]]
    seed: int

    def records(self, data: DetectionData, split: Split) -> list[ImageRecord]:
        """The records of a split; ``train+arch`` is both, train first.

        Raises:
            DataError: an image of the split is not in the data set.
        """
        by_id = {record.id: record for records in data.splits.values() for record in records}
        chosen = []
        for part in split.split("+"):
            for identity in self.ids[part]:
                if identity not in by_id:
                    raise DataError(
                        f"Image {identity} of split {part!r} ({FILE_NAME}) is not in "
                        f"{data.root or 'the data'}; "
                        "restore the data set, or start another run with run=NAME."
                    )
                chosen.append(by_id[identity])
        return chosen

    def save(self, run_dir: Path) -> Path:
        """Write ``splits.json`` atomically."""
        run_dir.mkdir(parents=True, exist_ok=True)
        splits = {name: list(ids) for name, ids in self.ids.items()}
        path = run_dir / FILE_NAME
        write_json(path, {"schema_version": SCHEMA_VERSION, "seed": self.seed, "splits": splits})
        return path

    @classmethod
    def load(cls, run_dir: Path) -> DetectionSplits:
        """Read ``splits.json``.

        Raises:
            DataError: it is damaged or of another version.
        """
        path = run_dir / FILE_NAME
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if content["schema_version"] != SCHEMA_VERSION:
                raise DataError(
                    f"{path} has version {content['schema_version']}, expected {SCHEMA_VERSION}; "
                    "start another run with run=NAME."
                )
            ids: dict[str, tuple[str, ...]] = {name: tuple(content["splits"][name]) for name in SPLIT_NAMES}
            return cls(ids, int(content["seed"]))
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{path} cannot be read ({error}); start another run with run=NAME.") from error


def make_splits(
    data: DetectionData,
    seed: int,
    *,
    arch_fraction: float = 0.3,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
) -> DetectionSplits:
    """Draw the splits the data set does not offer.

    Images that occur in several offered splits (same bytes) stay in the one that measures most (test, then
    val) and are removed from the others; repeated training images are used once, so that no copy of one can
    be drawn into another split.

    Args:
        data: what is offered.
        seed: of the drawing.
        arch_fraction: part of the images left for training that becomes ``arch``, in (0, 1); not used if one
            is offered.
        val_fraction: part of the offered training images that becomes ``val`` if none is offered.
        test_fraction: the same for ``test``.

    Raises:
        ConfigError: a fraction is out of range.
        DataError: no training images, or too few to make the splits.
    """
    fractions = {"arch": arch_fraction, "val": val_fraction, "test": test_fraction}
    for name, fraction in fractions.items():
        if not 0 < fraction < 1:
            raise ConfigError(f"task.{name}_fraction is {fraction}; it must lie between 0 and 1.")
    offered, examples = _without_duplicates(data)
    pool = [record.id for record in offered.get("train", [])]
    if not pool and data.splits.get("train"):
        raise DataError(
            f"The data set offers no training images of their own: every one of train is in another split too "
            f"({examples['train']}). Let train name other images, or leave that split out: it is then taken from train."
        )
    if not pool:
        names = ", ".join(data.splits)
        raise DataError(f"The data set offers no training images (only {names}); add a train split.")
    shuffled = [pool[i] for i in np.random.default_rng([seed, len(pool)]).permutation(len(pool))]
    position = {identity: i for i, identity in enumerate(pool)}

    missing = [name for name in ("test", "val", "arch") if not offered.get(name)]
    ids = {name: tuple(record.id for record in offered.get(name, [])) for name in ("arch", "val", "test")}
    if len(pool) <= len(missing):
        raise DataError(
            f"{len(pool)} training images are too few for the splits train, {', '.join(missing)}; "
            "add images, or offer these splits in the data set."
        )
    for i, name in enumerate(missing):
        # The architecture's part is one of what is left for training, the others are parts of all.
        total = len(shuffled) if name == "arch" else len(pool)
        still_to_fill = len(missing) - i
        number = min(max(1, round(fractions[name] * total)), len(shuffled) - still_to_fill)
        ids[name] = tuple(sorted(shuffled[:number], key=position.__getitem__))
        shuffled = shuffled[number:]
    ids["train"] = tuple(sorted(shuffled, key=position.__getitem__))
    splits = DetectionSplits({name: ids[name] for name in SPLIT_NAMES}, seed)
    verify_disjoint(splits, data)
    logger.info("splits: %s images", ", ".join(f"{name} {len(ids[name])}" for name in SPLIT_NAMES))
    return splits


def prepare_splits(data: DetectionData, run_dir: Path, seed: int, **fractions: float) -> DetectionSplits:
    """The splits saved in the run directory, or new ones, saved there.

    Args:
        data: what is offered.
        run_dir: of the run.
        seed: of the drawing, if there is nothing saved.
        fractions: see `make_splits`.
    """
    if (run_dir / FILE_NAME).exists():
        splits = DetectionSplits.load(run_dir)
        verify_disjoint(splits, data)
        return splits
    splits = make_splits(data, seed, **fractions)
    splits.save(run_dir)
    return splits


def verify_disjoint(splits: DetectionSplits, data: DetectionData) -> None:
    """Assert that no image, whatever its name, is in two splits.

    Images are compared by content, so links and copies are found too.

    Raises:
        DataError: names the image and both splits.
    """
    owner: dict[str, tuple[str, str]] = {}
    owned = [(name, record) for name in SPLIT_NAMES for record in splits.records(data, name)]
    for (name, record), key in zip(owned, content_keys([record for _, record in owned]), strict=True):
        other, twin = owner.setdefault(key, (name, record.id))
        if other != name:
            raise DataError(
                f"Image {record.id} of split {name!r} is also in split {other!r} (as {twin}); "
                f"remove {FILE_NAME} or start another run with run=NAME."
            )


def content_keys(records: Sequence[ImageRecord]) -> list[str]:
    """For each record a string that is equal for equal content and different otherwise.

    Files are only read where another one has the same length.
    """
    lengths = [
        record.source.nbytes if isinstance(record.source, np.ndarray) else record.source.stat().st_size
        for record in records
    ]
    repeated = {length for length, number in Counter(lengths).items() if number > 1}
    return [
        record.digest() if length in repeated else f"the only one of {length} bytes"
        for record, length in zip(records, lengths, strict=True)
    ]


def _without_duplicates(data: DetectionData) -> tuple[dict[str, list[ImageRecord]], dict[str, str]]:
    """The offered splits, each image once over all of them; repeats inside val and test stay as published.

    Returns:
        The records by split, and for every split that lost some one example of where they are.
    """
    named = [(name, record) for name in _PRECEDENCE for record in data.splits.get(name, ())]
    keys = content_keys([record for _, record in named])
    owner: dict[str, tuple[str, str]] = {}
    kept: dict[str, list[ImageRecord]] = {}
    removed: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for (name, record), key in zip(named, keys, strict=True):
        first, twin = owner.setdefault(key, (name, record.id))
        is_first = twin == record.id and first == name
        if is_first or (first == name and name in ("val", "test")):
            kept.setdefault(name, []).append(record)
        else:
            removed[name] += 1
            examples.setdefault(name, f"{record.id} is {twin} of {first}")
    for name, number in removed.items():
        logger.warning("%d duplicate images removed from %s, for example %s", number, name, examples[name])
    return kept, examples
