"""PennyLane's ``default.qubit`` with backpropagation, the batch broadcast. It computes in complex128 always."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pennylane as qml
import torch
from torch import Tensor

from benchmarks.quantum.cases import Case, Numbers, Step


def prepare(case: Case, numbers: Numbers) -> Callable[[], Step]:
    """The training step of a ``circuit``."""
    return training_step(qml.device("default.qubit", wires=case.n_wires), "backprop", case, numbers)


def training_step(device: Any, diff_method: str, case: Case, numbers: Numbers) -> Callable[[], Step]:
    """The training step on a device, in float64 if that is what the device gives back."""
    angles = numbers.angles.clone().requires_grad_()

    @qml.qnode(device, interface="torch", diff_method=diff_method)
    def circuit(inputs: Tensor, weights: Tensor) -> list[Any]:
        for wire in range(case.n_wires):
            qml.RY(inputs[:, wire], wires=wire)
        rotations = iter(weights.reshape(-1, 3))
        for wires, (name,) in case.slots:
            if name == "Rot":
                first, second, third = next(rotations)
                qml.Rot(first, second, third, wires=wires[0])
            else:
                qml.CNOT(wires=list(wires))
        return [qml.expval(qml.PauliZ(wire)) for wire in range(case.n_wires)]

    def step() -> Step:
        outputs = torch.stack(list(circuit(numbers.inputs.clone(), angles)), dim=-1)
        (outputs * numbers.cotangent).sum().backward()
        return Step.of(outputs, angles)

    return step
