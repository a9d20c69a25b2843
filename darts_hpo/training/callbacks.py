"""Lightning callbacks: the record of every epoch, checkpoints that survive a kill, and the wish to stop."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint

from darts_hpo.runs.directory import RunDirectory
from darts_hpo.runs.files import atomic_file
from darts_hpo.runs.tables import EpochLog, EpochTable
from darts_hpo.training.retrain import RetrainModule
from darts_hpo.training.search import SearchModule


class RngState(Callback):
    """Keeps every global random generator in the checkpoint.

    Lightning does not, and a resumed run would not be bit-equal.
    """

    def state_dict(self) -> dict[str, Any]:
        """The states of python's, NumPy's and torch's generators, as plain containers."""
        version, internal, gauss = random.getstate()
        name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - the global one, which libraries use
        return {
            "python": [version, list(internal), gauss],
            "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        version, internal, gauss = state_dict["python"]
        random.setstate((version, tuple(internal), gauss))
        name, keys, position, has_gauss, cached = state_dict["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
        torch.set_rng_state(state_dict["torch"].cpu())
        if state_dict["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([state.cpu() for state in state_dict["cuda"]])


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` at the end of every epoch, atomically: a kill leaves the old file or the new one.

    Runs after the recorders, so that what a resumed run repeats is cut from the records first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save everything needed to continue bit-equally."""
        with atomic_file(self.path) as partial:
            trainer.save_checkpoint(partial, weights_only=False)


class EpochRecorder(Checkpoint, ABC):
    """Writes one row of ``metrics.csv`` per epoch and ends the stage where its budget or a STOP file says so.

    Args:
        directory: the run directory.
        folder: where the stage's files go.
        stage: name in ``progress.jsonl`` and in loggers; None leaves scores out of the former.
        budget: epochs after which this invocation ends; schedules span the full number regardless.
        primary_metric: the intermediate objective, written to ``progress.jsonl`` where an epoch is scored.
        on_epoch: told every row, for progress displays.
    """

    def __init__(
        self,
        directory: RunDirectory,
        folder: Path,
        *,
        stage: str | None,
        budget: int,
        primary_metric: str,
        on_epoch: Callable[[dict[str, Any]], None] = lambda row: None,
    ) -> None:
        self.directory, self.folder, self.stage = directory, folder, stage
        self.budget, self.primary_metric, self.on_epoch = budget, primary_metric, on_epoch
        self.table = EpochTable(folder / "metrics.csv")
        self._started = 0.0

    @abstractmethod
    def measure(self, module: Any, epoch: int) -> tuple[dict[str, Any], dict[str, float] | None]:
        """The row of an epoch, and the val metrics where the epoch is scored."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Cut what a killed run wrote after its last checkpoint."""
        self.table.truncate_from(trainer.current_epoch)
        if self.stage is not None:
            self.directory.progress.truncate_from(trainer.current_epoch, stage=self.stage)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the epoch."""
        epoch = trainer.current_epoch
        measured, values = self.measure(pl_module, epoch)
        row = {"epoch": epoch, **measured}
        if values is not None:
            row |= {f"val/{name}": value for name, value in values.items()}
            if self.stage is not None:
                score = values[self.primary_metric]
                self.directory.progress.append({"stage": self.stage, "epoch": epoch, self.primary_metric: score})
        shown = {name: row.pop(name) for name in ("best", "flips") if name in row}
        row["seconds"] = time.perf_counter() - self._started
        self.table.append(row)
        _log_scalars(trainer, self.folder.relative_to(self.directory.path).as_posix(), row)
        self.on_epoch(row | shown)
        if epoch + 1 >= self.budget or self.directory.stop_requested():
            trainer.should_stop = True


class SearchRecorder(EpochRecorder):
    """Also writes one line of ``alphas.jsonl`` per epoch of a search."""

    def __init__(self, directory: RunDirectory, **arguments: Any) -> None:
        super().__init__(directory, directory.search, stage="search", **arguments)
        self.alphas = EpochLog(directory.search / "alphas.jsonl")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Cut the architecture's record too."""
        super().on_train_start(trainer, pl_module)
        self.alphas.truncate_from(trainer.current_epoch)

    def measure(self, module: SearchModule, epoch: int) -> tuple[dict[str, Any], dict[str, float] | None]:
        """Losses and entropy; the discretized network's score where it is due."""
        config = module.config
        architecture = module.architecture_row()
        row = {**module.epoch_row(), "best": architecture["best"], "flips": architecture["flips"]}
        due = config.validate_every and (epoch + 1) % config.validate_every == 0
        values = None
        if due and epoch + 1 < config.epochs:  # the last epoch is scored by the pipeline, after selection
            values = module.discretized_score()
        self.alphas.append({"epoch": epoch, **architecture, "score": values and values[self.primary_metric]})
        return row, values


class RetrainRecorder(EpochRecorder):
    """Also keeps the best network of a retraining in ``best.ckpt``: by the val score, the first of equals."""

    def __init__(self, directory: RunDirectory, folder: Path, **arguments: Any) -> None:
        super().__init__(directory, folder, **arguments)
        self.best_score: float | None = None
        self.best_epoch: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"best_score": self.best_score, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from it."""
        self.best_score, self.best_epoch = state_dict["best_score"], state_dict["best_epoch"]

    def measure(self, module: RetrainModule, epoch: int) -> tuple[dict[str, Any], dict[str, float] | None]:
        """Losses; the score where it is due."""
        config = module.config
        row = module.epoch_row()
        if (epoch + 1) % config.validate_every and epoch + 1 < config.epochs:
            return row, None
        values = module.score()
        score = values[self.primary_metric]
        if self.best_score is None or score > self.best_score:
            self.best_score, self.best_epoch = score, epoch
            with atomic_file(self.folder / "best.ckpt") as partial:
                state = module.evaluated_network.state_dict()
                torch.save({"epoch": epoch, "score": score, "network": dict(state)}, partial)
        return row, values


def _log_scalars(trainer: pl.Trainer, stage: str, row: dict[str, Any]) -> None:
    scalars = {f"{stage}/{name}": value for name, value in row.items() if isinstance(value, (int, float))}
    for logger in trainer.loggers:
        logger.log_metrics(scalars, step=row["epoch"])
