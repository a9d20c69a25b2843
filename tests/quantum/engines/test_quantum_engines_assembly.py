"""Slots to matrices: gates that are no trigonometric series, second derivatives of mixtures, and how little is done."""

import dataclasses

import pytest
import torch
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from darts_hpo.errors import SpaceError
from darts_hpo.supernet import Gate
from quantum.encoders import encoder
from quantum.engines import ChannelEngine, StatevectorEngine
from quantum.gates import gate_named, register, transfer_of
from quantum.gates import registry as registry_module
from quantum.noise import UniformNoise
from quantum.program import DataSlot, Program, Slot
from quantum.supercircuit import Supercircuit

ENGINES = {
    "statevector": StatevectorEngine,
    "channel": ChannelEngine,
    "noisy": lambda: ChannelEngine(UniformNoise(0.02, 0.08, 0.03, 0.05)),
}


@pytest.fixture
def plain_gates(monkeypatch):
    """``plainRX`` and ``plainCU3``: what RX and CU3 are, without saying that they are series."""
    monkeypatch.setattr(registry_module, "_registry", dict(registry_module._registry))
    for name in ("RX", "CU3"):
        gate = gate_named(name)
        register(dataclasses.replace(gate, name=f"plain{name}", transfer=transfer_of(gate.matrix), series=None))


def program(rx, cu3):
    return Program(
        3,
        (
            DataSlot((encoder("angle", 3, 3),)),
            Slot((0,), ("I", rx, "RY")),
            Slot((2,), (rx, "H")),
            Slot((2, 1), (cu3, "CNOT")),
            Slot((0, 1), ("I", "RZZ", cu3)),
        ),
    )


@pytest.mark.parametrize("name", ENGINES)
def test_gates_that_are_no_series_compute_the_same(name, plain_gates, random_weights):
    engine, ours, plain = ENGINES[name](), program("RX", "CU3"), program("plainRX", "plainCU3")
    parameters, mixture, _ = random_weights(ours)
    inputs = torch.rand(4, 3, dtype=torch.float64)
    found = []
    for each in (ours, plain):
        leaves = [tensor.clone().requires_grad_() for tensor in (parameters, mixture)]
        if each is plain and name == "noisy":  # whose noise knows the gates by their names
            known = engine.noise.after
            engine.noise.after = lambda gate, wires, known=known: known(gate.removeprefix("plain"), wires)
        state = engine.run(each, *leaves, inputs=inputs)
        found.append((state.detach(), *torch.autograd.grad(state.abs().square()[1:].sum(), leaves)))
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, atol=1e-12, rtol=0)


def test_a_gate_of_any_function_is_run(monkeypatch):
    monkeypatch.setattr(registry_module, "_registry", dict(registry_module._registry))
    rotation = gate_named("RX")

    def squared(angles):
        return rotation.matrix(angles**2)

    register(dataclasses.replace(rotation, name="RX2", matrix=squared, transfer=transfer_of(squared), series=None))
    angle = torch.tensor([1.3], requires_grad=True)
    state = StatevectorEngine().run(Program(1, (Slot((0,), ("RX2",)),)), angle)
    zero = state[0].abs().square().sum()
    (gradient,) = torch.autograd.grad(zero, angle)
    assert float(zero.detach()) == pytest.approx(torch.tensor(1.3**2 / 2).cos().square().item(), abs=1e-6)
    assert float(gradient) == pytest.approx(-torch.tensor(1.3**2).sin().item() * 1.3, abs=1e-6)


@pytest.mark.parametrize("gates", [("RX", "CU3"), ("plainRX", "plainCU3")], ids=["series", "plain"])
@pytest.mark.parametrize("name", ["statevector", "channel"])
def test_second_derivatives_of_mixtures_pass(name, gates, plain_gates, random_weights):
    engine, mixed = ENGINES[name](), program(*gates)
    parameters, mixture, _ = random_weights(mixed)
    inputs = torch.rand(2, 3, dtype=torch.float64)
    # A mixture of unitary matrices is scaled on the way, which second derivatives must not notice either.
    target = torch.rand(engine.run(mixed, parameters, mixture, inputs=inputs).shape, dtype=torch.float64)

    def gradients(parameters, mixture, create_graph=True):
        state = engine.run(mixed, parameters, mixture, inputs=inputs)
        loss = (state.abs().square() * target).sum()
        return torch.autograd.grad(loss, (parameters, mixture), create_graph=create_graph)

    leaves = [parameters.requires_grad_(), mixture.requires_grad_()]
    for with_graph, without in zip(gradients(*leaves), gradients(*leaves, create_graph=False), strict=True):
        torch.testing.assert_close(with_graph, without)
    assert gradcheck(gradients, leaves, fast_mode=True)


@pytest.mark.parametrize("memory", ["store", "recompute"])
@pytest.mark.parametrize("name", ["statevector", "channel"])
def test_gradients_asked_for_under_autocast_are_those_without(name, memory, random_weights):
    """Manual optimization asks for them within the step, where autocast is on."""
    engine, mixed = (
        {"statevector": StatevectorEngine, "channel": ChannelEngine}[name](memory=memory),
        program("RX", "CU3"),
    )
    leaves = [tensor.float().requires_grad_() for tensor in random_weights(mixed)[:2]]
    inputs = torch.rand(2, 3)

    def gradients():
        state = engine.run(mixed, *leaves, inputs=inputs)
        return torch.autograd.grad(state.abs().square()[1:].sum(), leaves)

    expected = gradients()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients()
    for first, second in zip(found, expected, strict=True):
        torch.testing.assert_close(first, second)


def test_a_series_that_is_not_the_matrix_is_refused(monkeypatch):
    monkeypatch.setattr(registry_module, "_registry", dict(registry_module._registry))
    rotation = gate_named("RX")

    def squared(angles):
        return rotation.matrix(angles**2)

    changed = dataclasses.replace(rotation, name="RX2", matrix=squared, transfer=transfer_of(squared))
    with pytest.raises(SpaceError, match=r"series of the gate 'RX2' differs from its matrix.*series=None"):
        register(changed)
    with pytest.raises(SpaceError, match="another number of wires"):
        register(dataclasses.replace(rotation, name="RX3", series=gate_named("RXX").series))


class Counting(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("n_wires", [4, 8])
def test_a_step_is_few_operations(n_wires):
    """Small circuits cost what their operations cost to start; gate by gate it would be thousands."""
    network = Supercircuit(n_inputs=n_wires, n_wires=n_wires, n_layers=4, mixing="lcu", topology="chain")
    weights = torch.full((len(network.space), 5), 0.2, requires_grad=True)
    gates = {name: Gate(row, (0, 1, 2, 3, 4)) for name, row in zip(network.space, weights.unbind(), strict=True)}
    x = torch.rand(8, n_wires)
    network(x, gates).sum().backward()  # tables are made once
    with Counting() as counting:
        network(x, gates).sum().backward()
    assert counting.count < 120 + 45 * n_wires  # 275 and 463 when this was written
