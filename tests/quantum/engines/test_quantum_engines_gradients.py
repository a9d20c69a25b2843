"""Gradients through the engines: by differences, by shifted angles, and with little memory."""

import functools

import pytest
import torch
from torch.autograd import gradcheck

from darts_hpo.testing import saved_tensor_bytes
from quantum.circuit import Circuit, Operation, Weight
from quantum.encoders import encoder
from quantum.engines import ChannelEngine, StatevectorEngine
from quantum.gates import POOL
from quantum.measurements import expectations, on_every_wire
from quantum.noise import UniformNoise
from quantum.parameter_shift import parameter_shift
from quantum.program import CompiledCircuit, DataSlot, Program, Slot

ENGINES = {
    "statevector": StatevectorEngine,
    "statevector, small windows": functools.partial(StatevectorEngine, window=2),
    "channel": ChannelEngine,
    "channel in noise": functools.partial(ChannelEngine, noise=UniformNoise(0.02, 0.1, 0.03)),
}
OBSERVABLES = (*on_every_wire("Z", 3), *on_every_wire("X", 3), *on_every_wire("Y", 3))

OPEN = Program(
    3,
    (
        DataSlot((encoder("angle_ryz", 3, 4), encoder("amplitude", 3, 4))),
        Slot((0,), ("I", "RX", "H")),
        Slot((2, 0), ("I", "CNOT", "CRY")),
        DataSlot((None, encoder("angle_rx", 3, 4))),
        Slot((1,), ("U3", "T")),
        Slot((1, 2), ("RZX", "SWAP")),
        Slot((2,), ("RY",)),
    ),
)
CLOSED = Program(
    3,
    (
        DataSlot((encoder("angle_ryz", 3, 4),)),
        Slot((0,), ("RX",)),
        Slot((2, 0), ("CU3",)),
        Slot((1,), ("Rot",)),
        Slot((0, 1), ("iSWAP",)),
        DataSlot((encoder("angle_rx", 3, 4),)),
        Slot((1, 2), ("RZX",)),
        Slot((2, 1), ("CRX",)),
        Slot((2,), ("RY",)),
    ),
)


def samples():
    return torch.rand(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.3


@pytest.mark.parametrize("memory", ["store", "recompute"])
@pytest.mark.parametrize("name", ENGINES)
def test_gradients_of_mixtures_pass_gradcheck(name, memory, random_weights):
    """By angles, mixture weights, weights of encodings and the samples themselves."""
    engine = ENGINES[name](memory=memory)
    parameters, mixture, data = random_weights(OPEN)
    leaves = [tensor.requires_grad_() for tensor in (parameters, mixture, *data, samples())]

    def outputs(parameters, mixture, first, second, inputs):
        return expectations(engine.run(OPEN, parameters, mixture, (first, second), inputs), OBSERVABLES, 3)

    assert gradcheck(outputs, leaves, fast_mode=True)


@pytest.mark.parametrize("memory", ["store", "recompute"])
@pytest.mark.parametrize("name", ENGINES)
def test_gradients_of_circuits_pass_gradcheck(name, memory, random_weights):
    engine = ENGINES[name](memory=memory)
    leaves = [random_weights(CLOSED)[0].requires_grad_(), samples().requires_grad_()]

    def outputs(parameters, inputs):
        return expectations(engine.run(CLOSED, parameters, inputs=inputs), OBSERVABLES, 3)

    assert gradcheck(outputs, leaves)


def test_second_derivatives_pass_where_states_are_stored(random_weights):
    engine = StatevectorEngine()

    def gradient(parameters):
        values = expectations(engine.run(CLOSED, parameters, inputs=samples()), OBSERVABLES, 3)
        return torch.autograd.grad(values.sum(), parameters, create_graph=True)[0]

    assert gradcheck(gradient, [random_weights(CLOSED)[0].requires_grad_()], fast_mode=True)


def test_second_derivatives_through_adjoint_differentiation_are_refused(random_weights):
    parameters = random_weights(CLOSED)[0].requires_grad_()
    state = StatevectorEngine(memory="recompute").run(CLOSED, parameters, inputs=samples())
    values = expectations(state, OBSERVABLES, 3)
    (gradient,) = torch.autograd.grad(values.sum(), parameters, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# -- Shifted angles --------------------------------------------------------------------------------------------------


def every_rotation():
    """All gates with angles on three wires, a weight twice, none of them where it would have no effect."""
    operations, count = [Operation("H", (wire,)) for wire in range(3)], 0
    for place, gate in enumerate(gate for gate in POOL if gate.n_parameters):
        wires = (place % 3,) if gate.n_wires == 1 else (place % 3, (place + 1 + place % 2) % 3)
        angles = tuple(Weight(count + i) for i in range(gate.n_parameters))
        operations += [Operation(gate.name, wires, angles), Operation("SX", (wires[0],))]
        count += gate.n_parameters
    operations.append(Operation("RY", (1,), (Weight(0),)))
    return Circuit(3, tuple(operations))


@pytest.mark.parametrize("memory", ["store", "recompute"])
@pytest.mark.parametrize("name", ENGINES)
def test_shifted_angles_give_the_gradient(name, memory):
    engine = ENGINES[name](memory=memory)
    circuit = every_rotation()

    def values(circuit, weights):
        plain = CompiledCircuit.of(circuit)
        state = engine.run(plain.program, weights[list(plain.sources)])
        return expectations(state, OBSERVABLES, 3)[0]

    weights = 6 * torch.rand(circuit.n_weights, dtype=torch.float64) - 3
    shifted = parameter_shift(circuit, weights, values)
    automatic = torch.autograd.functional.jacobian(functools.partial(values, circuit), weights)
    torch.testing.assert_close(shifted, automatic, atol=1e-11, rtol=0)
    assert bool((shifted.abs().amax(0) > 1e-6).all())


# -- Memory ----------------------------------------------------------------------------------------------------------


def layered(n_layers, mixed):
    rotations, entanglers = (("I", "RX"), ("I", "CRY")) if mixed else (("RX",), ("CRY",))
    elements = []
    for _ in range(n_layers):
        elements += [Slot((wire,), rotations) for wire in range(4)]
        elements += [Slot((wire, wire + 1), entanglers) for wire in range(3)]
    return Program(4, (DataSlot((encoder("angle", 4, 4),)), *elements))


def bytes_per_sample(engine, n_layers, mixed, random_weights):
    """What is kept for the backward pass and grows with the batch: states, but not the small matrices of gates."""
    program = layered(n_layers, mixed)
    parameters, mixture, _ = random_weights(program, dtype=torch.float32)
    parameters.requires_grad_()

    def kept(batch):
        inputs = torch.rand(batch, 4)
        return saved_tensor_bytes(
            lambda: engine.run(program, parameters, mixture if mixed else None, (), inputs), (parameters, inputs)
        )

    return (kept(96) - kept(32)) / 64


def test_memory_of_a_circuit_is_flat_in_depth(random_weights):
    engine = StatevectorEngine(window=2, memory="recompute")
    sizes = {depth: bytes_per_sample(engine, depth, False, random_weights) for depth in (2, 8, 32)}
    one_state = 2**4 * 8
    assert sizes == dict.fromkeys(sizes, one_state)
    stored = StatevectorEngine(window=2)
    # For comparison: one state per window, three windows per layer.
    assert bytes_per_sample(stored, 32, False, random_weights) >= 3 * 32 * one_state


@pytest.mark.parametrize(
    ("make", "state"),
    [
        (functools.partial(StatevectorEngine, window=2), 2**4 * 8),
        (functools.partial(ChannelEngine, noise=UniformNoise(0.01, 0.02)), 4**4 * 4),
    ],
)
def test_memory_of_a_mixture_grows_with_the_square_root_of_the_depth(make, state, random_weights):
    sizes = {depth: bytes_per_sample(make(memory="recompute"), depth, True, random_weights) for depth in (3, 12, 48)}
    for depth, size in sizes.items():
        n_windows = 3 * depth
        assert size / state <= n_windows**0.5 + 4, depth  # the others are computed again, as many at a time
    assert sizes[48] / sizes[12] == pytest.approx(2, rel=0.25)
    assert bytes_per_sample(make(), 48, True, random_weights) >= 3 * 48 * state


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", ENGINES)
def test_computing_again_changes_neither_values_nor_gradients(name, mixed, random_weights):
    program = layered(5, mixed)
    parameters, mixture, _ = random_weights(program)
    results = []
    for memory in ("store", "recompute"):
        leaves = [
            parameters.clone().requires_grad_(),
            mixture.clone().requires_grad_(mixed),
            samples().requires_grad_(),
        ]
        state = ENGINES[name](memory=memory).run(program, leaves[0], leaves[1] if mixed else None, (), leaves[2])
        loss = expectations(state, on_every_wire("Z", 4), 4).square().sum()
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        results.append([loss, *torch.autograd.grad(loss, wanted)])
    for stored, again in zip(*results, strict=True):
        torch.testing.assert_close(again, stored, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("memory", ["store", "recompute"])
def test_parts_without_gradient_need_none(memory, random_weights):
    """Only the weights of a mixture are trained, or only the data are wanted."""
    parameters, mixture, data = random_weights(OPEN)
    engine = StatevectorEngine(memory=memory)
    for place in range(3):
        leaves = [parameters.clone(), mixture.clone(), samples()]
        leaves[place].requires_grad_()
        state = engine.run(OPEN, leaves[0], leaves[1], data, leaves[2])
        (gradient,) = torch.autograd.grad(expectations(state, OBSERVABLES, 3).sum(), leaves[place])
        assert bool((gradient != 0).any())
