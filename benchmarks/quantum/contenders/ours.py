"""This package as its users meet it: the supercircuit of a search, and the network that comes out of one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.quantum.cases import N_LAYERS, ONE_QUBIT, TWO_QUBIT, Case, Numbers, Step
from darts_hpo.supernet import Gate
from quantum.circuit import Angle, Circuit, Input, Operation, Weight
from quantum.network import QuantumNetwork
from quantum.supercircuit import Supercircuit


def prepare(case: Case, numbers: Numbers) -> Callable[[], Step]:
    """The training step."""
    return _supercircuit(case, numbers) if case.kind == "supercircuit" else circuit(case, numbers, torch.float32)


def circuit(case: Case, numbers: Numbers, dtype: torch.dtype) -> Callable[[], Step]:
    """The step of a plain circuit, in either precision."""
    operations = [Operation("RY", (wire,), (Input(wire),)) for wire in range(case.n_wires)]
    used = 0
    for wires, (name,) in case.slots:
        count = 3 if name == "Rot" else 0
        angles: tuple[Angle, ...] = tuple(Weight(used + position) for position in range(count))
        operations.append(Operation(name, wires, angles))
        used += count
    network = QuantumNetwork(Circuit(case.n_wires, tuple(operations))).to(dtype)
    with torch.no_grad():
        network.weights.copy_(numbers.angles)
    inputs, cotangent = numbers.inputs.to(dtype), numbers.cotangent.to(dtype)

    def step() -> Step:
        outputs: Tensor = network(inputs.clone())
        (outputs * cotangent).sum().backward()
        return Step.of(outputs, network.weights)

    return step


def _supercircuit(case: Case, numbers: Numbers) -> Callable[[], Step]:
    network = Supercircuit(
        n_inputs=case.n_wires,
        n_wires=case.n_wires,
        n_layers=N_LAYERS,
        one_qubit=ONE_QUBIT,
        two_qubit=TWO_QUBIT,
        topology="chain",
        encoder="angle",
        mixing="lcu",
    )
    with torch.no_grad():
        network.weights.copy_(numbers.angles)
    mixture = numbers.mixture.clone().requires_grad_()
    every = tuple(range(len(ONE_QUBIT)))

    def step() -> Step:
        gates = {name: Gate(weights, every) for name, weights in zip(network.space, mixture.unbind(), strict=True)}
        outputs: Tensor = network(numbers.inputs.clone(), gates)
        (outputs * numbers.cotangent).sum().backward()
        return Step.of(outputs, network.weights, mixture)

    return step
