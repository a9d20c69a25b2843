"""The stages that train a plain network, be it found, hand-made or random, and measure it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from darts_hpo.costs import deployed
from darts_hpo.genotype import Genotype
from darts_hpo.pipeline.assembly import cost_key
from darts_hpo.pipeline.context import Context
from darts_hpo.pipeline.fitting import budget_used_up
from darts_hpo.pipeline.networks import working_device
from darts_hpo.training.callbacks import RetrainRecorder
from darts_hpo.training.evaluation import evaluate
from darts_hpo.training.progress import StageProgress
from darts_hpo.training.retrain import RetrainModule

log = logging.getLogger(__name__)

FOUND, REFERENCE, RANDOM = "found", "reference", "random"


def retrain(run: Context, who: str, genotype: Genotype, folder: Path, title: str | None = None) -> str | None:
    """Train a network and keep the best epoch's in ``best.ckpt``.

    Args:
        run: the run.
        who: ``found``, or ``reference`` or ``random``, which no budget shortens and nobody's objective looks at.
        genotype: the network's.
        folder: for its files.
        title: shown while it trains.

    Returns:
        Why the training paused; None where it is complete.
    """
    config, metric = run.config.retrain, run.parts.task.primary_metric
    module = RetrainModule(run.parts.task, run.networks.fresh(genotype), config)
    title = title or ("retrain" if who == FOUND else who)
    budget = run.config.budget.retrain_epochs if who == FOUND else None
    log.info("Training %s %s network for %d epochs", "a" if who == RANDOM else "the", who, config.epochs)
    progress = StageProgress(title, config.epochs, metric)
    recorder = RetrainRecorder(
        run.directory,
        folder,
        stage="retrain" if who == FOUND else None,
        budget=budget or config.epochs,
        primary_metric=metric,
        on_epoch=progress.epoch,
    )
    done = run.fitter.fit(
        title,
        module,
        epochs=config.epochs,
        budget=budget,
        callbacks=[recorder, progress],
        checkpoint=folder / "last.ckpt",
    )
    if done == config.epochs:
        return None
    _score_so_far(run, module, recorder, genotype, done)
    return budget_used_up(title, done, config.epochs)


def _score_so_far(
    run: Context, module: RetrainModule, recorder: RetrainRecorder, genotype: Genotype, done: int
) -> None:
    """Store the val metrics of the better of the best epoch's and the present network.

    ``best.ckpt`` stays as it is: an epoch that is scored only because a budget ended there must not change what the
    complete training finds.
    """
    task, metric = run.parts.task, run.parts.task.primary_metric
    device = working_device(run.config.trainer.accelerator)
    values = evaluate(module.evaluated_network.to(device), task, "val", device=device)
    run.intermediate_score("retrain", done - 1, values[metric])
    if recorder.best_score is not None and recorder.best_score > values[metric]:
        best = run.networks.best(genotype, recorder.folder)
        values = evaluate(best.to(device), task, "val", device=device)
    run.ledger.store(paused={"epochs": done, "val": values})


def evaluate_network(run: Context, genotype: Genotype, folder: Path) -> dict[str, Any]:
    """Scores on val and test and the costs of a retrained network."""
    network, task = run.networks.best(genotype, folder), run.parts.task
    device = working_device(run.config.trainer.accelerator)
    lean = deployed(network).to(device)
    costs: dict[str, float | None] = {"params_train": float(sum(p.numel() for p in network.parameters()))}
    for name, cost in run.parts.costs.items():
        costs[cost_key(name)] = cost.measure(deployed(network), task.input_shape)
    return {
        "genotype": dict(genotype.choices),
        "val": evaluate(lean, task, "val", device=device),
        "test": evaluate(lean, task, "test", device=device),
        "costs": costs,
    }
