"""TorchQuantum, gate after gate; a mixture of gates is a mixture of the states that they make, as in a supernet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.quantum.cases import N_ANGLES, Case, Numbers, Step
from quantum.bridge import require_torchquantum


def prepare(case: Case, numbers: Numbers) -> Callable[[], Step]:
    """The training step."""
    tq: Any = require_torchquantum()
    gates = tq.functional.func_name_dict
    measure = tq.MeasureAll(tq.PauliZ)
    angles = numbers.angles.clone().requires_grad_()
    mixture = numbers.mixture.clone().requires_grad_()

    def apply(device: Any, name: str, wires: tuple[int, ...], values: Tensor) -> None:
        if name == "I":  # for as many wires as the slot has
            return
        if len(values):
            gates[name.lower()](device, list(wires), params=values.unsqueeze(0))
        else:
            gates[name.lower()](device, list(wires))

    def step() -> Step:
        device = encoded(case, numbers)
        offset = 0
        for (wires, candidates), weights in zip(case.slots, mixture, strict=True):
            before, total = device.states, None
            for name, weight in zip(candidates, weights, strict=False):
                values = angles[offset : offset + N_ANGLES[name]]
                offset += N_ANGLES[name]
                if len(candidates) == 1:
                    apply(device, name, wires, values)
                    continue
                device.states = before.clone()
                apply(device, name, wires, values)
                total = weight * device.states if total is None else total + weight * device.states
            if total is not None:
                device.states = total
        if case.kind == "circuit":
            outputs = measure(device)
            (outputs * numbers.cotangent).sum().backward()
            return Step.of(outputs, angles)
        normalise(device)
        outputs = measure(device)
        (outputs * numbers.cotangent).sum().backward()
        return Step.of(outputs, angles, mixture)

    return step


def encoded(case: Case, numbers: Numbers) -> Any:
    """A device with the encoded samples."""
    tq: Any = require_torchquantum()
    device = tq.QuantumDevice(n_wires=case.n_wires, bsz=case.batch)
    for wire in range(case.n_wires):
        tq.functional.ry(device, [wire], params=numbers.inputs[:, wire : wire + 1])
    return device


def normalise(device: Any) -> None:
    """A mixture of unitary matrices is not unitary."""
    states = device.states
    square = torch.view_as_real(states).square().flatten(1).sum(1)
    device.states = states * square.rsqrt().reshape(-1, *[1] * (states.dim() - 1))
