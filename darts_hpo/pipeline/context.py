"""What every stage of a run works with."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from darts_hpo.config import RunConfig, build
from darts_hpo.pipeline.assembly import Parts, assemble, check_training, cost_key
from darts_hpo.pipeline.fitting import Fitter
from darts_hpo.pipeline.ledger import Ledger
from darts_hpo.pipeline.networks import Networks
from darts_hpo.pipeline.objective import Objective
from darts_hpo.pipeline.seeds import Seeds
from darts_hpo.runs.directory import RunDirectory
from darts_hpo.runs.files import write_json
from darts_hpo.runs.provenance import provenance, recorded_fact
from darts_hpo.training.precision import resolve_precision
from darts_hpo.training.task import Task
from darts_hpo.training.threads import fastest_thread_count


@dataclass(frozen=True)
class Context:
    """One run, ready to work.

    Args:
        config: checked configuration.
        directory: the run directory, locked.
        ledger: ``metrics.json``.
        parts: what the configuration names, built.
        objective: what is returned.
        seeds: of the stages.
        networks: derives networks.
        fitter: trains modules.
    """

    config: RunConfig
    directory: RunDirectory
    ledger: Ledger
    parts: Parts
    objective: Objective
    seeds: Seeds
    networks: Networks
    fitter: Fitter

    def intermediate_score(self, stage: str, epoch: int, score: float) -> None:
        """Write an epoch's score to ``progress.jsonl``, over one that an earlier start may have left."""
        self.directory.progress.truncate_from(epoch, stage=stage)
        self.directory.progress.append({"stage": stage, "epoch": epoch, self.parts.task.primary_metric: score})


def prepare(config: RunConfig, directory: RunDirectory, ledger: Ledger) -> Context:
    """Read the data, build every part and check that they can be trained.

    Raises:
        DartsHPOError: something cannot be built, or parts do not go together.
    """
    seeds, fitter = Seeds(config.seed), Fitter(config, directory)
    task: Task = build(config.task)
    task.prepare(directory.path, config.seed)
    task.reduce_training_data(config.data_fraction, config.seed)
    _set_threads(config, directory)
    parts = assemble(config, task, seeds)
    objective = Objective(
        config.objective,
        primary_metric=task.primary_metric,
        metrics=task.metric_names,
        costs={cost_key(name) for name in parts.costs},
        searched=bool(parts.relaxation.searched),
    )
    if not directory.provenance.exists():
        trainer = config.trainer
        precision = {
            "search": resolve_precision(trainer.precision, trainer.accelerator, parts.rule),
            "retrain": resolve_precision(trainer.precision, trainer.accelerator),
        }
        write_json(directory.provenance, provenance(config.seed) | {"precision": precision})
    fitter.trainer(parts.rule, logger=False, enable_checkpointing=False)
    check_training(config, parts, seeds)
    networks = Networks(config, directory, parts, seeds)
    return Context(config, directory, ledger, parts, objective, seeds, networks, fitter)


def _set_threads(config: RunConfig, directory: RunDirectory) -> None:
    """As configured; else as the run began, for sums depend on it; else what is fastest here."""
    threads = config.trainer.threads
    if threads is None and directory.provenance.exists():
        threads = recorded_fact(directory.provenance, "torch_threads")
    torch.set_num_threads(fastest_thread_count() if threads is None else threads)
