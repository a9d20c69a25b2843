"""The pool of gates: conventions, forms, costs and the registry."""

import math

import pytest
import torch

from darts_hpo.errors import ConfigError, SpaceError
from quantum.circuit import Circuit, Operation
from quantum.gates import (
    POOL,
    QuantumGate,
    TrigonometricSeries,
    gate_named,
    gate_names,
    pauli_basis,
    register,
    transfer_of,
)
from quantum.gates import registry as registry_module

NAMES = [gate.name for gate in POOL]
PARAMETERISED = [gate.name for gate in POOL if gate.n_parameters]


def angles_for(gate, *shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 8 * torch.rand(*shape, gate.n_parameters, dtype=dtype, generator=generator) - 4


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(registry_module, "_registry", dict(registry_module._registry))


@pytest.fixture(scope="module")
def torchquantum():
    import torchquantum

    return torchquantum


@pytest.fixture(scope="module")
def library():
    """Qiskit's gates by our names."""
    from qiskit.circuit import library

    names = {"Rot": None, "P": "PhaseGate", "CNOT": "CXGate", "iSWAP": "iSwapGate", "SWAP": "SwapGate"}
    return {name: getattr(library, names.get(name) or f"{name}Gate") for name in NAMES if name != "Rot"}


# -- Conventions -----------------------------------------------------------------------------------------------------


def test_the_pool_is_complete():
    assert " ".join(NAMES) == ("I X Y Z H S T SX RX RY RZ P U3 Rot CNOT CZ CRX CRY CRZ CU3 SWAP iSWAP RXX RYY RZZ RZX")
    assert gate_names()[: len(NAMES)] == tuple(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_matrices_are_those_of_torchquantum(name, torchquantum):
    gate = gate_named(name)
    angles = angles_for(gate, dtype=torch.float32)
    device = torchquantum.QuantumDevice(gate.n_wires)
    device.reset_identity_states()
    apply = torchquantum.functional.func_name_dict[name.lower()]
    apply(device, list(range(gate.n_wires)), params=angles[None] if gate.n_parameters else None)
    # Every sample of the batch started in one basis state: it is now a column.
    torch.testing.assert_close(gate.matrix(angles), device.get_states_1d().mT, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "Rot"])
def test_matrices_are_those_of_qiskit(name, library):
    gate = gate_named(name)
    angles = angles_for(gate)
    theirs = torch.tensor(library[name](*angles.tolist()).to_matrix())
    if gate.n_wires == 2:
        # Qiskit's first wire is the least significant bit.
        theirs = theirs.reshape(2, 2, 2, 2).permute(1, 0, 3, 2).reshape(4, 4)
    torch.testing.assert_close(gate.matrix(angles), theirs.to(torch.complex128), atol=1e-12, rtol=0)


def test_rot_is_three_rotations():
    p, t, w = angles = angles_for(gate_named("Rot"))
    rz, ry = gate_named("RZ").matrix, gate_named("RY").matrix
    expected = rz(w.reshape(1)) @ ry(t.reshape(1)) @ rz(p.reshape(1))
    torch.testing.assert_close(gate_named("Rot").matrix(angles), expected, atol=1e-14, rtol=0)


def test_golden_values():
    quarter = torch.tensor([math.pi / 2], dtype=torch.float64)
    root = 1 / math.sqrt(2)
    torch.testing.assert_close(
        gate_named("RX").matrix(quarter), torch.tensor([[root, -1j * root], [-1j * root, root]], dtype=torch.complex128)
    )
    flipped = gate_named("CNOT").matrix(quarter[:0]) @ torch.tensor([0, 0, 1, 0], dtype=torch.complex128)
    assert flipped.tolist() == [0, 0, 0, 1]  # the first wire, the most significant bit, is the control
    # RZ turns X into Y and Y into -X, and leaves I and Z.
    turn = gate_named("RZ").transfer(quarter)
    expected = torch.tensor([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(turn, expected, atol=1e-15, rtol=0)
    # CNOT: XI goes to XX, IZ to ZZ; column = what goes in.
    cnot = gate_named("CNOT").transfer(quarter[:0])
    assert cnot[:, 4].nonzero().item() == 5
    assert cnot[:, 3].nonzero().item() == 15


# -- Forms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_matrices_are_unitary_and_transfer_forms_orthogonal(name):
    gate = gate_named(name)
    angles = angles_for(gate, 6)
    matrix, transfer = gate.matrix(angles), gate.transfer(angles)
    assert float((matrix @ matrix.mH - torch.eye(matrix.shape[-1])).abs().max()) < 1e-14
    assert float((transfer @ transfer.mT - torch.eye(transfer.shape[-1])).abs().max()) < 1e-13


@pytest.mark.parametrize("name", NAMES)
def test_transfer_forms_follow_the_definition(name):
    gate = gate_named(name)
    angles = angles_for(gate, 5)
    paulis = pauli_basis(gate.n_wires)
    matrix = gate.matrix(angles)
    expected = torch.einsum("iab,nbc,jcd,nad->nij", paulis, matrix, paulis, matrix.conj()) / 2**gate.n_wires
    assert float(expected.imag.abs().max()) < 1e-14
    torch.testing.assert_close(gate.transfer(angles), expected.real, atol=1e-12, rtol=0)
    torch.testing.assert_close(transfer_of(gate.matrix)(angles), expected.real, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_follows_double(name):
    gate = gate_named(name)
    angles = angles_for(gate, 5)
    single = angles.float()
    assert gate.matrix(single).dtype == torch.complex64
    assert gate.transfer(single).dtype == torch.float32
    assert float((gate.matrix(single) - gate.matrix(angles)).abs().max()) < 1e-6
    assert float((gate.transfer(single) - gate.transfer(angles)).abs().max()) < 2e-6


@pytest.mark.parametrize("name", PARAMETERISED)
def test_gradients_are_right_twice_over(name):
    gate = gate_named(name)
    angles = angles_for(gate, 2 // gate.n_wires).requires_grad_()
    for form in (gate.matrix, gate.transfer, transfer_of(gate.matrix)):
        assert torch.autograd.gradcheck(form, (angles,))
    if gate.n_wires == 1:
        assert torch.autograd.gradgradcheck(gate.transfer, (angles,))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 2)])
def test_any_leading_shape(name, shape):
    gate = gate_named(name)
    size = 2**gate.n_wires
    angles = angles_for(gate, *shape)
    assert gate.matrix(angles).shape == (*shape, size, size)
    assert gate.transfer(angles).shape == (*shape, size**2, size**2)
    on_meta = angles.to("meta")
    assert gate.matrix(on_meta).device.type == "meta"
    assert gate.transfer(on_meta).shape == (*shape, size**2, size**2)


@pytest.mark.parametrize("name", ["H", "RX", "CNOT"])
def test_writing_to_a_result_does_no_harm(name):
    gate = gate_named(name)
    angles = angles_for(gate)
    for form in (gate.matrix, gate.transfer):
        before = form(angles).clone()
        form(angles).zero_()
        assert torch.equal(form(angles), before)
    basis = pauli_basis(1)
    basis.zero_()
    assert bool(pauli_basis(1).any())


def test_gates_first_used_in_inference_mode_can_be_trained_later():
    series = TrigonometricSeries.rotation(pauli_basis(1)[1])
    with torch.inference_mode():
        series.matrix(torch.zeros(1))
        series.transfer(torch.zeros(1))
    angle = torch.ones(1, requires_grad=True)
    (series.matrix(angle).abs().sum() + series.transfer(angle).sum()).backward()
    assert angle.grad is not None


def test_angles_of_a_series_may_be_the_same():
    rx, rz = gate_named("RX"), gate_named("RZ")
    series = (rz.series.of(0, among=2) @ rx.series.of(1, among=2)).of(0, 0, among=1)
    angle = torch.tensor([0.7], dtype=torch.float64)
    torch.testing.assert_close(series.matrix(angle), rz.matrix(angle) @ rx.matrix(angle))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TrigonometricSeries.rotation(2 * pauli_basis(1)[1]), "square that is not 1"),
        (lambda: gate_named("RX").series.of(1, among=1), r"positions \[1\] among 1; expected 1 of 0 to 0"),
        (lambda: gate_named("RX").series.of(0, 1, among=2), "series of 1 angles"),
        (lambda: gate_named("RX").series @ gate_named("H").series, r"of\(POSITION, among=NUMBER\)"),
        (lambda: gate_named("RX").series @ gate_named("RXX").series, "2 rows and 1 angles .* one of 4 and 1"),
    ],
)
def test_series_that_cannot_be_are_refused(make, said):
    with pytest.raises(SpaceError, match=said):
        make()


def test_half_precision_is_refused():
    with pytest.raises(ConfigError, match=r"bfloat16.*float32 or torch\.float64.*precision=32-true"):
        gate_named("RX").matrix(torch.zeros(1, dtype=torch.bfloat16))


# -- Costs -----------------------------------------------------------------------------------------------------------


def native(name, *angles):
    """A circuit of a gate on the wires 0 and 1 from CNOT and one-wire gates, as (gate, wires, angles)."""
    quarter = math.pi / 2
    back = [("Z", 1), ("SX", 1), ("Z", 1)]  # undoes SX
    cx = ("CNOT", (0, 1))
    if name == "CU3":
        theta, phi, lam = angles
        total = (phi + lam) / 2
        before = [("P", 0, total), ("RZ", 1, (lam - phi) / 2), cx, ("RZ", 1, -total), ("SX", 1), ("RZ", 1, -theta / 2)]
        return [*before, cx, ("RZ", 1, theta / 2), *back, ("RZ", 1, phi)]
    t = angles[0] if angles else 0.0
    crz = [("RZ", 1, t / 2), cx, ("RZ", 1, -t / 2), cx]
    rxx = [cx, ("RX", 0, t), cx]
    return {
        "CNOT": [cx],
        "CZ": [("H", 1), cx, ("H", 1)],
        "CRX": [("H", 1), *crz, ("H", 1)],
        "CRY": [cx, ("SX", 1), ("RZ", 1, -t / 2), cx, ("RZ", 1, t / 2), *back],
        "CRZ": crz,
        "SWAP": [cx, ("CNOT", (1, 0)), cx],
        "iSWAP": [("S", 0), ("S", 1), ("H", 0), cx, ("CNOT", (1, 0)), ("H", 1)],
        "RXX": rxx,
        "RYY": [("RZ", 0, -quarter), ("RZ", 1, -quarter), *rxx, ("S", 0), ("S", 1)],
        "RZZ": [cx, ("RZ", 1, t), cx],
        "RZX": [("H", 1), cx, ("RZ", 1, t), cx, ("H", 1)],
    }[name]


@pytest.mark.parametrize("name", [gate.name for gate in POOL if gate.n_wires == 2])
def test_native_costs_of_two_wire_gates_are_reached(name):
    gate = gate_named(name)
    angles = angles_for(gate)
    operations = [
        Operation(part, wires if isinstance(wires, tuple) else (wires,), tuple(values))
        for part, wires, *values in native(name, *angles.tolist())
    ]
    overlap = torch.trace(Circuit(2, tuple(operations)).unitary().mH @ gate.matrix(angles)).abs() / 4
    assert float(overlap) == pytest.approx(1.0, abs=1e-14)
    assert sum(operation.spec.native_two_qubit for operation in operations) == gate.native_two_qubit
    assert sum(op.spec.native_pulses for op in operations if op.gate != "CNOT") == gate.native_pulses


def test_native_costs_of_one_wire_gates_are_what_qiskit_transpiles_to(library):
    from qiskit import QuantumCircuit, transpile

    gates = [gate_named(name) for name in library if gate_named(name).n_wires == 1]
    circuits = [QuantumCircuit(1) for _ in gates]
    for gate, circuit in zip(gates, circuits, strict=True):
        circuit.append(library[gate.name](*angles_for(gate).tolist()), [0])
    natives = transpile(circuits, basis_gates=["cx", "sx", "x", "rz"], optimization_level=1, num_processes=1)
    for gate, circuit in zip(gates, natives, strict=True):
        counts = circuit.count_ops()
        assert counts.get("sx", 0) + counts.get("x", 0) == gate.native_pulses, gate.name
        assert gate.native_two_qubit == 0


@pytest.mark.parametrize("name", NAMES)
def test_qasm_names_are_unique_lower_case(name):
    assert gate_named(name).qasm.islower()
    assert sum(gate.qasm == gate_named(name).qasm for gate in POOL) == 1


# -- The registry ----------------------------------------------------------------------------------------------------


def square_root_of_swap(angles):
    half = torch.tensor([0.5 + 0.5j, 0.5 - 0.5j], dtype=torch.complex128)
    matrix = torch.eye(4, dtype=torch.complex128)
    matrix[1:3, 1:3] = torch.stack([half, half.flip(0)])
    dtype = torch.complex64 if angles.dtype == torch.float32 else torch.complex128
    return matrix.to(angles.device, dtype).expand(*angles.shape[:-1], 4, 4)


def made(**changes):
    fields = {
        "name": "sqrtSWAP", "n_wires": 2, "n_parameters": 0, "matrix": square_root_of_swap,
        "transfer": transfer_of(square_root_of_swap), "qasm": "sqrtswap", "native_two_qubit": 3, "native_pulses": 4,
    }  # fmt: skip
    return QuantumGate(**{**fields, **changes})


@pytest.mark.usefixtures("own_registry")
def test_a_gate_of_ones_own():
    gate = register(made())
    assert gate_named("sqrtSWAP") is gate
    assert gate_names()[-1] == "sqrtSWAP"
    none = torch.zeros(0, dtype=torch.float64)
    twice = gate.transfer(none) @ gate.transfer(none)
    torch.testing.assert_close(twice, gate_named("SWAP").transfer(none), atol=1e-14, rtol=0)


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "CNOT"}, "There is a gate 'CNOT' already"),
        ({"name": ""}, "needs a name"),
        ({"n_wires": 0}, "n_wires=0; expected at least 1"),
        ({"native_two_qubit": -1}, "native_two_qubit=-1; expected at least 0"),
        ({"n_wires": 1}, r"matrix of the gate 'sqrtSWAP' has the shape \[5, 4, 4\].*expected \[5, 2, 2\]"),
        ({"matrix": lambda a: square_root_of_swap(a)[..., :3]}, r"shape \[5, 4, 3\].*expected \[5, 4, 4\]"),
        ({"matrix": lambda a: 1.1 * square_root_of_swap(a)}, "not unitary: U U.dagger differs from 1 by 2.1e-01"),
        ({"matrix": lambda a: float("nan") * square_root_of_swap(a)}, "not unitary"),
        ({"matrix": lambda a: square_root_of_swap(a.double())}, "is torch.complex128; expected torch.complex64"),
        ({"transfer": lambda a: transfer_of(square_root_of_swap)(a)[..., :4]}, r"transfer .* shape \[5, 16, 4\]"),
        ({"transfer": gate_named("SWAP").transfer}, "transfer form .* differs from its matrix by .*transfer_of"),
    ],
)
def test_a_wrong_gate_is_refused(changes, message):
    with pytest.raises(SpaceError, match=message):
        register(made(**changes))
    assert "sqrtSWAP" not in gate_names()


@pytest.mark.parametrize(
    ("name", "meant"),
    [("cnot", "'CNOT'"), ("cx", "'CNOT'"), ("iswap", "'iSWAP'"), ("rot", "'Rot'"), ("U", "'U3'"), ("RXY", "'RX'")],
)
def test_unknown_names_tell_what_was_meant(name, meant):
    with pytest.raises(SpaceError, match=f"Unknown gate: '{name}'. Did you mean .*{meant}.*Valid: .*CU3"):
        gate_named(name)


def test_an_unknown_name_like_no_other_lists_all():
    with pytest.raises(SpaceError, match=r"Unknown gate: '\?\?'. Valid: CNOT, CRX"):
        gate_named("??")
