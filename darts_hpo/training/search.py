"""The search: weights of a supernet and logits of a relaxation, optimized against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.optim import Adam, Optimizer

from darts_hpo.bilevel.base import BilevelProblem, BilevelRule, Losses
from darts_hpo.config import SearchConfig
from darts_hpo.errors import ConfigError
from darts_hpo.normalization import frozen_batchnorm
from darts_hpo.relaxations.base import Phase, Relaxation
from darts_hpo.supernet import Gate, Gates, Supernet
from darts_hpo.training.evaluation import evaluate_choices
from darts_hpo.training.task import Split, Task
from darts_hpo.training.weight_training import (
    EpochMeans,
    WeightSchedule,
    plain_optimizer,
    present_values,
    training_loader,
    weight_optimizer,
)


class Penalty(Protocol):
    """A differentiable term of the arch loss, such as an expected cost."""

    def __call__(self, loss: Tensor, distributions: Mapping[str, Tensor]) -> Tensor:
        """What is added to a loss, from the probabilities of the options of every choice."""


class SearchModule(pl.LightningModule):
    """Lightning module of a bilevel search, under manual optimization.

    Each batch is ``{"train": ..., "arch": ...}``. The rule updates the logits, then the weights.

    Args:
        task: loss and data.
        supernet: owns the weights.
        relaxation: owns the logits.
        rule: the bilevel rule.
        config: the search stage.
        seed: of the draws of gates.
        penalty: optional expected cost.
        costs: expected costs to report, by name; each maps probabilities to a scalar.
    """

    def __init__(
        self,
        task: Task,
        supernet: Supernet,
        relaxation: Relaxation,
        rule: BilevelRule,
        config: SearchConfig,
        *,
        seed: int,
        penalty: Penalty | None = None,
        costs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        require_supported_gates(relaxation, supernet, rule)
        self.task, self.supernet, self.relaxation, self.rule = task, supernet, relaxation, rule
        self.config, self.penalty, self.costs = config, penalty, dict(costs or {})
        self.generator = torch.Generator().manual_seed(seed)
        self.means = EpochMeans()
        self._previous_best: dict[str, str] | None = None
        self._schedule: WeightSchedule | None = None

    # -- Lightning's hooks --------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[Optimizer]:
        """The weights' optimizer, then Adam over the logits where there are any."""
        optimizers = [weight_optimizer(self.task, self.supernet, self.config.optimizer)]
        logits = list(self.relaxation.parameters())
        if logits:
            arch = self.config.arch_optimizer
            optimizers.append(Adam(logits, lr=arch.lr, betas=arch.betas, weight_decay=arch.weight_decay))
        return optimizers

    def train_dataloader(self) -> CombinedLoader:
        """One pass over the train split an epoch; arch batches start over when they run out."""
        epochs = self.config.epochs
        splits: tuple[Split, ...] = ("train", "arch") if self.rule.needs_arch_batch else ("train",)
        loaders = {
            split: training_loader(
                self.task,
                split,
                stage="search",
                batch_size=self.config.batch_size,
                epochs=epochs,
                epoch=self.current_epoch,
            )
            for split in splits
        }
        self._schedule = WeightSchedule(
            self.config.optimizer, self.config.schedule, steps_per_epoch(loaders.values()), epochs
        )
        return CombinedLoader(loaders, "max_size_cycle")

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """One coupled update of logits and weights."""
        assert self._schedule is not None
        optimizers = self.optimizers()
        first = optimizers[0] if isinstance(optimizers, list) else optimizers
        self._schedule.apply(plain_optimizer(first), self.current_epoch, batch_idx)
        done = self.current_epoch * self._schedule.steps_per_epoch + batch_idx
        self.relaxation.set_progress(done / max(1, self._schedule.steps_per_epoch * self.config.epochs - 1))
        update = self.current_epoch >= self.config.weights_only_epochs and batch_idx % self.config.arch_every == 0
        report = self.rule.step(self.problem(optimizers), batch["train"], batch.get("arch"), update_logits=update)
        self.means.add(report)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state of the gates' generator, the progress, and the best options of the epoch before."""
        checkpoint["search"] = {
            "generator": self.generator.get_state(),
            "progress": self.relaxation.progress,
            "best": self._previous_best,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what :meth:`on_save_checkpoint` kept."""
        self.generator.set_state(checkpoint["search"]["generator"].cpu())
        self.relaxation.set_progress(checkpoint["search"]["progress"])
        self._previous_best = checkpoint["search"]["best"]

    # -- the bilevel problem ------------------------------------------------------------------------------------

    def problem(self, optimizers: Any) -> BilevelProblem:
        """What the rule works on."""
        both = optimizers if isinstance(optimizers, list) else [optimizers]
        return BilevelProblem(
            weights=list(self.supernet.parameters()),
            logits=list(self.relaxation.parameters()),
            weight_optimizer=both[0],
            arch_optimizer=both[1] if len(both) > 1 else None,
            sample=self.sample,
            loss=self.batch_loss,
            frozen_statistics=self._frozen_statistics,
            draws=self.relaxation.draws,
            weight_draws=self.relaxation.weight_draws,
            surrogate=self.relaxation.surrogate_loss,
            arch_terms=self._arch_terms,
            clip_norm=self.config.clip_norm,
            backward=self.manual_backward,
            after_arch_step=self.relaxation.after_arch_step,
        )

    def sample(self, phase: Phase) -> dict[str, Gate]:
        """Gates for one forward pass."""
        return self.relaxation.sample(phase, self.generator)

    def batch_loss(self, batch: Any, gates: Gates, memo: dict[str, Any] | None) -> Losses:
        """Loss terms of one batch under some gates."""
        outputs = self.supernet(self.task.inputs(batch), gates)
        return self.task.loss(self.supernet, outputs, batch, memo)

    def _frozen_statistics(self) -> AbstractContextManager[None]:
        return frozen_batchnorm(self.supernet)

    def _arch_terms(self, loss: Tensor) -> Losses:
        terms = {}
        if self.penalty is not None:
            # Of the distribution, not of the draw: an expected cost is known exactly, whatever was sampled.
            terms["penalty"] = self.penalty(loss, self.relaxation.distributions())
        regularizer = self.relaxation.regularizer()
        if regularizer is not None:
            terms["regularizer"] = regularizer
        return terms

    # -- what an epoch reports ----------------------------------------------------------------------------------

    def epoch_row(self) -> dict[str, float]:
        """Means of the epoch's losses and the schedule's values, for the table of epochs."""
        optimizers = self.optimizers()
        first = optimizers[0] if isinstance(optimizers, list) else optimizers
        return {**self.means.pop(), **present_values(first), "entropy": self.relaxation.entropy()}

    def architecture_row(self) -> dict[str, Any]:
        """The state of the search after an epoch: probabilities, entropy, flips, indicators and expected costs."""
        probabilities = self.relaxation.probabilities()
        best = self.relaxation.argmax()
        previous, self._previous_best = self._previous_best, best
        flips = sum(best[name] != previous[name] for name in best) if previous else 0
        names = self.relaxation.option_names
        return {
            "probabilities": {
                name: dict(zip(names[name], p.double().tolist(), strict=True)) for name, p in probabilities.items()
            },
            "entropy": self.relaxation.entropy(),
            "flips": flips,
            "best": best,
            "indicators": self.supernet.collapse_indicators(probabilities),
            "costs": {name: float(cost(probabilities)) for name, cost in self.costs.items()},
        }

    def discretized_score(
        self, choices: Mapping[str, str] | None = None, device: torch.device | None = None
    ) -> dict[str, float]:
        """Val metrics of the plain network that some choices make, before any retraining.

        Weights, running statistics and the global random generators are left as they were: a search that is scored
        on its way is the search that is not.

        Args:
            choices: of the supernet's space; None takes the most probable options.
            device: where it is scored; None takes the module's.
        """
        device = self.device if device is None else device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            return evaluate_choices(
                self.supernet,
                self.relaxation.argmax() if choices is None else choices,
                self.task,
                device=device,
                calibration_batches=self.config.calibration_batches,
                batch_size=self.config.batch_size,
            )


def require_supported_gates(relaxation: Relaxation, supernet: Supernet, rule: BilevelRule | None = None) -> None:
    """Refuse a relaxation whose gates a supernet cannot run or a rule cannot use.

    Args:
        relaxation: gives the gates.
        supernet: runs them.
        rule: differentiates them; None checks the supernet alone.

    Raises:
        ConfigError: names what does not fit and what does.
    """
    for phase, kind in relaxation.kinds.items():
        if kind not in supernet.gate_kinds:
            raise ConfigError(
                f"{type(relaxation).__name__} gives gates of kind {kind!r} ({phase} phase), which {supernet.name} "
                f"cannot run; it supports {', '.join(sorted(supernet.gate_kinds))}. Choose another relaxation=..."
            )
    if rule is not None:
        rule.require_supported(relaxation.draws, relaxation.differentiable)


def steps_per_epoch(loaders: Sequence[Any] | Any) -> int:
    """Batches of an epoch when shorter loaders start over."""
    return max(len(loader) for loader in loaders)
