"""Division of labelled samples into the four splits, kept in the run directory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darts_hpo.errors import ConfigError, DataError
from darts_hpo.runs import write_json

PARTS = ("train", "arch", "val", "test")


def checked_fractions(fractions: Sequence[float]) -> tuple[float, float, float, float]:
    """Shares of train, arch, val and test.

    Raises:
        ConfigError: they are not four positive numbers of sum 1.
    """
    shares = tuple(float(share) for share in fractions)
    if len(shares) != len(PARTS) or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise ConfigError(
            f"task.fractions={list(fractions)}: expected four positive shares of sum 1 ({', '.join(PARTS)})."
        )
    return shares[0], shares[1], shares[2], shares[3]


def stratified_splits(
    labels: NDArray[np.int64],
    fractions: Sequence[float],
    seed: int,
    *,
    held_out: NDArray[np.bool_] | None = None,
) -> dict[str, list[int]]:
    """Divide samples so that every class is divided alike.

    Args:
        labels: `N`, class indices.
        fractions: shares of train, arch, val and test, of sum 1.
        seed: of the division.
        held_out: `N`, samples that the data set sets aside for testing. They are then the test split, and the other
            shares divide the rest in proportion.

    Returns:
        Ascending indices of every split.

    Raises:
        ConfigError: a split gets no sample.
    """
    splits: dict[str, list[int]] = {part: [] for part in PARTS}
    parts: Sequence[str] = PARTS
    shares = np.asarray(fractions, dtype=np.float64)
    candidates = np.ones(len(labels), dtype=bool)
    if held_out is not None:
        parts, shares, candidates = PARTS[:3], shares[:3] / shares[:3].sum(), ~held_out
        splits["test"] = np.flatnonzero(held_out).tolist()
    bounds = np.cumsum(shares)[:-1]
    for label in np.unique(labels):
        members = np.flatnonzero((labels == label) & candidates)
        shuffled = np.random.default_rng([seed, int(label)]).permutation(members)
        cuts = np.round(bounds * len(members)).astype(int)
        for part, chunk in zip(parts, np.split(shuffled, cuts), strict=True):
            splits[part].extend(chunk.tolist())
    for part in PARTS:
        if not splits[part]:
            raise ConfigError(
                f"task.fractions={list(fractions)} leaves the {part} split of {len(labels)} samples empty; "
                "give it a larger share."
            )
    return {part: sorted(indices) for part, indices in splits.items()}


def stored_splits(path: Path, size: int) -> dict[str, list[int]]:
    """The splits that an earlier start of the run wrote.

    Args:
        path: of ``splits.json``.
        size: number of samples.

    Raises:
        DataError: the file is no division of so many samples.
    """
    try:
        splits: dict[str, Any] = json.loads(path.read_text())
        indices = sorted(index for part in PARTS for index in splits[part])
    except (ValueError, KeyError, TypeError):
        indices = []
    if indices != list(range(size)):
        raise DataError(
            f"{path} is no division of the {size} samples into {', '.join(PARTS)}; "
            "delete it, or start another run with run=NAME."
        )
    return {part: splits[part] for part in PARTS}


def prepared_splits(
    path: Path,
    labels: NDArray[np.int64],
    fractions: Sequence[float],
    seed: int,
    *,
    held_out: NDArray[np.bool_] | None = None,
) -> dict[str, list[int]]:
    """The stored splits, or new ones that are then stored; see :func:`stratified_splits`."""
    if path.exists():
        return stored_splits(path, len(labels))
    splits = stratified_splits(labels, fractions, seed, held_out=held_out)
    write_json(path, splits)
    return splits
