"""The stage that searches: weights against logits, then one architecture out of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import torch

from darts_hpo.costs import CostModel, deployed
from darts_hpo.errors import RunDirectoryError
from darts_hpo.genotype import Genotype
from darts_hpo.pipeline.assembly import cost_key
from darts_hpo.pipeline.context import Context
from darts_hpo.pipeline.fitting import budget_used_up
from darts_hpo.pipeline.networks import working_device
from darts_hpo.runs.files import write_json
from darts_hpo.training.callbacks import SearchRecorder
from darts_hpo.training.evaluation import evaluate_relaxed
from darts_hpo.training.progress import StageProgress
from darts_hpo.training.search import Penalty, SearchModule

log = logging.getLogger(__name__)


def search(run: Context) -> str | None:
    """Search, select and score the architecture; its ``genotype.json`` is written when the search is complete.

    At the end of a budget the architecture is selected and scored as if the search ended there, and nothing that the
    search goes on from is touched.

    Returns:
        Why the search paused; None where it is complete.
    """
    config, parts = run.config.search, run.parts
    models = cost_models(run)
    module = SearchModule(
        parts.task,
        parts.supernet,
        parts.relaxation,
        parts.rule,
        config,
        seed=run.seeds.of("gates"),
        penalty=_penalty(run, models),
        costs={name: model.expected for name, model in models.items()},
    )
    if parts.relaxation.searched:
        done = _train(run, module)
    else:
        log.info("Every choice is fixed: the search is skipped.")
        done = config.epochs
    genotype = _select(run, module, models, done)
    if done < config.epochs:
        return budget_used_up("search", done, config.epochs)
    # Last: its presence says that the search is done.
    write_json(run.directory.genotype, genotype.to_json())
    return None


def cost_models(run: Context) -> dict[str, CostModel]:
    """Of the costs that decompose: measured once per run, then read back, so a resumed run sees the same latencies.

    Raises:
        RunDirectoryError: what was stored is damaged.
    """
    path = run.directory.search / "costs.json"
    if path.exists():
        try:
            stored = json.loads(path.read_text())
            models = {name: CostModel.from_json(data) for name, data in stored.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunDirectoryError(
                f"{path} is damaged ({error}); delete it and run the same command: costs are measured again."
            ) from error
        for model in models.values():
            model.require_supernet(run.parts.supernet)
        return models
    shape = run.parts.task.input_shape
    costs = {name: cost for name, cost in run.parts.costs.items() if cost.decomposes}
    models = {name: CostModel.measure(run.parts.supernet, cost, shape) for name, cost in costs.items()}
    write_json(path, {name: model.to_json() for name, model in models.items()})
    return models


def _penalty(run: Context, models: Mapping[str, CostModel]) -> Penalty | None:
    penalty = run.parts.penalty
    if penalty is None:
        return None
    model = next(model for model in models.values() if model.name == penalty.cost.name)
    return lambda loss, distributions: penalty.term(loss, model, distributions)


def _train(run: Context, module: SearchModule) -> int:
    """Epochs done."""
    config, supernet = run.config.search, run.parts.supernet
    log.info(
        "Searching %d choices of %s (%s architectures) for %d epochs",
        len(run.parts.relaxation.searched),
        supernet.name,
        f"{supernet.genotype_space.size:,}",
        config.epochs,
    )
    budget, metric = run.config.budget.search_epochs, run.parts.task.primary_metric
    progress = StageProgress("search", config.epochs, metric)
    recorder = SearchRecorder(
        run.directory, budget=budget or config.epochs, primary_metric=metric, on_epoch=progress.epoch
    )
    checkpoint = run.directory.search / "last.ckpt"
    return run.fitter.fit(
        "search", module, epochs=config.epochs, budget=budget, callbacks=[recorder, progress], checkpoint=checkpoint
    )


def _select(run: Context, module: SearchModule, models: Mapping[str, CostModel], done: int) -> Genotype:
    """The architecture that the logits stand for, with what is known of it, which also enters ``metrics.json``."""
    supernet, relaxation, metric = run.parts.supernet, run.parts.relaxation, run.parts.task.primary_metric
    device = working_device(run.config.trainer.accelerator)
    choices = run.parts.selector.select(relaxation, lambda options: module.discretized_score(options, device)[metric])
    discretized: dict[str, float] | None = None
    relaxed: dict[str, float] | None = None
    if relaxation.searched:
        discretized = module.discretized_score(choices, device)
        run.intermediate_score("search", done - 1, discretized[metric])
        relaxed = _relaxed_score(run, device)
        if relaxed and metric not in relaxed:
            log.info("%s is not simulated as %s asks for: there is no relaxed score.", supernet.name, metric)
    costs = _costs(run, models, choices)
    facts: dict[str, Any] = {
        "probabilities": supernet.genotype_probabilities(relaxation.probabilities()),
        "entropy": relaxation.entropy(),
        "costs": costs,
        "seed": run.config.seed,
    }
    genotype = supernet.genotype(choices, facts)
    run.ledger.store(
        search={
            "epochs": done,
            "choices": dict(genotype.choices),
            "entropy": facts["entropy"],
            "indicators": supernet.collapse_indicators(relaxation.probabilities()),
            "discretized_val": discretized,
            "relaxed_val": relaxed,
            "discretization_gap": _gap(relaxed, discretized, metric),
            "costs": {cost_key(name): value for name, value in costs.items()},
        }
    )
    return genotype


def _gap(relaxed: Mapping[str, float] | None, discretized: Mapping[str, float] | None, metric: str) -> float | None:
    if relaxed is None or discretized is None or metric not in relaxed:
        return None
    return relaxed[metric] - discretized[metric]


def _relaxed_score(run: Context, device: torch.device) -> dict[str, float] | None:
    """Val metrics of the supernet under the gates that the search ended with; None where those are no mixture.

    The score of a path is that of the discretized network, and nothing would be learned from their difference. The
    primary metric is missing where the supernet itself cannot be simulated for it.
    """
    relaxation, supernet = run.parts.relaxation, run.parts.supernet
    if relaxation.kinds["eval"] != "mixture" or "mixture" not in supernet.gate_kinds:
        return None
    config = run.config.search
    gates = relaxation.sample("eval", torch.Generator().manual_seed(0))  # in evaluation nothing is drawn
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return evaluate_relaxed(
            supernet,
            gates,
            run.parts.task,
            device=device,
            calibration_batches=config.calibration_batches,
            batch_size=config.batch_size,
        )


def _costs(run: Context, models: Mapping[str, CostModel], choices: Mapping[str, str]) -> dict[str, float]:
    """Every cost of one architecture: from the tables where there is one, else measured on the derived network."""
    supernet, shape = run.parts.supernet, run.parts.task.input_shape
    costs = {}
    for name, cost in run.parts.costs.items():
        if name in models:
            costs[name] = models[name].exact(choices)
            continue
        with torch.random.fork_rng():  # building a network draws initial weights
            costs[name] = cost.measure(deployed(supernet.derive(supernet.genotype(choices))), shape)
    return costs
