"""Every YAML file composes, fits the schema and names what can be built."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from darts_hpo.cli import config_dir
from darts_hpo.config import RunConfig, build, register_resolvers, typed_config
from darts_hpo.imports import locate
from darts_hpo.relaxations import Relaxation
from darts_hpo.supernet import Supernet
from darts_hpo.training.search import require_supported_gates
from supernets.detection.augment import Augmentation

CONF = config_dir()
OPTIONS = sorted(
    f"{path.parent.name}={path.stem}"
    for path in CONF.glob("*/*.yaml")
    # What leaves a class open is a base of other files.
    if path.parent.name not in ("experiment", "hydra") and '_target_: "???"' not in path.read_text()
)
EXPERIMENTS = sorted(path.stem for path in CONF.glob("experiment/*.yaml"))
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and not path.name.startswith("_"))


def composed(*overrides: str) -> dict[str, Any]:
    """A composition as plain containers, checked against the schema."""
    GlobalHydra.instance().clear()
    register_resolvers()
    root = (
        ["data.root=somewhere"]
        if any(o in ("data=auto", "data=yolo", "data=coco", "data=voc") for o in overrides)
        else []
    )
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=[*overrides, *root])
    typed_config(cfg)
    plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def targets(node: Any) -> Iterator[Mapping[str, Any]]:
    """Every node that names a class."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from targets(value)


def signatures_fit(config: Mapping[str, Any]) -> None:
    for node in targets(config):
        target = locate(node["_target_"])
        unknown = set(node) - {"_target_"} - set(inspect.signature(target).parameters)
        assert not unknown, f"{node['_target_']} takes no {unknown}"


PART_OF_SUPERNET = {"noise"}
"""Groups that fill a key of the supernet."""


def test_the_groups_are_the_ones_the_schema_reads():
    names = {field.name for field in fields(RunConfig)}
    assert set(GROUPS) - names == {"experiment", "hydra"} | PART_OF_SUPERNET


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_its_targets_take_its_keys(option: str):
    group, _, name = option.partition("=")
    if group in PART_OF_SUPERNET:
        option = f"+{option}"
    needed = ["task=digits"] if option == "data=none" else []
    if group == "noise" or name == "two_qubit":
        needed = ["supernet=supercircuit"]
    if name.endswith("mnist"):
        needed = ["task.data.root=somewhere"]
    if name == "quantum_maxcut_edges":
        needed = ["task.graph.edges=[[0,1]]"]
    if name == "quantum_ground_state":
        needed = ["task.hamiltonian=somewhere.json"]
    config = composed(option, *needed)
    signatures_fit(config)
    if group in ("bilevel", "selector"):
        build(config[group])
    if group == "penalty" and config[group]:
        build(config[group])
    if group == "data" and config[group]:
        assert isinstance(build(config["data"]["augmentation"]), Augmentation)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_its_parts_fit_together(experiment: str):
    small = [] if "quantum" in experiment else ["supernet.width=8" if "toy" in experiment else "supernet.width=0.125"]
    config = composed(f"+experiment={experiment}", *small)
    assert config["name"] == experiment
    signatures_fit(config)
    task = None if "yolov9" in experiment else build(config["task"])
    given = task.network_arguments() if task else {"num_classes": 3, "input_shape": (3, 64, 64)}
    supernet = build(config["supernet"], **given)
    relaxation = build(config["relaxation"], space=supernet.space)
    assert isinstance(supernet, Supernet)
    assert isinstance(relaxation, Relaxation)
    require_supported_gates(relaxation, supernet)


def test_the_experiments_of_the_readme_are_there():
    assert {"toy_darts", "yolov9_darts", "yolov9_proxyless", "yolov9_tango"} <= set(EXPERIMENTS)


def test_the_slides_experiment_is_their_recipe():
    config = composed("+experiment=yolov9_tango")
    assert config["supernet"] | {"options": 0} == {
        "_target_": "supernets.gelan.supernet.GelanSupernet",
        "network": "yolov9-c",
        "searched": "tango",
        "weight_sharing": "none",
        "width": 1.0,
        "activation": "silu",
        "options": 0,
    }
    assert len(config["supernet"]["options"]) == 8
    for stage in ("search", "retrain"):
        assert (config[stage]["epochs"], config[stage]["batch_size"]) == (20, 16)
        optimizer = config[stage]["optimizer"]
        assert (optimizer["name"], optimizer["lr"], optimizer["momentum"]) == ("sgd", 0.001, 0.9)


@pytest.mark.parametrize("data", ["auto", "bccd", "digits_scenes", "yolo", "coco", "voc"])
def test_the_recipe_of_the_data_reaches_the_experiment(data: str):
    config = composed("+experiment=yolov9_darts", f"data={data}", "data.recipe.lr=0.007", "data.recipe.batch_size=3")
    recipe = config["data"]["recipe"]
    assert (config["search"]["epochs"], config["retrain"]["epochs"]) == (
        recipe["search_epochs"],
        recipe["retrain_epochs"],
    )
    for stage in ("search", "retrain"):
        assert (config[stage]["batch_size"], config[stage]["optimizer"]["lr"]) == (3, 0.007)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_one_number_tunes_search_and_retraining(experiment: str):
    def optimizers(*overrides: str) -> list[tuple[float, float]]:
        config = composed(f"+experiment={experiment}", *overrides)
        return [(o["lr"], o["momentum"]) for o in (config["search"]["optimizer"], config["retrain"]["optimizer"])]

    assert optimizers("lr=0.003", "momentum=0.7") == [(0.003, 0.7)] * 2
    both = optimizers()
    assert both[0] == both[1]
    assert optimizers("search.optimizer.lr=0.5", "retrain.optimizer.momentum=0") == [(0.5, both[0][1]), (both[0][0], 0)]


def schema_keys(schema: type, prefix: str = "") -> Iterator[str]:
    """Dotted keys of a dataclass; what is free in form counts as one."""
    for name, hint in get_type_hints(schema).items():
        kind = next((part for part in (hint, *get_args(hint)) if is_dataclass(part)), None)
        if isinstance(kind, type):
            yield from schema_keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def defaults(schema: type) -> Iterator[str]:
    """Fields that would hide a key missing in the YAML."""
    for field in fields(schema):
        if field.default is not MISSING or field.default_factory is not MISSING:
            yield f"{schema.__name__}.{field.name}"
    for hint in get_type_hints(schema).values():
        for part in (hint, *get_args(hint)):
            if isinstance(part, type) and is_dataclass(part):
                yield from defaults(part)


def yaml_keys(node: Mapping[str, Any], free: set[str], prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        if isinstance(value, Mapping) and f"{prefix}{name}" not in free:
            yield from yaml_keys(value, free, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_schema_and_the_yaml_have_the_same_keys_and_only_the_yaml_has_values():
    content = yaml.safe_load((CONF / "train.yaml").read_text())
    schema = set(schema_keys(RunConfig))
    del content["defaults"], content["hydra"]
    assert set(yaml_keys(content, free=schema)) == schema - set(GROUPS) - {"run_dir"}
    assert not list(defaults(RunConfig))


def test_what_the_run_id_depends_on():
    def identity(*overrides: str) -> str:
        return str(composed("+experiment=toy_darts", *overrides)["run"])

    same = [
        [],
        ["budget.search_epochs=3"],
        ["logger=tensorboard"],
        ["trainer.threads=2"],
        ["trainer.accelerator=cpu"],
        ["objective=[search,params_deployed]"],
        ["random=3"],  # trained beside it
        ["lr=0.05"],  # the experiment's own
        ["lr=0.1", "search.optimizer.lr=0.05", "retrain.optimizer.lr=0.05"],  # trains as the experiment does
    ]
    assert len({identity(*overrides) for overrides in same}) == 1
    different = [
        [],
        ["seed=1"],
        ["search.epochs=11"],
        ["supernet.width=8"],
        ["bilevel=unrolled"],
        ["reference=false"],
        ["lr=0.1"],
        ["momentum=0.5"],
        ["search.optimizer.lr=0.1"],
        ["data_fraction=0.5"],
    ]
    assert len({identity(*overrides) for overrides in different}) == len(different)
    workers = {str(composed(f"task.workers={number}")["run"]) for number in (0, 2)}
    assert len(workers) == 1
