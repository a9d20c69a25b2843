"""Parameter-shift rules: coefficients, and gradients equal to those of backpropagation."""

import math

import pytest
import torch

from darts_hpo.errors import SpaceError
from quantum.circuit import Circuit, Input, Operation, Weight
from quantum.gates import POOL, QuantumGate, gate_named, pauli_basis, register, transfer_of
from quantum.gates import registry as registry_module
from quantum.parameter_shift import gate_frequencies, n_evaluations, parameter_shift, shift_rule

PARAMETERISED = [gate.name for gate in POOL if gate.n_parameters]


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(registry_module, "_registry", dict(registry_module._registry))


def angle_value(angle, weights, inputs):
    if isinstance(angle, Weight):
        return weights[angle.index].double()
    value = inputs[angle.index] * angle.scale if isinstance(angle, Input) else angle
    return torch.tensor(value, dtype=torch.float64)


def state(circuit, weights, inputs=()):
    """The final state, gate after gate; differentiable by the weights."""
    n = circuit.n_wires
    psi = torch.eye(2**n, dtype=torch.complex128)[0].reshape([2] * n)
    for operation in circuit.operations:
        angles = [angle_value(angle, weights, inputs) for angle in operation.angles]
        k = len(operation.wires)
        matrix = operation.spec.matrix(torch.stack(angles) if angles else torch.zeros(0, dtype=torch.float64))
        psi = torch.tensordot(matrix.reshape([2] * (2 * k)), psi, dims=(list(range(k, 2 * k)), list(operation.wires)))
        psi = psi.movedim(list(range(k)), list(operation.wires))
    return psi.reshape(-1)


def expectations(circuit, weights, inputs=()):
    """<P> for all 16 Pauli products on two wires."""
    psi = state(circuit, weights, inputs)
    return torch.einsum("a,pab,b->p", psi.conj(), pauli_basis(2), psi).real


def around(*operations):
    """The operations with fixed rotations before and after, so that nothing about the state is special."""
    before = [
        Operation("U3", (0,), (0.3, 1.1, -0.4)),
        Operation("U3", (1,), (1.3, 0.2, 0.9)),
        Operation("CNOT", (0, 1)),
    ]
    after = [Operation("CRY", (1, 0), (0.8,)), Operation("Rot", (0,), (0.5, -1.2, 0.1)), Operation("RX", (1,), (0.6,))]
    return Circuit(2, (*before, *operations, *after))


def by_backpropagation(circuit, weights, inputs=()):
    return torch.autograd.functional.jacobian(lambda w: expectations(circuit, w, inputs), weights)


def test_two_terms():
    rule = shift_rule((1.0,))
    assert rule.shifts == pytest.approx((math.pi / 2,))
    assert rule.coefficients == pytest.approx((0.5,))
    assert rule.n_terms == 2


def test_four_terms():
    rule = shift_rule((0.5, 1.0))
    root = math.sqrt(2)
    assert rule.shifts == pytest.approx((math.pi / 2, 3 * math.pi / 2))
    assert rule.coefficients == pytest.approx(((root + 1) / (4 * root), -(root - 1) / (4 * root)))
    assert rule.n_terms == 4


@pytest.mark.parametrize("frequencies", [(2.0,), (1.0, 3.0), (1.0, 2.0, 3.0), (0.3, 1.0, 1.7, 2.5)])
def test_any_frequencies(frequencies):
    rule = shift_rule(frequencies)

    def function(t):
        return 0.4 + sum(0.7 * math.cos(w * t) - (1 + w) * math.sin(w * t) for w in frequencies)

    derivative = sum(-0.7 * w * math.sin(w * 0.9) - w * (1 + w) * math.cos(w * 0.9) for w in frequencies)
    terms = zip(rule.shifts, rule.coefficients, strict=True)
    assert sum(c * (function(0.9 + s) - function(0.9 - s)) for s, c in terms) == pytest.approx(derivative, abs=1e-10)


@pytest.mark.parametrize("frequencies", [(0.0,), (-1.0,), (1.0, 1.0)])
def test_impossible_frequencies(frequencies):
    with pytest.raises(SpaceError, match="frequencies above 0 that differ"):
        shift_rule(frequencies)


def test_frequencies_of_the_pool():
    for name in PARAMETERISED:
        expected = [(1.0,)] * gate_named(name).n_parameters
        if name in ("CRX", "CRY", "CRZ", "CU3"):
            expected[0] = (0.5, 1.0)  # the angles phi and lambda of CU3 are controlled phases: one frequency
        assert gate_frequencies(gate_named(name)) == tuple(expected), name


@pytest.mark.parametrize("name", PARAMETERISED)
def test_equals_backpropagation_for_every_gate(name):
    gate = gate_named(name)
    wires = (0,) if gate.n_wires == 1 else (1, 0)
    circuit = around(Operation(name, wires, tuple(Weight(i) for i in range(gate.n_parameters))))
    weights = torch.tensor([0.7, -1.9, 2.8], dtype=torch.float64)[: gate.n_parameters]
    exact = by_backpropagation(circuit, weights)
    assert float(exact.abs().amax(dim=0).min()) > 0.05  # every angle matters
    torch.testing.assert_close(parameter_shift(circuit, weights, expectations), exact, atol=1e-12, rtol=0)


def test_two_terms_are_wrong_for_controlled_rotations():
    circuit = around(Operation("CRX", (0, 1), (Weight(0),)))
    weights, quarter = torch.tensor([0.7], dtype=torch.float64), math.pi / 2
    two_terms = (expectations(circuit, weights + quarter) - expectations(circuit, weights - quarter)) / 2
    assert float((two_terms - by_backpropagation(circuit, weights)[:, 0]).abs().max()) > 0.02


def test_shared_weights_inputs_and_constants():
    circuit = around(
        Operation("RX", (0,), (Weight(1),)),
        Operation("CU3", (0, 1), (Weight(0), Input(0, 2.0), Weight(1))),
        Operation("U3", (1,), (0.4, Weight(1), Weight(0))),
    )
    weights, inputs = torch.tensor([0.7, -1.1], dtype=torch.float64), [0.35]
    shifted = parameter_shift(circuit, weights, lambda c, w: expectations(c, w, inputs))
    torch.testing.assert_close(shifted, by_backpropagation(circuit, weights, inputs), atol=1e-12, rtol=0)
    assert n_evaluations(circuit) == 2 + (4 + 2) + (2 + 2)


def test_the_number_of_evaluations_and_any_shape():
    circuit = around(Operation("CRX", (0, 1), (Weight(0),)), Operation("P", (0,), (Weight(1),)))
    calls = []

    def grid(asked, weights):
        calls.append(weights)
        return expectations(asked, weights).reshape(4, 2, 2)

    gradient = parameter_shift(circuit, [0.1, 0.2], grid)
    assert gradient.shape == (4, 2, 2, 2)
    assert len(calls) == n_evaluations(circuit) == 6
    assert parameter_shift(circuit, [0.1, 0.2], lambda c, w: grid(c, w)[0, 0, 1]).shape == (2,)


def test_sampled_values_give_an_unbiased_gradient():
    circuit = around(Operation("CRX", (0, 1), (Weight(0),)))
    weights, shots = torch.tensor([0.7], dtype=torch.float64), 40_000
    generator = torch.Generator().manual_seed(1)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)

    def sampled(asked, values):
        probabilities = state(asked, values).abs().square()
        draws = torch.multinomial(probabilities, shots, replacement=True, generator=generator)
        return signs[draws].mean()

    exact = by_backpropagation(circuit, weights)[3, 0]  # <IZ>
    error = abs(float(parameter_shift(circuit, weights, sampled)[0] - exact))
    assert error < 5 * math.sqrt(2 * (0.427**2 + 0.074**2) / shots)


def levels(angles):
    phases = angles * torch.tensor([0.0, 1.0, 3.0, 7.0], dtype=angles.dtype)
    return torch.diag_embed(torch.polar(torch.ones_like(phases), phases))


def squared(angles):
    return gate_named("RX").matrix(angles**2)


@pytest.mark.usefixtures("own_registry")
def test_a_gate_of_ones_own():
    register(QuantumGate("Levels", 2, 1, levels, transfer_of(levels), "levels", 2, 4))
    circuit = around(Operation("Levels", (0, 1), (Weight(0),)))
    assert gate_frequencies(gate_named("Levels")) == ((1.0, 2.0, 3.0, 4.0, 6.0, 7.0),)
    weights = torch.tensor([0.7], dtype=torch.float64)
    shifted = parameter_shift(circuit, weights, expectations)
    torch.testing.assert_close(shifted, by_backpropagation(circuit, weights), atol=1e-10, rtol=0)


@pytest.mark.usefixtures("own_registry")
def test_an_angle_without_a_rule_is_refused():
    register(QuantumGate("Squared", 1, 1, squared, transfer_of(squared), "squared", 0, 2))
    with pytest.raises(SpaceError, match="Parameter 0 of the gate 'Squared' has no parameter-shift rule"):
        parameter_shift(around(Operation("Squared", (0,), (Weight(0),))), [0.3], expectations)


@pytest.mark.usefixtures("own_registry")
def test_an_angle_without_effect_has_derivative_zero():
    def phase(angles):
        return torch.polar(torch.ones_like(angles), angles)[..., None] * gate_named("I").matrix(angles[..., :0])

    register(QuantumGate("GlobalPhase", 1, 1, phase, transfer_of(phase), "gphase", 0, 0))
    circuit = around(Operation("GlobalPhase", (0,), (Weight(0),)))
    assert torch.equal(parameter_shift(circuit, [0.3], expectations), torch.zeros(16, 1, dtype=torch.float64))


@pytest.mark.parametrize("weights", [[], [0.1, 0.2]])
def test_a_wrong_number_of_weights_is_refused(weights):
    with pytest.raises(SpaceError, match=r"has 1 weights, but \[\d\] were given"):
        parameter_shift(around(Operation("RX", (0,), (Weight(0),))), weights, expectations)
