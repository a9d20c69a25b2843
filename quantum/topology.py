"""Which pairs of wires a circuit's layers may join."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from darts_hpo.errors import ConfigError, unknown_name
from quantum.noise import DeviceNoise, NoiseModel

Pairs = tuple[tuple[int, int], ...]


def _chain(n_wires: int) -> Pairs:
    return tuple((wire, wire + 1) for wire in range(n_wires - 1))


def _ring(n_wires: int) -> Pairs:
    # With two wires the closing pair is the chain's only one.
    return _chain(n_wires) + (((n_wires - 1, 0),) if n_wires > 2 else ())


def _all(n_wires: int) -> Pairs:
    return tuple(itertools.combinations(range(n_wires), 2))


TOPOLOGIES: Mapping[str, Callable[[int], Pairs]] = {"chain": _chain, "ring": _ring, "all": _all}
"""Named topologies that need no device."""


def pairs_of(topology: str | Sequence[Sequence[int]], n_wires: int, noise: NoiseModel | None = None) -> Pairs:
    """The pairs of a topology, in the order in which a layer visits them.

    Args:
        topology: ``chain``, ``ring``, ``all``, ``device`` (the couplings of the noise model's device), or a list of
            pairs of wires.
        n_wires: number of qubits.
        noise: laid out on so many wires; for ``device``.

    Raises:
        ConfigError: the name is unknown, a pair does not fit the wires, or there is no device.
    """
    if isinstance(topology, str):
        if topology == "device":
            if not isinstance(noise, DeviceNoise):
                raise ConfigError("supernet.topology=device needs the noise of a device, for example noise=device.")
            return noise.coupled_wires
        if topology not in TOPOLOGIES:
            raise ConfigError(unknown_name("topology", topology, (*TOPOLOGIES, "device")))
        return TOPOLOGIES[topology](n_wires)
    pairs = tuple(_pair(entry, n_wires) for entry in topology)
    if len(set(pairs)) != len(pairs):
        raise ConfigError("supernet.topology names a pair twice.")
    return pairs


def _pair(entry: object, n_wires: int) -> tuple[int, int]:
    """An entry of a list of pairs, checked.

    Raises:
        ConfigError: it is no pair of two wires of the circuit.
    """
    wires: list[Any] = list(entry) if isinstance(entry, Sequence) and not isinstance(entry, str) else [entry]
    if len(wires) != 2 or wires[0] == wires[1] or not all(type(wire) is int for wire in wires):
        raise ConfigError(f"supernet.topology holds {entry!r}: expected pairs of two different wires, as [0, 1].")
    if not all(0 <= wire < n_wires for wire in wires):
        raise ConfigError(f"supernet.topology holds {entry!r}, but wires count from 0 to {n_wires - 1}.")
    return wires[0], wires[1]
