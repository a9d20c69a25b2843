"""A trained network in one file that rebuilds itself.

The file holds plain containers and tensors only: it loads with ``torch.load(weights_only=True)`` and cannot
run code. What it names as its builder is imported from an allow-list of packages (:mod:`darts_hpo.imports`).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import darts_hpo
from darts_hpo.errors import DartsHPOError, ExportError
from darts_hpo.imports import ALLOWED_PREFIXES, locate
from darts_hpo.runs.files import write_bytes

SCHEMA_VERSION = 1

_KEYS = ("network_target", "network_config", "state_dict", "genotype", "labels", "preprocessing", "metrics")


@dataclass(frozen=True)
class Bundle:
    """What :func:`load_bundle` found, the network ready to use.

    Attributes:
        network: rebuilt, with its weights, in evaluation mode.
        network_target: dotted name of the callable that built it.
        network_config: what that callable was given.
        genotype: the architecture as data, in the form of its ``to_json``.
        labels: class names by index; empty where the task has none.
        preprocessing: what the network expects of its input, as the task describes it.
        metrics: scores and costs recorded when it was saved.
        darts_hpo_version: version of the program that saved it.
    """

    network: nn.Module
    network_target: str
    network_config: dict[str, Any]
    genotype: dict[str, Any]
    labels: list[str]
    preprocessing: dict[str, Any]
    metrics: dict[str, Any]
    darts_hpo_version: str


def save_bundle(
    path: Path,
    *,
    network_target: str,
    network_config: Mapping[str, Any],
    state_dict: Mapping[str, Tensor],
    genotype: Mapping[str, Any],
    labels: Sequence[str] = (),
    preprocessing: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    extra_prefixes: Sequence[str] = (),
) -> None:
    """Write a bundle atomically, after checking that it rebuilds its network.

    Args:
        path: the file to make or replace.
        network_target: dotted name of a callable that takes ``network_config`` and returns the network, for
            example ``"supernets.gelan.network.GelanNetwork.from_config"``.
        network_config: plain containers.
        state_dict: weights of exactly that network.
        genotype: plain containers, see :meth:`darts_hpo.genotype.Genotype.to_json`.
        labels: class names by index.
        preprocessing: plain containers.
        metrics: plain containers.
        extra_prefixes: packages that ``network_target`` may lie in besides this project's own.

    Raises:
        ExportError: something is not plain data, or the network cannot be rebuilt; nothing is written.
        ConfigError: ``network_target`` does not exist or is not allowed.
        RunDirectoryError: the file cannot be written; what was there before is kept.
    """
    content = {
        "schema_version": SCHEMA_VERSION,
        "darts_hpo_version": darts_hpo.__version__,
        "network_target": network_target,
        "network_config": _plain(network_config, "network_config"),
        "state_dict": {name: tensor.detach().cpu().clone() for name, tensor in state_dict.items()},
        "genotype": _plain(genotype, "genotype"),
        "labels": [str(label) for label in labels],
        "preprocessing": _plain(preprocessing or {}, "preprocessing"),
        "metrics": _plain(metrics or {}, "metrics"),
    }
    _rebuild(content, extra_prefixes)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def load_bundle(path: Path, *, device: torch.device | str = "cpu", extra_prefixes: Sequence[str] = ()) -> Bundle:
    """Read a bundle and rebuild its network.

    Args:
        path: a file of :func:`save_bundle`.
        device: where the network shall be.
        extra_prefixes: packages, besides this project's own, that the file may name as the builder's home.
            Their code runs: name only packages whose networks you mean to load.

    Raises:
        ExportError: the file is absent, damaged, no bundle, of a newer schema, or does not fit its network.
        ConfigError: the builder it names does not exist or is not allowed.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ExportError(f"There is no bundle at {path}.") from None
    except (PermissionError, IsADirectoryError) as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}.") from None
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise ExportError(
            f"{path} is not a bundle or is damaged ({type(error).__name__}); "
            "expected the file bundle.pt of a run's export directory."
        ) from error
    try:
        _check_schema(content)
        network = _rebuild(content, extra_prefixes).to(device)
    except DartsHPOError as error:
        raise type(error)(f"{path}: {error}") from error
    described = {key: content[key] for key in (*_KEYS, "darts_hpo_version") if key != "state_dict"}
    return Bundle(network=network, **described)


def _check_schema(content: Any) -> None:
    if not isinstance(content, dict) or "schema_version" not in content:
        raise ExportError("it is not a bundle; expected the file bundle.pt of a run's export directory.")
    version = content["schema_version"]
    if version != SCHEMA_VERSION:
        raise ExportError(
            f"it has schema_version {version!r}; this program reads {SCHEMA_VERSION}. "
            "Upgrade darts-hpo if the file is newer."
        )
    if missing := [key for key in (*_KEYS, "darts_hpo_version") if key not in content]:
        raise ExportError(f"it lacks the key {missing[0]!r}.")


def _rebuild(content: Mapping[str, Any], extra_prefixes: Sequence[str]) -> nn.Module:
    target = content["network_target"]
    build = locate(target, (*ALLOWED_PREFIXES, *extra_prefixes))
    try:
        network = build(content["network_config"])
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise ExportError(f"{target} cannot build a network from its configuration: {error!r}.") from error
    if not isinstance(network, nn.Module):
        raise ExportError(f"{target} built a {type(network).__name__}; expected a torch.nn.Module.")
    try:
        network.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise ExportError(f"the weights do not fit the network: {' '.join(str(error).split())}") from error
    return network.eval()


def _plain(value: Any, path: str) -> Any:
    """A copy in dicts, lists and scalars: what ``weights_only`` reads without importing anything."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    for kind in (
        bool,
        int,
        float,
        str,
    ):  # subclasses (NumPy scalars, enumerations) would need their own class
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    raise ExportError(
        f"{path} is a {type(value).__name__}; a bundle holds only numbers, texts, lists and mappings. "
        "Convert it before saving."
    )
