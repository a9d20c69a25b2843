"""The reference engine: TorchQuantum, gate after gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError
from quantum.bridge import apply_operation, require_torchquantum
from quantum.circuit import Operation, Weight
from quantum.engines.base import Engine
from quantum.engines.data import amplitudes
from quantum.engines.statevector import StatevectorEngine
from quantum.gates import gate_named
from quantum.program import DataSlot, Encoding, Program, Slot

# Room and normalisation are those of the fast engine, whose states have the same form.
_STATES = StatevectorEngine()


class TorchQuantumEngine(Engine):
    """Amplitudes of pure states, `2**n x B`, complex64, on a ``tq.QuantumDevice``.

    A slot with several candidates applies each of them to a copy of the state and mixes the results, as a supernet
    mixes the outputs of its operations; at the end the state is normalised. By linearity this is what
    :class:`~quantum.engines.statevector.StatevectorEngine` computes, at many times its cost. It is here to compare
    with.
    """

    name = "torchquantum"
    local = 2
    mixes_channels = False

    def run(
        self,
        program: Program,
        parameters: Tensor,
        mixture: Tensor | None = None,
        data_mixtures: Sequence[Tensor] = (),
        inputs: Tensor | None = None,
    ) -> Tensor:
        """The state after all elements of a program, `2**n_wires x B`; see :meth:`Engine.run`.

        Raises:
            SpaceError: as in :meth:`Engine.run`.
            ConfigError: the angles are not float32.
            MissingDependencyError: TorchQuantum is absent or broken.
        """
        self.check(program, parameters, mixture)
        self.check_data(program, data_mixtures, inputs)
        if parameters.dtype != torch.float32:
            raise ConfigError(
                f"TorchQuantum computes with complex64 only; the angles are {parameters.dtype}. "
                "Use supernet.engine=fused, or trainer.precision=32-true."
            )
        batch = 1 if inputs is None else len(inputs)
        self.require_room(program.n_wires, batch, parameters)
        with torch.autocast(parameters.device.type, enabled=False):
            device = require_torchquantum().QuantumDevice(program.n_wires, bsz=batch, device=parameters.device)
            entry = offset = seen = 0
            for element in program.elements:
                if isinstance(element, DataSlot):
                    weights = data_mixtures[seen] if data_mixtures else None
                    candidates: Sequence[Callable[[], None]] = [
                        partial(_encode, device, option, parameters, inputs) for option in element.options
                    ]
                    seen += 1
                else:
                    weights = None if mixture is None else mixture[entry : entry + len(element.options)]
                    candidates = _candidates(device, element, offset, parameters)
                    entry += len(element.options)
                    offset += element.n_parameters
                _mix(device, candidates, weights)
            states: Tensor = device.get_states_1d()
        return _STATES.finish(states.mT, mixture is not None or len(data_mixtures) > 0)

    def require_room(self, n_wires: int, batch: int, like: Tensor) -> None:
        """Refuse a state that does not fit in memory.

        Raises:
            SpaceError: states the bytes.
        """
        _STATES.require_room(n_wires, batch, like)


def _mix(device: Any, candidates: Sequence[Callable[[], None]], weights: Tensor | None) -> None:
    """Every candidate applied to the state as it is now, and the weighted sum of what comes out."""
    if weights is None:
        (apply,) = candidates
        apply()
        return
    before, total = device.states, None
    for weight, apply in zip(weights, candidates, strict=True):
        device.states = before.clone()
        apply()
        total = weight * device.states if total is None else total + weight * device.states
    device.states = total


def _candidates(device: Any, slot: Slot, offset: int, parameters: Tensor) -> Sequence[Callable[[], None]]:
    """One action per option; its angles are among the parameters, from `offset` on."""
    candidates = []
    for name in slot.options:
        count = gate_named(name).n_parameters
        candidates.append(partial(_apply, device, name, slot.wires, range(offset, offset + count), parameters))
        offset += count
    return candidates


def _apply(device: Any, name: str, wires: tuple[int, ...], angles: range, parameters: Tensor) -> None:
    if name != "I":  # which is an empty slot, on however many wires
        apply_operation(device, Operation(name, wires, tuple(Weight(angle) for angle in angles)), parameters)


def _encode(device: Any, encoding: Encoding | None, parameters: Tensor, inputs: Tensor | None) -> None:
    if encoding is None:
        return
    if encoding.amplitude:
        assert inputs is not None  # check_data has seen to it
        states = amplitudes(inputs.to(parameters.device), device.n_wires, torch.complex64).mT
        device.states = states.reshape(device.states.shape)
    for operation in encoding.operations:
        apply_operation(device, operation, parameters, inputs)
