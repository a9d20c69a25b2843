"""What a person sees while training runs: a bar on a terminal, a few lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

log = logging.getLogger(__name__)

LINES_ELSEWHERE = 5
"""Lines per stage where the output is no terminal."""


class StageProgress(Callback):
    """Epoch, losses, entropy, present best options and time left of one stage.

    Args:
        title: of the stage.
        epochs: of the full training.
        primary_metric: shown where an epoch has it.
    """

    def __init__(self, title: str, epochs: int, primary_metric: str) -> None:
        self.title, self.epochs, self.primary_metric = title, epochs, primary_metric
        self._bar: Progress | None = None
        self._task: Any = None
        self._started, self._first_epoch = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar where there is a terminal."""
        self._started, self._first_epoch = time.perf_counter(), trainer.current_epoch
        if sys.stdout.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[facts]}"),
            )
            batches = int(trainer.num_training_batches)
            self._task = self._bar.add_task(
                self.title, total=self.epochs * batches, completed=trainer.current_epoch * batches, facts=""
            )
            self._bar.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Name the epoch."""
        if self._bar is not None:
            title = f"{self.title}, epoch {trainer.current_epoch + 1} of {self.epochs}"
            self._bar.update(self._task, description=title)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar."""
        if self._bar is not None:
            self._bar.advance(self._task)

    def epoch(self, row: dict[str, Any]) -> None:
        """Show an epoch's row."""
        facts = self._facts(row)
        if self._bar is not None:
            self._bar.update(self._task, facts=facts)
            return
        epoch = int(row["epoch"]) + 1
        every = max(1, self.epochs // LINES_ELSEWHERE)
        if epoch % every == 0 or epoch == self.epochs:
            done = epoch - self._first_epoch
            left = (time.perf_counter() - self._started) / done * (self.epochs - epoch)
            log.info("%s: epoch %d of %d, %s, about %.0f s left", self.title, epoch, self.epochs, facts, left)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _facts(self, row: dict[str, Any]) -> str:
        shown = []
        for name, label in (("train/loss", "loss"), ("arch/loss", "arch loss"), ("entropy", "entropy")):
            if name in row:
                shown.append(f"{label} {row[name]:.3f}")
        if f"val/{self.primary_metric}" in row:
            shown.append(f"val {self.primary_metric} {row[f'val/{self.primary_metric}']:.3f}")
        if "best" in row:
            options = list(row["best"].values())
            common = sorted(set(options), key=lambda option: (-options.count(option), option))[:4]
            shown.append("best " + " ".join(f"{options.count(option)}x{option}" for option in common))
        return ", ".join(shown)
