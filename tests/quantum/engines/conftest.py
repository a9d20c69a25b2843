"""Random circuits, and states computed from definitions, one full matrix after the other."""

import itertools
import math
import random

import pytest
import torch

from quantum.circuit import Circuit, Input, Operation, Weight
from quantum.gates import POOL, pauli_basis
from quantum.noise import channels


def _random_circuit(seed):
    """Encoded data, then 18 to 27 gates of all kinds, some of them turned by data or by a constant.

    Returns the circuit on 3 to 8 wires and its weights; it reads up to 6 features.
    """
    chance = random.Random(seed)
    n = 3 + seed % 6
    operations, count = [], 0
    for feature in range(6):
        kind = chance.choice(("RX", "RY", "RZ", "P"))
        operations.append(Operation(kind, (chance.randrange(n),), (Input(feature, chance.choice((1.0, -0.5))),)))
    for gate in [*chance.sample(POOL, 18), *chance.choices(POOL, k=9)]:
        wires = tuple(chance.sample(range(n), gate.n_wires))
        source = chance.random()
        if source < 0.2:  # data enter again, also through controlled and two-wire gates
            angles = tuple(Input(chance.randrange(6), 0.7) for _ in range(gate.n_parameters))
        elif source < 0.3:
            angles = tuple(chance.uniform(-3, 3) for _ in range(gate.n_parameters))
        else:
            angles = tuple(Weight(count + i) for i in range(gate.n_parameters))
            count += gate.n_parameters
        operations.append(Operation(gate.name, wires, angles))
    return Circuit(n, tuple(operations)), [chance.uniform(-math.pi, math.pi) for _ in range(count)]


def _noisy_pauli_vector(circuit, weights, inputs, noise):
    """The final Pauli vector of one sample, float64, from the full transfer matrix of every gate and of its noise."""
    n = circuit.n_wires
    state = torch.zeros(2**n, dtype=torch.complex128)
    if circuit.amplitude_input:
        state[: len(inputs)] = torch.tensor(inputs, dtype=torch.float64)
    else:
        state[0] = 1.0
    state = state / state.norm()
    vector = torch.einsum("x,pxy,y->p", state.conj(), pauli_basis(n), state).real
    for operation in circuit.operations:
        angles = torch.tensor(circuit.angle_values(operation, weights, inputs), dtype=torch.float64)
        vector = channels.embed(operation.spec.transfer(angles), operation.wires, n) @ vector
        after = None if noise is None else noise.after(operation.gate, operation.wires)
        if after is not None:
            vector = channels.embed(after, operation.wires, n) @ vector
    return vector


def _average_over_circuits(program, parameters, mixture, data_mixtures, inputs, noise=None):
    """The mean Pauli vector of all circuits of a program, each with its probability, and how many there are."""
    sizes = [len(slot.options) for slot in program.slots]
    slots = list(torch.split(mixture, sizes))
    data = list(data_mixtures) or [torch.ones(1)] * len(program.data_slots)
    total, n_circuits = torch.zeros(4**program.n_wires, len(inputs), dtype=torch.float64), 0
    for choices in itertools.product(*(range(len(weights)) for weights in (*slots, *data))):
        probability = math.prod(float(w[c]) for w, c in zip((*slots, *data), choices, strict=True))
        circuit, kept = program.circuit(choices[: len(slots)], choices[len(slots) :])
        weights = [float(parameters[position]) for position in kept]
        vectors = [_noisy_pauli_vector(circuit, weights, sample.tolist(), noise) for sample in inputs]
        total += probability * torch.stack(vectors, dim=1)
        n_circuits += 1
    return total, n_circuits


def _random_weights(program, seed=0, dtype=torch.float64):
    """Angles, and probabilities of all candidates, gates and encodings, at random."""
    generator = torch.Generator().manual_seed(seed)

    def probabilities(size):
        weights = torch.rand(size, dtype=torch.float64, generator=generator) + 0.2
        return (weights / weights.sum()).to(dtype)

    # The same numbers, rounded, in every precision.
    parameters = (6 * torch.rand(program.n_parameters, dtype=torch.float64, generator=generator) - 3).to(dtype)
    mixture = torch.cat([probabilities(len(slot.options)) for slot in program.slots])
    return parameters, mixture, [probabilities(len(slot.options)) for slot in program.data_slots]


def _one_hot(program, seed=0):
    """Random choices and the weights that stand for them."""
    chance = random.Random(seed)
    choices = [chance.randrange(len(slot.options)) for slot in program.slots]
    data_choices = [chance.randrange(len(slot.options)) for slot in program.data_slots]

    def weights(slots, chosen):
        return [torch.eye(len(slot.options))[place] for slot, place in zip(slots, chosen, strict=True)]

    mixture = torch.cat(weights(program.slots, choices))
    return choices, data_choices, mixture, weights(program.data_slots, data_choices)


@pytest.fixture(scope="session")
def random_circuit():
    return _random_circuit


@pytest.fixture(scope="session")
def noisy_pauli_vector():
    return _noisy_pauli_vector


@pytest.fixture(scope="session")
def average_over_circuits():
    return _average_over_circuits


@pytest.fixture(scope="session")
def random_weights():
    return _random_weights


@pytest.fixture(scope="session")
def one_hot():
    return _one_hot
