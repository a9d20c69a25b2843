"""Circuits as TorchQuantum modules, to go on with in a TorchQuantum program."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quantum.bridge.availability import require_torchquantum
from quantum.bridge.simulation import apply_circuit, quantum_device
from quantum.circuit import Circuit


def to_torchquantum(circuit: Circuit, weights: Tensor | Sequence[float]) -> nn.Module:
    """A circuit as a ``tq.QuantumModule`` whose angles can be trained further.

    The module has one parameter, ``weights`` `[n_weights]` float32, so its state dict loads into a module that was made
    from the same circuit. Its forward pass takes samples `[B, F]` (or nothing, for a circuit that reads none) and
    returns the expectation values of Z on all wires, `[B, n_wires]`. Its method ``run(x)`` returns the
    ``tq.QuantumDevice`` at the end of the circuit, for any other measurement that TorchQuantum offers.

    Args:
        circuit: any circuit; amplitude encoding and angles read from the input included.
        weights: its `n_weights` angles in radians.

    Raises:
        MissingDependencyError: TorchQuantum is absent or broken.
    """
    return _circuit_module()(circuit, torch.as_tensor(weights))


@functools.cache
def _circuit_module() -> type[Any]:
    tq: Any = require_torchquantum()

    class CircuitModule(tq.QuantumModule):
        """A circuit as a ``tq.QuantumModule``; made by :func:`to_torchquantum`."""

        def __init__(self, circuit: Circuit, weights: Tensor) -> None:
            super().__init__()
            self.circuit = circuit
            self.n_wires = circuit.n_wires
            self.weights = nn.Parameter(weights.detach().to(torch.float32, copy=True))
            self.measure = tq.MeasureAll(tq.PauliZ)

        def run(self, x: Tensor | None = None) -> Any:
            # The device is not kept: it would enter the state dict, and its state, being no leaf, forbids copies.
            device = quantum_device(self.circuit, self.weights, x)
            apply_circuit(device, self.circuit, self.weights, x)
            return device

        def forward(self, x: Tensor | None = None) -> Tensor:
            expectations: Tensor = self.measure(self.run(x))
            return expectations

    # Found again by pickle through the module, see __getattr__.
    CircuitModule.__qualname__ = "CircuitModule"
    return CircuitModule


def __getattr__(name: str) -> Any:
    if name == "CircuitModule":
        return _circuit_module()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
