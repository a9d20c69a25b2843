"""The noise that a circuit's costs are computed in: laid out on the device as the network's own noise is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from darts_hpo.errors import ConfigError, unknown_name
from quantum.costs.base import circuit_of
from quantum.noise import DeviceNoise, NoiseModel
from quantum.noise.layout import TOPOLOGIES

Topology = str | Sequence[Sequence[int]]
"""As in :func:`~quantum.topology.pairs_of`: a name, or a list of pairs of wires."""


def layout_topology(topology: Topology) -> str:
    """What a device's layout is chosen for; a list of pairs is laid out as a chain.

    Raises:
        ConfigError: the name is unknown.
    """
    if not isinstance(topology, str):
        return "chain"
    if topology not in TOPOLOGIES:
        raise ConfigError(unknown_name("topology", topology, TOPOLOGIES))
    return topology


class Placement:
    """Lays a noise model out for the circuits of modules.

    A layout of the model's own goes first. Otherwise, where a module runs in the noise of the same device (its
    ``noise``), the wires are on the same qubits; else they are where the topology puts them.

    Args:
        noise: to be laid out.
        topology: for which the best layout is taken.

    Raises:
        ConfigError: the topology is unknown.
    """

    def __init__(self, noise: NoiseModel, topology: Topology = "chain") -> None:
        self.noise, self.topology = noise, layout_topology(topology)
        self._best: dict[int, NoiseModel] = {}

    def of(self, module: nn.Module) -> NoiseModel:
        """The noise model for a module's circuit.

        Raises:
            ConfigError: the module has no circuit, the layout is for another number of wires, or the device has no
                room.
            DataError: the calibration lacks the rates for a layout.
        """
        n_wires = circuit_of(module).n_wires
        own = getattr(module, "noise", None)
        if isinstance(self.noise, DeviceNoise) and isinstance(own, DeviceNoise) and own.device == self.noise.device:
            return self.noise.placed_as(own).for_wires(n_wires)
        if n_wires not in self._best:
            self._best[n_wires] = self.noise.for_wires(n_wires, self.topology)
        return self._best[n_wires]


class DevicePlacement(Placement):
    """The same for the noise of a device."""

    noise: DeviceNoise

    def of(self, module: nn.Module) -> DeviceNoise:
        """The noise model for a module's circuit; see :meth:`Placement.of`."""
        noise = super().of(module)
        assert isinstance(noise, DeviceNoise)  # laying out does not change what it is
        return noise

    def conditions(self) -> dict[str, Any]:
        """Device, date of its calibration and layout, as plain data."""
        given = list(self.noise.layout) if self.noise.laid_out else "the network's"
        device = self.noise.device
        return {"device": device.name, "calibration": device.date, "layout": given, "topology": self.topology}


def device_placement(
    noise: NoiseModel | None, device: str | Path | None, layout: Sequence[int] | None, topology: Topology
) -> DevicePlacement | None:
    """Where a cost that is about a device places circuits; None where there is no device.

    Args:
        noise: of the network; one that is not of a device names none.
        device: name, folder or file, instead of the noise.
        layout: the qubit of every wire, beside `device`.
        topology: for which the best layout is taken.

    Raises:
        ConfigError: noise and device are both given, a layout without a device, or the topology is unknown.
        DataError: the calibration cannot be read, or lacks a rate of the layout's qubits.
    """
    if device is not None:
        if noise is not None:
            raise ConfigError("A cost was given both a device and a noise model; give one of them.")
        noise = DeviceNoise(device, layout)
    elif layout is not None:
        raise ConfigError("A cost was given a layout without its device; give device=... too.")
    return DevicePlacement(noise, topology) if isinstance(noise, DeviceNoise) else None
