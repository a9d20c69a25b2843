"""Typed configuration: the schema of what the engine reads, and the one way to build what YAML names.

Groups such as ``supernet`` or ``relaxation`` name a class by ``_target_``; everything else is a dataclass below.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from darts_hpo.errors import ConfigError, unknown_name
from darts_hpo.imports import locate

# -- the schema: the values that it starts from stand in conf/train.yaml and nowhere else -----------------------------


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer of the weights. See :mod:`darts_hpo.training.optimizers`."""

    name: str
    lr: float
    momentum: float
    beta2: float
    """Second beta of Adam, in [0, 1); the first is the momentum. SGD has none."""
    weight_decay: float


@dataclass(frozen=True)
class ScheduleConfig:
    """Warm-up and decay of learning rate and momentum. See :mod:`darts_hpo.training.schedules`."""

    warmup_epochs: float
    warmup_min_steps: int
    warmup_momentum: float
    warmup_bias_lr: float
    decay: str
    final_factor: float


@dataclass(frozen=True)
class ArchOptimizerConfig:
    """Adam over the logits (DARTS: lr 3e-4, betas 0.5 and 0.999, weight decay 1e-3)."""

    lr: float
    betas: tuple[float, float]
    weight_decay: float


@dataclass(frozen=True)
class SearchConfig:
    """The search stage."""

    epochs: int
    batch_size: int
    weights_only_epochs: int
    """Epochs in which only the weights are trained."""
    arch_every: int
    """Weight steps per step of the logits."""
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    arch_optimizer: ArchOptimizerConfig
    clip_norm: float | None
    fixed: dict[str, Any]
    """Choices that are not searched; with all of them the search is skipped."""
    validate_every: int
    """Epochs between scores of the discretized network on the val split; 0 scores it once, at the end."""
    calibration_batches: int
    """Training batches that set the BatchNorm statistics of the discretized network before it is scored."""


@dataclass(frozen=True)
class EmaConfig:
    """Exponential moving average of the weights. See :mod:`darts_hpo.training.ema`."""

    decay: float
    tau: float | None
    """Updates over which the decay ramps up; null fits it to the length of the training."""


@dataclass(frozen=True)
class RetrainConfig:
    """The retraining stage, for the found network and the reference alike."""

    epochs: int
    batch_size: int
    inherit_weights: bool
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    ema: EmaConfig | None
    clip_norm: float | None
    validate_every: int
    """Epochs between scores on the val split; the last epoch is always scored."""


@dataclass(frozen=True)
class TrainerConfig:
    """Where and how training runs."""

    accelerator: str
    precision: str
    """``auto`` or Lightning's name; see :mod:`darts_hpo.training.precision`."""
    channels_last: bool
    """Whether convolutions keep the channels of a pixel together in memory, which is faster on most devices."""
    threads: int | None
    """Threads of PyTorch on the CPU; null measures what is fastest, once per run."""
    deterministic: bool


@dataclass(frozen=True)
class BudgetConfig:
    """How far this invocation goes. Not part of a run's identity: schedules span the full epochs regardless."""

    search_epochs: int | None
    retrain_epochs: int | None


@dataclass(frozen=True)
class ExportConfig:
    """What is exported."""

    onnx: bool


@dataclass(frozen=True)
class RunConfig:
    """A whole run. Nodes typed ``dict`` name a class by ``_target_``."""

    name: str
    run: str
    run_dir: str
    seed: int
    lr: float
    """Learning rate of the weights, in search and retraining alike unless an optimizer is given its own."""
    momentum: float
    """Momentum of the weights, likewise."""
    objective: str | tuple[str, ...]
    """What the run returns to a sweeper. See :mod:`darts_hpo.pipeline.objective`."""
    data_fraction: float
    """Share of the training data that is used; smaller shares are parts of larger ones."""
    task: dict[str, Any]
    supernet: dict[str, Any]
    relaxation: dict[str, Any]
    bilevel: dict[str, Any]
    selector: dict[str, Any]
    data: dict[str, Any]
    costs: dict[str, Any]
    penalty: dict[str, Any] | None
    search: SearchConfig
    retrain: RetrainConfig
    reference: bool
    random: int
    """Random genotypes that are trained the same way, for comparison; 0: none."""
    trainer: TrainerConfig
    budget: BudgetConfig
    export: ExportConfig
    logger: dict[str, Any]


# -- reading a composed configuration ------------------------------------------------------------------------------

IGNORED_BY_IDENTITY = (
    "run",
    "run_dir",
    "lr",  # counts where an optimizer refers to it
    "momentum",
    "objective",  # a run for a cheap one can go on to a full one
    "random",  # further genotypes can be added to a run; neither search nor retraining knows of them
    "budget",
    "logger",
    "trainer.accelerator",
    "trainer.threads",
    "task.workers",
    "task.cache_gib",
)
"""Keys that do not change what a run computes."""

_T = TypeVar("_T")


def typed_config(cfg: DictConfig, run_dir: str = "") -> RunConfig:
    """Check a composed configuration against the schema.

    Args:
        cfg: as Hydra composed it.
        run_dir: the directory that Hydra made for it; empty where nothing will run.

    Raises:
        ConfigError: a key is unknown or missing, a value is of the wrong type or out of range, or an interpolation
            cannot be resolved.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        text = _first_line(error)
        if match := re.search(r"Missing mandatory value: (\S+)", text):
            # An interpolation names the key that it wanted in full, a key that is missing itself only its last part.
            key = match.group(1) if "." in match.group(1) else error.full_key or match.group(1)
            raise ConfigError(f"{key} is not set; type {key}=VALUE.") from None
        raise ConfigError(f"{error.full_key}: {text}." if error.full_key else text) from None
    assert isinstance(plain, dict)
    settings = {str(key): value for key, value in plain.items()} | {"run_dir": run_dir}
    config = _read(RunConfig, settings, "")
    _check_ranges(config)
    return config


def identity(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved configuration that decides what a run computes."""
    copy = json.loads(json.dumps(plain))
    for dotted in IGNORED_BY_IDENTITY:
        node: Any = copy
        *parents, last = dotted.split(".")
        for key in parents:
            node = node.get(key, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node.pop(last, None)
    copy.pop("hydra", None)
    return dict(copy)


def run_id(plain: Mapping[str, Any]) -> str:
    """A short hash that names a run by its identity."""
    text = json.dumps(identity(plain), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def register_resolvers() -> None:
    """Make ``${darts_hpo.run_id:}`` known to OmegaConf; harmless to repeat."""

    def resolve(*, _root_: DictConfig) -> str:
        keys = [str(key) for key in _root_ if key not in ("hydra", "run", "run_dir")]
        masked = OmegaConf.masked_copy(_root_, keys)
        OmegaConf.set_readonly(masked, False)
        plain = OmegaConf.to_container(masked, resolve=True)
        assert isinstance(plain, dict)
        return run_id({str(key): value for key, value in plain.items()})

    if not OmegaConf.has_resolver("darts_hpo.run_id"):
        OmegaConf.register_new_resolver("darts_hpo.run_id", resolve)


def _read(schema: type[_T], data: Mapping[str, Any], path: str) -> _T:
    hints = get_type_hints(schema)
    known = {f.name for f in fields(schema)}  # type: ignore[arg-type]
    for key in data:
        if key not in known and key != "hydra":
            raise ConfigError(
                unknown_name("configuration key", path + key, {path + name for name in known - {"run_dir"}})
            )
    values = {}
    for name in known:
        if name in data:
            values[name] = _convert(hints[name], data[name], path + name)
    if absent := sorted(known - set(values)):
        raise ConfigError(f"{path}{absent[0]} is not set; type {path}{absent[0]}=VALUE.")
    return schema(**values)


def _convert(hint: Any, value: Any, path: str) -> Any:
    options = get_args(hint)
    if type(None) in options:
        if value is None:
            return None
        hint = next(option for option in options if option is not type(None))
    elif isinstance(hint, UnionType):  # one value, or several
        several = isinstance(value, (list, tuple))
        hint = next(option for option in options if (getattr(option, "__origin__", option) is tuple) == several)
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path}={value!r}: expected a group of keys.")
        return _read(hint, value, f"{path}.")  # type: ignore[arg-type]
    origin = getattr(hint, "__origin__", hint)
    if origin is dict:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path}={value!r}: expected a group of keys.")
        return dict(value)
    if origin is tuple:
        wanted = get_args(hint)
        if wanted[-1] is Ellipsis and isinstance(value, (list, tuple)):
            return tuple(_convert(wanted[0], item, f"{path}[{place}]") for place, item in enumerate(value))
        if not isinstance(value, (list, tuple)) or len(value) != len(wanted):
            raise ConfigError(f"{path}={value!r}: expected {len(wanted)} numbers, for example [0.5, 0.999].")
        return tuple(_convert(w, v, path) for w, v in zip(wanted, value, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        try:  # YAML 1.1 reads 1e-3 as text
            return float(value)
        except ValueError:
            pass
    if hint is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{path}={value!r}: expected a value of type {hint.__name__}.")
    return value


def _check_ranges(config: RunConfig) -> None:
    search, retrain, arch = config.search, config.retrain, config.search.arch_optimizer
    _require_at_least(
        1,
        {
            "search.epochs": search.epochs,
            "search.batch_size": search.batch_size,
            "search.arch_every": search.arch_every,
            "search.calibration_batches": search.calibration_batches,
            "retrain.epochs": retrain.epochs,
            "retrain.batch_size": retrain.batch_size,
            "retrain.validate_every": retrain.validate_every,
            "trainer.threads": config.trainer.threads,
            "budget.search_epochs": config.budget.search_epochs,
            "budget.retrain_epochs": config.budget.retrain_epochs,
        },
    )
    _require_at_least(
        0,
        {
            "search.weights_only_epochs": search.weights_only_epochs,
            "search.validate_every": search.validate_every,
            "search.arch_optimizer.weight_decay": arch.weight_decay,
            "search.optimizer.weight_decay": search.optimizer.weight_decay,
            "retrain.optimizer.weight_decay": retrain.optimizer.weight_decay,
            "seed": config.seed,
            "random": config.random,
        },
    )
    _require_positive(
        {
            "lr": config.lr,
            "search.optimizer.lr": search.optimizer.lr,
            "search.arch_optimizer.lr": arch.lr,
            "search.clip_norm": search.clip_norm,
            "retrain.optimizer.lr": retrain.optimizer.lr,
            "retrain.clip_norm": retrain.clip_norm,
            "retrain.ema.tau": retrain.ema.tau if retrain.ema else None,
        }
    )
    _require_below_one(
        {
            "momentum": config.momentum,
            "search.optimizer.momentum": search.optimizer.momentum,
            "search.optimizer.beta2": search.optimizer.beta2,
            "search.arch_optimizer.betas[0]": arch.betas[0],
            "search.arch_optimizer.betas[1]": arch.betas[1],
            "retrain.optimizer.momentum": retrain.optimizer.momentum,
            "retrain.optimizer.beta2": retrain.optimizer.beta2,
            "retrain.ema.decay": retrain.ema.decay if retrain.ema else None,
        }
    )
    if search.weights_only_epochs >= search.epochs:
        raise ConfigError(
            f"search.weights_only_epochs={search.weights_only_epochs} leaves none of search.epochs={search.epochs} "
            "to the logits; make it smaller."
        )
    if not 0 < config.data_fraction <= 1:
        raise ConfigError(f"data_fraction={config.data_fraction}: expected a share above 0, at most 1.")
    if config.seed >= 2**32:
        raise ConfigError(f"seed={config.seed}: expected a number below 2^32.")
    for name in ("name", "run"):
        text = getattr(config, name)
        if not re.fullmatch(r"[^/\\\s.][^/\\\s]*", text):
            raise ConfigError(f"{name}={text!r} names a folder: expected no blank, no slash and no leading dot.")


def _require_at_least(bound: int, values: Mapping[str, float | None]) -> None:
    for path, value in values.items():
        if value is not None and not bound <= value < math.inf:
            raise ConfigError(f"{path}={value}: expected a number of at least {bound}.")


def _require_positive(values: Mapping[str, float | None]) -> None:
    for path, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"{path}={value}: expected a number above 0.")


def _require_below_one(values: Mapping[str, float | None]) -> None:
    for path, value in values.items():
        if value is not None and not 0 <= value < 1:
            raise ConfigError(f"{path}={value}: expected a number from 0 to below 1.")


# -- building what YAML names --------------------------------------------------------------------------------------


def build(node: Mapping[str, Any], /, **arguments: Any) -> Any:
    """Call what ``_target_`` names with the node's other keys and further arguments.

    This is the single place where configuration turns into objects; targets come from an allow-list of packages.

    Args:
        node: plain containers with ``_target_``; nested nodes with a target are built first.
        arguments: passed along, over the node's own keys.

    Raises:
        ConfigError: no target, one outside the allowed packages, or an argument it does not take.
    """
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise ConfigError(f"The configuration node {node!r} lacks _target_, the name of what is to be built.")
    target = locate(node["_target_"])
    given = {str(key): _build_nested(value) for key, value in node.items() if key != "_target_"} | arguments
    signature = inspect.signature(target)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for key in given:
        if key not in signature.parameters and not takes_any:
            raise ConfigError(unknown_name(f"argument of {node['_target_']}", key, signature.parameters))
        if key in signature.parameters and key not in arguments:
            given[key] = _plain_value(signature.parameters[key], given[key], node["_target_"])
    try:
        signature.bind(**given)
    except TypeError as error:
        raise ConfigError(f"{node['_target_']}: {error}.") from None
    return target(**given)


_PLAIN_HINTS: dict[str, Any] = {
    text: hint
    for kind in (bool, int, float, str)
    for text, hint in ((kind.__name__, kind), (f"{kind.__name__} | None", kind | None))
}


def _plain_value(parameter: inspect.Parameter, value: Any, target: str) -> Any:
    """A value as the parameter is annotated, where that is a plain number, text or truth value."""
    annotation = parameter.annotation
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    if text not in _PLAIN_HINTS:
        return value
    return _convert(_PLAIN_HINTS[text], value, f"{target}: {parameter.name}")


def _build_nested(value: Any) -> Any:
    if isinstance(value, Mapping):
        return build(value) if "_target_" in value else {key: _build_nested(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_build_nested(v) for v in value]
    return value


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
