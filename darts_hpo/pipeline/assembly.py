"""The parts of a run, built from its configuration, and checked before anything is trained."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from darts_hpo.bilevel import BilevelRule
from darts_hpo.config import RetrainConfig, RunConfig, SearchConfig, build
from darts_hpo.costs import Cost, CostPenalty, deployed
from darts_hpo.costs.parameters import TRAIN_FORM_LABEL
from darts_hpo.errors import ConfigError, unknown_name
from darts_hpo.pipeline.random_genotypes import draw
from darts_hpo.pipeline.seeds import Seeds
from darts_hpo.relaxations import Relaxation
from darts_hpo.runs.directory import flattened
from darts_hpo.selection import Selector
from darts_hpo.supernet import Supernet
from darts_hpo.training.search import require_supported_gates
from darts_hpo.training.task import Split, Task
from darts_hpo.training.weight_training import WeightSchedule, training_loader, weight_optimizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What a configuration names, built.

    Args:
        task: prepared: its data are read and split.
        supernet: searched.
        relaxation: of the supernet's choices, those of ``search.fixed`` left out.
        rule: the bilevel rule.
        selector: takes the architecture from the relaxation.
        costs: to report, by the key of the configuration and in its order; those that apply to the network.
        penalty: of the arch loss, where one is configured.
    """

    task: Task
    supernet: Supernet
    relaxation: Relaxation
    rule: BilevelRule
    selector: Selector
    costs: Mapping[str, Cost]
    penalty: CostPenalty | None


def assemble(config: RunConfig, task: Task, seeds: Seeds) -> Parts:
    """Build everything that a prepared task's network is searched with.

    Raises:
        ConfigError: a node of the configuration cannot be built.
        SpaceError: a fixed choice or option is unknown.
    """
    seeds.seed("search")
    decided = task.network_arguments()
    unused = [key for key in decided if config.supernet.get(key) not in (None, decided[key])]
    if unused:
        keys = " and ".join(f"supernet.{key}" for key in unused)
        log.info("The task decides %s; what is configured there is not used.", keys)
    supernet: Supernet = build(config.supernet, **decided)
    fixed: dict[str, str] = {}
    # Hydra nests what is written with dots.
    for name, option in flattened(config.search.fixed).items():
        fixed |= supernet.fixed_choices(name, str(option))
    generator = seeds.generator("logits")
    return Parts(
        task=task,
        supernet=supernet,
        relaxation=build(config.relaxation, space=supernet.space, fixed=fixed, generator=generator),
        rule=build(config.bilevel),
        selector=build(config.selector),
        costs=_applicable({name: build(node) for name, node in config.costs.items() if node}, supernet),
        penalty=build(config.penalty) if config.penalty else None,
    )


def _reference_network(supernet: Supernet) -> nn.Module:
    """Any derived network shows what those of the space have in common."""
    with torch.random.fork_rng():  # building a network draws initial weights
        return supernet.derive(supernet.genotype(supernet.reference_choices()))


def _applicable(costs: Mapping[str, Cost], supernet: Supernet) -> dict[str, Cost]:
    with torch.random.fork_rng():
        network = deployed(_reference_network(supernet))
    applicable = {}
    for name, cost in costs.items():
        if cost.applies_to(network):
            applicable[name] = cost
        else:
            log.info("costs.%s does not apply to a network of %s and is left out.", name, supernet.name)
    return applicable


def check_training(config: RunConfig, parts: Parts, seeds: Seeds) -> None:
    """Refuse now what training would refuse later: a retraining comes hours after the command was typed.

    Raises:
        ConfigError: parts or settings do not go together.
    """
    searched = parts.relaxation.searched
    if parts.penalty is not None:
        _check_penalized(parts.penalty.cost, parts.costs.values())
    if config.export.onnx and not parts.supernet.exports_onnx:
        raise ConfigError(f"A network of {parts.supernet.name} cannot be written as ONNX; set export.onnx=false.")
    parts.task.require_network(_reference_network(parts.supernet))
    draw(parts.supernet, parts.relaxation.fixed, config.random, seeds.of("random"))
    if config.retrain.inherit_weights and not searched:
        raise ConfigError("retrain.inherit_weights=true needs a search, but every choice is fixed; set it to false.")
    stages: list[tuple[str, SearchConfig | RetrainConfig, Split]] = [("retrain", config.retrain, "train+arch")]
    if searched:
        require_supported_gates(parts.relaxation, parts.supernet, parts.rule)
        stages.append(("search", config.search, "train"))
        if parts.rule.needs_arch_batch:
            stages.append(("search", config.search, "arch"))
    for stage, settings, split in stages:
        training_loader(parts.task, split, stage=stage, batch_size=settings.batch_size, epochs=settings.epochs)
        optimizer = weight_optimizer(parts.task, parts.supernet, settings.optimizer)
        if stage == "search":
            parts.rule.require_optimizer(optimizer)
        WeightSchedule(settings.optimizer, settings.schedule, steps_per_epoch=1, epochs=settings.epochs)


def _check_penalized(penalized: Cost, costs: Iterable[Cost]) -> None:
    names = {cost.name: cost.decomposes for cost in costs}
    able = [name for name, decomposes in names.items() if decomposes]
    if penalized.name not in names:
        raise ConfigError(unknown_name("cost in penalty.cost (of those in costs)", penalized.name, able))
    if penalized.name not in able:
        raise ConfigError(
            f"penalty.cost: {penalized.name!r} is measured on whole networks only, so the search cannot pull it down; "
            f"costs that decompose: {', '.join(able) or 'none of those in costs'}."
        )


def cost_labels(costs: Mapping[str, Cost]) -> dict[str, str]:
    """What the costs in results are called in tables, by their key and in the order of the rows."""
    return {"params_train": TRAIN_FORM_LABEL} | {cost_key(name): cost.label for name, cost in costs.items()}


def cost_key(name: str) -> str:
    """A cost's key in results. Parameters are counted in two forms; ``costs.params`` is that of the shipped one."""
    return "params_deployed" if name == "params" else name
