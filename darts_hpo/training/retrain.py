"""Retraining: one plain network, from scratch, with warm-up, decay and a running average of its weights."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from darts_hpo.bilevel.base import require_finite
from darts_hpo.config import RetrainConfig
from darts_hpo.training.ema import WeightAverage, ramp_for
from darts_hpo.training.evaluation import evaluate
from darts_hpo.training.task import Task
from darts_hpo.training.weight_training import (
    EpochMeans,
    WeightSchedule,
    plain_optimizer,
    present_values,
    training_loader,
    weight_optimizer,
)


class RetrainModule(pl.LightningModule):
    """Lightning module that trains a plain network on the train and arch splits together.

    Args:
        task: loss and data.
        network: what is trained.
        config: the retraining stage.
    """

    def __init__(self, task: Task, network: nn.Module, config: RetrainConfig) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.task, self.network, self.config = task, network, config
        self.means = EpochMeans()
        self.average: WeightAverage | None = None
        self._schedule: WeightSchedule | None = None

    @property
    def evaluated_network(self) -> nn.Module:
        """The averaged network where there is one, else the network itself."""
        return self.average.network if self.average is not None else self.network

    # -- Lightning's hooks --------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Optimizer:
        """The weights' optimizer."""
        return weight_optimizer(self.task, self.network, self.config.optimizer)

    def train_dataloader(self) -> DataLoader[Any]:
        """One pass over the train and arch splits an epoch."""
        config = self.config
        loader = training_loader(
            self.task,
            "train+arch",
            stage="retrain",
            batch_size=config.batch_size,
            epochs=config.epochs,
            epoch=self.current_epoch,
        )
        self._schedule = WeightSchedule(config.optimizer, config.schedule, len(loader), config.epochs)
        self._require_average(len(loader))
        return loader

    def on_fit_start(self) -> None:
        """The averaged network follows to the device; it is no submodule, so Lightning does not move it."""
        if self.average is not None:
            self.average.network.to(self.device)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One step of the weights."""
        assert self._schedule is not None
        optimizer: Any = self.optimizers()
        self._schedule.apply(plain_optimizer(optimizer), self.current_epoch, batch_idx)
        optimizer.zero_grad()
        outputs = self.network(self.task.inputs(batch))
        terms = self.task.loss(self.network, outputs, batch)
        require_finite(terms["loss"], "retraining")
        self.manual_backward(terms["loss"])
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        optimizer.step()
        if self.average is not None:
            self.average.update(self.network)
        self.means.add({f"train/{name}": float(term.detach()) for name, term in terms.items()})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the running average."""
        if self.average is not None:
            checkpoint["average"] = self.average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the running average."""
        if "average" in checkpoint:
            self._require_average(1)
            assert self.average is not None
            self.average.load_state_dict(checkpoint["average"])

    # -- what an epoch reports ----------------------------------------------------------------------------------

    def epoch_row(self) -> dict[str, float]:
        """Means of the epoch's losses and the schedule's values."""
        return {**self.means.pop(), **present_values(self.optimizers())}

    def score(self) -> dict[str, float]:
        """Val metrics of the evaluated network."""
        return evaluate(self.evaluated_network, self.task, "val", device=self.device)

    def _require_average(self, steps_per_epoch: int) -> None:
        ema = self.config.ema
        if ema is None:
            return
        tau = ema.tau if ema.tau is not None else ramp_for(steps_per_epoch * self.config.epochs)
        if self.average is None:
            self.average = WeightAverage(self.network, ema.decay, tau)
        self.average.tau = tau
