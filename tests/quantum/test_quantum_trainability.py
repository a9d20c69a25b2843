"""The spread of gradients against closed forms and Haar averages."""

from __future__ import annotations

import math

import pytest
import torch

from darts_hpo.errors import GenotypeError
from quantum.circuit import Circuit, Input, Operation, Weight
from quantum.trainability import expectation_loss, gradient_variance, two_design_variance


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def rotations(n_wires, gate="RY"):
    return Circuit(n_wires, tuple(Operation(gate, (wire,), (Weight(wire),)) for wire in range(n_wires)))


def layered(n_wires, n_layers):
    """Layers of Rot on every wire and a chain of CZ: as good as a 2-design when deep."""
    operations, count = [], 0
    for _ in range(n_layers):
        for wire in range(n_wires):
            operations.append(Operation("Rot", (wire,), tuple(Weight(count + i) for i in range(3))))
            count += 3
        operations += [Operation("CZ", (wire, wire + 1)) for wire in range(n_wires - 1)]
    return Circuit(n_wires, tuple(operations))


def test_one_rotation_has_variance_one_half(generator):
    """<Z> = cos t, so the gradient is -sin t."""
    circuit = rotations(1)
    found = gradient_variance(
        expectation_loss(circuit, {"Z": 1.0}), 1, n_samples=1500, points_at_once=100, generator=generator
    )
    assert found.mean == pytest.approx(0.5, abs=0.03)


def test_rz_before_a_z_measurement_has_no_gradient(generator):
    circuit = rotations(1, "RZ")
    found = gradient_variance(expectation_loss(circuit, {"Z": 1.0}), 1, n_samples=10, generator=generator)
    assert found.mean == pytest.approx(0.0, abs=1e-30)


@pytest.mark.parametrize("n_wires", [2, 3])
def test_product_circuit_under_a_global_observable(generator, n_wires):
    """<Z...Z> is a product of cosines: E[sin^2] E[cos^2]^(n-1) = 2^-n for every angle."""
    loss = expectation_loss(rotations(n_wires), {"Z" * n_wires: 1.0})
    found = gradient_variance(loss, n_wires, n_samples=1000, points_at_once=500, generator=generator)
    torch.testing.assert_close(
        found.per_weight, torch.full((n_wires,), 2.0**-n_wires, dtype=torch.float64), rtol=0.15, atol=0
    )


def test_product_circuit_under_a_local_observable(generator):
    """Only the measured wire's angle matters, and its variance does not shrink with the wires."""
    loss = expectation_loss(rotations(3), {"IZI": 2.0})
    found = gradient_variance(loss, 3, n_samples=800, points_at_once=100, generator=generator)
    assert found.per_weight[1] == pytest.approx(4 * 0.5, rel=0.1)
    assert found.per_weight[[0, 2]].tolist() == pytest.approx([0.0, 0.0], abs=1e-25)


def test_any_callable_is_a_loss(generator):
    scale = torch.tensor([1.0, 3.0])

    def loss(weights):
        assert weights.dtype == torch.float32
        return (scale * weights.sin()).sum()

    found = gradient_variance(loss, 2, n_samples=2000, generator=generator, dtype=torch.float32)
    assert found.per_weight.tolist() == pytest.approx([0.5, 4.5], rel=0.08)


def test_same_generator_same_numbers():
    loss = expectation_loss(rotations(2), {"ZZ": 1.0})
    first, second = (
        gradient_variance(loss, 2, n_samples=5, generator=torch.Generator().manual_seed(7)).per_weight for _ in range(2)
    )
    assert torch.equal(first, second)


def test_points_at_once_do_not_change_the_result():
    loss = expectation_loss(layered(2, 2), {"ZX": 1.0, "IZ": 0.5})
    single, chunks = (
        gradient_variance(
            loss, 12, n_samples=7, points_at_once=points, generator=torch.Generator().manual_seed(3)
        ).per_weight
        for points in (None, 3)
    )
    torch.testing.assert_close(single, chunks)


def haar(count, size, generator):
    real, imaginary = torch.randn(2, count, size, size, dtype=torch.float64, generator=generator)
    q, r = torch.linalg.qr(torch.complex(real, imaginary))
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    return q * (diagonal / diagonal.abs()).unsqueeze(-2)


@pytest.mark.parametrize("n_wires", [1, 2, 3])
def test_two_design_variance_is_that_of_haar_random_halves(generator, n_wires):
    """The gradient of exp(-i t/2 X) between two Haar-random unitaries, <0| B+ i/2 [X, A+ Z A] B |0>, averaged."""
    size, count = 2**n_wires, 10000
    rest = torch.eye(size // 2, dtype=torch.complex128)
    x = torch.kron(torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128), rest)
    z = torch.kron(torch.tensor([[1, 0], [0, -1]], dtype=torch.complex128), rest)
    after, states = haar(count, size, generator), haar(count, size, generator)[:, :, 0]
    heisenberg = after.mH @ z @ after
    commutator = 0.5j * (x @ heisenberg - heisenberg @ x)
    gradients = torch.einsum("bi,bij,bj->b", states.conj(), commutator, states).real
    expected = two_design_variance(n_wires, {"Z" + "I" * (n_wires - 1): 1.0, "I" * n_wires: 5.0})
    assert float(gradients.var()) == pytest.approx(expected, rel=0.06)


def test_deep_random_circuits_decay_exponentially(generator):
    """McClean et al. 2018, figure 3: the variance falls with the number of qubits as a 2-design's does."""
    measured, expected = [], []
    for n_wires, n_layers in ((2, 6), (3, 8), (4, 10)):
        circuit, observable = layered(n_wires, n_layers), {"ZZ" + "I" * (n_wires - 2): 1.0}
        loss = expectation_loss(circuit, observable)
        found = gradient_variance(loss, circuit.n_weights, n_samples=120, points_at_once=60, generator=generator)
        middle = found.per_weight[circuit.n_weights // 3 : 2 * circuit.n_weights // 3]
        measured.append(float(middle.mean()))
        expected.append(two_design_variance(n_wires, observable))
    assert measured == pytest.approx(expected, rel=0.3)
    slope = (math.log2(measured[0]) - math.log2(measured[-1])) / 2
    assert 0.7 < slope < 1.2


def test_expectation_equals_the_circuits_unitary():
    torch.manual_seed(0)
    circuit = Circuit(
        3,
        (
            Operation("RY", (0,), (Input(0, 2.0),)),
            Operation("CU3", (2, 0), (Weight(0), 0.3, Weight(1))),
            Operation("RXX", (1, 2), (Weight(2),)),
            Operation("H", (1,)),
        ),
    )
    weights, inputs = torch.randn(3, dtype=torch.float64), [0.4]
    state = circuit.unitary(weights.tolist(), inputs)[:, 0]
    y, z, one = (
        torch.tensor(rows, dtype=torch.complex128)
        for rows in ([[0, -1j], [1j, 0]], [[1, 0], [0, -1]], [[1, 0], [0, 1]])
    )
    observable = 0.5 * torch.kron(torch.kron(z, one), y) - 2.0 * torch.kron(torch.kron(one, one), z)
    expected = (state.conj() @ observable @ state).real
    value = expectation_loss(circuit, {"ZIY": 0.5, "IIZ": -2.0}, inputs)(weights)
    torch.testing.assert_close(value, expected)


def test_amplitude_input_is_the_initial_state():
    circuit = Circuit(2, (Operation("X", (1,)),), amplitude_input=True)
    value = expectation_loss(circuit, {"ZI": 1.0, "IZ": 10.0}, [3.0, 0.0, 4.0])(torch.zeros(0))
    assert float(value) == pytest.approx((9 - 16) / 25 - 10.0)
    with pytest.raises(GenotypeError, match="expected 1 to 4 amplitudes"):
        expectation_loss(circuit, {"ZI": 1.0}, [0.0, 0.0])


def test_facts_compare_with_the_reference(generator):
    loss = expectation_loss(rotations(2), {"ZI": 1.0})
    found = gradient_variance(loss, 2, n_samples=50, generator=generator)
    facts = found.facts(two_design_variance(2, {"ZI": 1.0}))
    assert facts["ratio"] == pytest.approx(facts["mean"] / (16 / 150))
    assert facts["n_samples"] == 50
    assert len(facts["per_weight"]) == 2


def test_a_circuit_without_weights_has_no_mean():
    assert math.isnan(gradient_variance(lambda weights: weights.sum(), 0, n_samples=2).mean)


def test_mistakes_are_named():
    with pytest.raises(GenotypeError, match="'ZZZ' does not fit 2 wires"):
        expectation_loss(rotations(2), {"ZZZ": 1.0})
    with pytest.raises(GenotypeError, match="'ZQ' does not fit"):
        expectation_loss(rotations(2), {"ZQ": 1.0})
    with pytest.raises(GenotypeError, match="reads 2 features; the sample has 1"):
        expectation_loss(Circuit(1, (Operation("RX", (0,), (Input(1),)),)), {"Z": 1.0}, [0.1])
    with pytest.raises(ValueError, match="at least 2"):
        gradient_variance(lambda weights: weights.sum(), 1, n_samples=1)
    with pytest.raises(ValueError, match="at least 1"):
        gradient_variance(lambda weights: weights.sum(), 1, points_at_once=0)
