"""Training a Lightning module to the end of its budget, from its checkpoint or from the start."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from darts_hpo.bilevel import BilevelRule
from darts_hpo.config import RunConfig, build
from darts_hpo.errors import ConfigError, RunStopped, TrainingError
from darts_hpo.pipeline.checkpoints import load_checkpoint
from darts_hpo.runs.directory import RunDirectory
from darts_hpo.runs.provenance import recorded_fact
from darts_hpo.training.callbacks import LastCheckpoint, RngState


class Fitter:
    """Trains modules as a configuration says.

    Args:
        config: of the run.
        directory: of the run.
    """

    def __init__(self, config: RunConfig, directory: RunDirectory) -> None:
        self._config, self._directory = config, directory

    def fit(
        self,
        stage: str,
        module: pl.LightningModule,
        *,
        epochs: int,
        budget: int | None,
        callbacks: list[Callback],
        checkpoint: Path,
    ) -> int:
        """Train a module.

        Args:
            stage: for messages.
            module: what is trained; afterwards it holds the state of the last epoch done, also where nothing was
                left to do.
            epochs: of the full training.
            budget: epochs after which this invocation ends; None trains to the end.
            callbacks: recorders and displays; the checkpoint is written after them.
            checkpoint: of the last finished epoch.

        Returns:
            The epochs done: fewer than ``epochs`` where the budget is used up.

        Raises:
            RunStopped: a STOP file asked the run to end before that.
            TrainingError: the device ran out of memory.
        """
        done = 0
        if checkpoint.exists():
            state = load_checkpoint(checkpoint, "delete it and run the same command: this stage starts over")
            done = int(state["epoch"]) + 1
            if budget is not None and budget <= done < epochs:
                restore(module, callbacks, state)
                return done
        if self._config.trainer.channels_last:
            module.to(memory_format=torch.channels_last)
        trainer = self.trainer(
            getattr(module, "rule", None),
            max_epochs=epochs,
            callbacks=[RngState(), *callbacks, LastCheckpoint(checkpoint)],
            logger=self._loggers(),
        )
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, ckpt_path=str(checkpoint) if done else None, weights_only=True)
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"The device ran out of memory in the stage {stage}; use a smaller {_section(stage)}.batch_size."
            ) from error
        except SystemExit:  # Lightning's answer to Ctrl-C, which it turns off besides
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from None
        done = module.current_epoch
        if done < epochs and self._directory.stop_requested():
            raise RunStopped(
                f"{stage} ended after epoch {done} of {epochs}: STOP was found. The same command continues."
            )
        return done

    def trainer(self, rule: BilevelRule | None, **arguments: Any) -> pl.Trainer:
        """A trainer on the configured device.

        Args:
            rule: of a search; None for a retraining.
            arguments: of the trainer.

        Raises:
            ConfigError: there is no such device, or it cannot do what is asked for.
        """
        config = self._config.trainer
        precision = recorded_fact(self._directory.provenance, "precision")["retrain" if rule is None else "search"]
        try:
            return pl.Trainer(
                accelerator=config.accelerator,
                devices=1,
                precision=precision,
                deterministic=config.deterministic,
                limit_val_batches=0,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=str(self._directory.path),
                **arguments,
            )
        except (MisconfigurationException, ValueError) as error:
            raise ConfigError(
                f"trainer.accelerator={config.accelerator} with trainer.precision={config.precision} cannot be used: "
                f"{' '.join(str(error).split())} Use trainer.accelerator=auto."
            ) from error

    def _loggers(self) -> list[Any]:
        directory = str(self._directory.path)
        return [build(node, save_dir=directory) for node in self._config.logger.values() if node]


def restore(module: pl.LightningModule, callbacks: list[Callback], state: dict[str, Any]) -> None:
    """Put a checkpoint's weights and the state of callbacks back without training on."""
    module.load_state_dict(state["state_dict"])
    module.on_load_checkpoint(state)
    for callback in callbacks:
        kept = state["callbacks"].get(callback.state_key)
        if kept is not None:
            callback.load_state_dict(kept)


def budget_used_up(stage: str, done: int, epochs: int) -> str:
    """One line on why a run paused."""
    return (
        f"{stage} ended after epoch {done} of {epochs}: budget.{_section(stage)}_epochs is used up. "
        "The same command with a larger one continues."
    )


def _section(stage: str) -> str:
    return "search" if stage == "search" else "retrain"
