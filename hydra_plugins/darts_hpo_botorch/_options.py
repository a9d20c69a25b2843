"""From the sweeper's configuration to the objects of a study."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from darts_hpo.errors import ConfigError, SpaceError, unknown_name
from darts_hpo.imports import ALLOWED_PREFIXES, locate
from darts_hpo.space import Space, Value
from darts_hpo.tuning.grammar import SweepSpace
from darts_hpo.tuning.objectives import Direction, Fidelity, Objective, OutcomeConstraint
from darts_hpo.tuning.overrides import override_value
from darts_hpo.tuning.trial import Trial


def build(node: Mapping[str, Any], allowed: Sequence[str], **arguments: Any) -> Any:
    """The object that a node describes: what ``_target_`` names, called with the other keys.

    Args:
        node: plain containers; nested nodes with a target are built first.
        allowed: packages that may be named beside our own.
        arguments: passed along.

    Raises:
        ConfigError: no target, one outside the allowed packages, or an argument that it does not take.
    """
    if "_target_" not in node:
        raise ConfigError(f"{dict(node)!r} lacks _target_, the name of the class to build.")
    name = node["_target_"]
    target = locate(name, (*ALLOWED_PREFIXES, *allowed))
    given = {str(key): _nested(value, allowed) for key, value in node.items() if key != "_target_"} | arguments
    signature = inspect.signature(target)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for key in given:
        if key not in signature.parameters and not takes_any:
            raise ConfigError(unknown_name(f"argument of {name}", key, signature.parameters))
    try:
        signature.bind(**given)
    except TypeError as error:
        raise ConfigError(f"{name}: {error}.") from None
    return target(**given)


def _nested(value: Any, allowed: Sequence[str]) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return build(value, allowed)
        return {key: _nested(item, allowed) for key, item in value.items()}
    if isinstance(value, list):
        return [_nested(item, allowed) for item in value]
    return value


def search_space_file(path: str | None) -> Mapping[str, Any] | None:
    """The JSON object in the file that ``hydra.sweeper.search_space`` names.

    Raises:
        ConfigError: there is no such file, or it holds no JSON object.
    """
    if path is None:
        return None
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"hydra.sweeper.search_space={path}: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"hydra.sweeper.search_space={path} is no JSON: {error}.") from None
    if not isinstance(document, dict):
        raise ConfigError(f"hydra.sweeper.search_space={path} holds a {type(document).__name__}; expected an object.")
    return document


def objectives(directions: Mapping[str, Direction]) -> tuple[Objective, ...]:
    """Of ``hydra.sweeper.objectives``; without any, the returned number is maximized."""
    return tuple(Objective(name, direction) for name, direction in directions.items()) or (Objective(),)


def outcome_constraints(bounds: Mapping[str, str]) -> tuple[OutcomeConstraint, ...]:
    """Of ``hydra.sweeper.outcome_constraints``, for example ``{params: "<= 2e6"}``.

    Raises:
        ConfigError: a bound is not a comparison with a number.
    """
    constraints = []
    for name, text in bounds.items():
        comparison, bound = text.strip()[:2], text.strip()[2:]
        try:
            constraints.append(OutcomeConstraint(name, comparison, float(bound)))  # type: ignore[arg-type]
        except ValueError:
            raise ConfigError(
                f"hydra.sweeper.outcome_constraints.{name} is {text!r}; expected for example '<= 2e6'."
            ) from None
    return tuple(constraints)


def fidelity(budget: Mapping[str, Any]) -> Fidelity | None:
    """Of ``hydra.sweeper.budget``; None without a key.

    Raises:
        ConfigError: the range is empty, or its end is missing.
    """
    if budget["key"] is None:
        return None
    if budget["maximum"] is None:
        raise ConfigError(
            f"hydra.sweeper.budget.key={budget['key']} needs the full budget: hydra.sweeper.budget.maximum=NUMBER."
        )
    return Fidelity(budget["minimum"], budget["maximum"], budget["resumes"], budget["integer"])


def replicate_seeds(replicates: Mapping[str, Any], config: DictConfig) -> tuple[int, ...]:
    """The seeds of repetitions, counted on from the application's own.

    Raises:
        ConfigError: the application has no such key, or no whole number there.
    """
    if not replicates["top"]:
        return ()
    own = OmegaConf.select(config, replicates["key"].lstrip("+"), throw_on_missing=False)
    if replicates["key"].startswith("+") and own is None:
        own = 0
    if not isinstance(own, int):
        raise ConfigError(
            f"Repetitions need a seed to vary, but {replicates['key']!r} is {own!r} in the configuration. Name the key "
            "with hydra.sweeper.replicates.key=KEY, or leave repetitions out: hydra.sweeper.replicates.top=0"
        )
    return tuple(own + offset for offset in range(1, replicates["seeds"] + 1))


def own_values(config: DictConfig, sweep: SweepSpace) -> dict[str, Value]:
    """What the application's configuration says without a sweep, for the parameters that it knows."""
    choices = config.hydra.runtime.choices
    values: dict[str, Value] = {}
    for name in sweep.space:
        value = choices[name] if name in choices else OmegaConf.select(config, name, throw_on_missing=False)
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, resolve=True)
        if not isinstance(value, (bool, int, float, str)):
            absent, value = value is None, override_value(value)  # as the space names such options
            if absent and value not in sweep.texts.get(name, {}):
                continue
        values[name] = value
    return values


def warm_start(options: Mapping[str, Any], config: DictConfig, sweep: SweepSpace) -> tuple[list[dict[str, Value]], str]:
    """The points to try first.

    Returns:
        The points; parameters that one leaves out are as in the application's own configuration. And why the
        application's own values are not among them though they were asked for, or nothing.

    Raises:
        SpaceError: a point names an unknown parameter.
    """
    own, points, complaint = own_values(config, sweep), [], ""
    if options["defaults_first"]:
        try:
            points.append(sweep.space.validate(_active(sweep.space, own)))
        except SpaceError as error:
            complaint = str(error)
    for entry in options["warm_start"]:
        if not isinstance(entry, Mapping):
            raise SpaceError(f"hydra.sweeper.warm_start holds {entry!r}; expected a list such as [{{lr: 0.001}}].")
        given = dict(_flat(entry, sweep.space))
        for name in given:
            if name not in sweep.space:
                raise SpaceError(f"hydra.sweeper.warm_start: {unknown_name('parameter', name, sweep.space)}")
        points.append({**_active(sweep.space, {**own, **given}), **given})
    return points, complaint


def _active(space: Space, values: Mapping[str, Value]) -> dict[str, Value]:
    return {name: values[name] for name in space.active(values) if name in values}


def _flat(entry: Mapping[str, Any], space: Space, prefix: str = "") -> list[tuple[str, Any]]:
    pairs = []
    for key, value in entry.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in space:
            pairs += _flat(value, space, f"{name}.")
        else:
            pairs.append((name, value))
    return pairs


def record_reader(facts: Mapping[str, str]) -> Callable[[Trial, Path], dict[str, Any]]:
    """What ``hydra.sweeper.record`` asks for, read from a trial's directory.

    Args:
        facts: name to ``file:dotted.path``. Of a file of lines (``.jsonl``) the last one is read; a fact that is not
            there is left out.

    Raises:
        ConfigError: an entry has no file.
    """
    places = {}
    for name, text in facts.items():
        file_name, colon, path = text.partition(":")
        if not colon or not file_name or not path:
            raise ConfigError(
                f"hydra.sweeper.record.{name} is {text!r}; expected for example 'metrics.json:val.map50'."
            )
        places[name] = (file_name, path.split("."))

    def read(trial: Trial, directory: Path) -> dict[str, Any]:
        del trial
        documents = {file_name: _document(directory / file_name) for file_name, _ in places.values()}
        found = {name: _at(documents[file_name], path) for name, (file_name, path) in places.items()}
        return {name: value for name, value in found.items() if value is not None}

    return read


def _document(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text.rstrip().rpartition("\n")[2] if path.suffix == ".jsonl" else text)
    except (OSError, ValueError):
        return None


def _at(document: Any, path: Sequence[str]) -> Any:
    """The value at a dotted path; a key may itself hold dots."""
    if not path:
        return document
    if isinstance(document, list) and path[0].lstrip("-").isdigit():
        index = int(path[0])
        return _at(document[index], path[1:]) if -len(document) <= index < len(document) else None
    if isinstance(document, dict):
        for length in range(1, len(path) + 1):
            key = ".".join(path[:length])
            if key in document:
                return _at(document[key], path[length:])
    return None
