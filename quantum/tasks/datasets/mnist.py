"""MNIST and Fashion-MNIST from files that are already on this machine; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darts_hpo.errors import ConfigError, DataError
from quantum.tasks.datasets.labelled import LabelledData, chosen_classes
from quantum.tasks.datasets.pooling import pooled

IMAGE_SIZE = 28
BRIGHTEST = 255.0
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def mnist(
    root: str,
    classes: Sequence[int] | None = None,
    size: int = 4,
    crop: int = 24,
    train_samples: int | None = None,
    test_samples: int | None = None,
) -> LabelledData:
    """Handwritten digits, 28 x 28 pixels, averaged down to a small image.

    The centred 24 x 24 pixels are averaged in blocks of 6 to 4 x 4, the pooling of TorchQuantum's benchmarks. The
    data set's own test images are the test split; the others are divided into train, arch and val.

    Args:
        root: folder that contains ``MNIST/raw`` with the four unpacked files.
        classes: digits to tell apart, labels in this order; None takes all ten.
        size: side of the image in pixels; divides the crop. Features are its pixels, row by row.
        crop: side of the centred crop in pixels.
        train_samples: keep the first so many images for train, arch and val, the same number of every class.
        test_samples: keep the first so many test images, likewise.

    Raises:
        ConfigError: a class, a size or a number of samples is not available.
        DataError: a file is absent or damaged.
    """
    return _read("MNIST", root, classes, size, crop, train_samples, test_samples)


def fashion_mnist(
    root: str,
    classes: Sequence[int] | None = None,
    size: int = 4,
    crop: int = 24,
    train_samples: int | None = None,
    test_samples: int | None = None,
) -> LabelledData:
    """Clothes and bags in the format of :func:`mnist`, whose arguments these are; in ``FashionMNIST/raw``."""
    return _read("FashionMNIST", root, classes, size, crop, train_samples, test_samples)


def _read(
    name: str,
    root: str,
    classes: Sequence[int] | None,
    size: int,
    crop: int,
    train_samples: int | None,
    test_samples: int | None,
) -> LabelledData:
    folder = Path(root).expanduser()
    train, train_labels, names = _part(name, folder, train=True)
    test, test_labels, _ = _part(name, folder, train=False)
    features, labels = [], []
    wanted: list[int] = []
    for images, truth, key, limit in (
        (train, train_labels, "train_samples", train_samples),
        (test, test_labels, "test_samples", test_samples),
    ):
        kept, places, wanted = chosen_classes(truth, classes, len(names))
        first = _first_of_every_class(places, len(wanted), key, limit)
        chosen = images[kept][first]
        features.append(pooled(chosen, size, crop).reshape(len(chosen), -1))
        labels.append(places[first])
    return LabelledData(
        features=np.concatenate(features),
        labels=np.concatenate(labels),
        class_names=tuple(names[label] for label in wanted),
        value_range=(0.0, BRIGHTEST),
        held_out=np.repeat([False, True], [len(part) for part in labels]),
        preprocessing={
            "channels": "gray, ink bright",
            "image_size": [IMAGE_SIZE, IMAGE_SIZE],
            "range": [0.0, BRIGHTEST],
            "center_crop": crop,
            "average_pool": crop // size,
            "layout": "row by row",
        },
    )


def _part(name: str, root: Path, *, train: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Images `N x 28 x 28`, labels `N` and the names of the classes."""
    folder = root / name / "raw"
    absent = [file for file in FILES if not (folder / file).is_file()]
    if absent:
        packed = [file for file in absent if (folder / f"{file}.gz").is_file()]
        remedy = "unpack them with gunzip" if packed else "put them there, or name their folder with task.data.root"
        raise DataError(f"{name} is not in {folder}: {', '.join(absent)} missing; {remedy}. Nothing is downloaded.")

    from torchvision import datasets

    reader: Any = getattr(datasets, name)
    try:
        source = reader(root, train=train, download=False)
        images, labels = source.data.numpy(), source.targets.numpy().astype(np.int64)
    except (AssertionError, KeyError, RuntimeError, ValueError) as error:
        raise DataError(f"A file in {folder} is damaged ({error or type(error).__name__}); replace it.") from None
    if images.shape != (len(labels), IMAGE_SIZE, IMAGE_SIZE):
        raise DataError(f"{folder} has images of shape {images.shape} and {len(labels)} labels; they do not belong.")
    return images, labels, [text.partition(" - ")[0] for text in source.classes]


def _first_of_every_class(labels: NDArray[np.int64], n_classes: int, key: str, limit: int | None) -> NDArray[np.int64]:
    """Positions of the first samples, ascending, every class as often as the others."""
    if limit is None:
        return np.arange(len(labels))
    most = n_classes * int(np.bincount(labels, minlength=n_classes).min())
    if limit < n_classes or limit % n_classes or limit > most:
        raise ConfigError(
            f"task.data.{key}={limit}: expected a multiple of the {n_classes} classes up to {most}, or null for all."
        )
    each = limit // n_classes
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:each] for label in range(n_classes)]))
