import math

import pytest
import torch

from darts_hpo.errors import ConfigError
from quantum.measurements import (
    Hamiltonian,
    PauliString,
    density_matrix,
    expectations,
    fidelity,
    observables_data,
    observables_from,
    pauli_vector,
    pauli_vector_of_density,
    probabilities,
    purity,
)

SINGLE = {
    "I": torch.eye(2, dtype=torch.complex128),
    "X": torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128),
    "Y": torch.tensor([[0, -1j], [1j, 0]], dtype=torch.complex128),
    "Z": torch.tensor([[1, 0], [0, -1]], dtype=torch.complex128),
}


def dense(letters):
    total = torch.ones(1, 1, dtype=torch.complex128)
    for letter in letters:
        total = torch.kron(total, SINGLE[letter])
    return total


def random_states(n_wires, batch, generator, dtype=torch.complex128):
    state = torch.randn(2**n_wires, batch, dtype=torch.complex128, generator=generator)
    return (state / state.norm(dim=0)).to(dtype)


def random_density(n_wires, batch, generator):
    factor = torch.randn(batch, 2**n_wires, 3, dtype=torch.complex128, generator=generator)
    density = factor @ factor.mH
    return density / torch.einsum("bii->b", density).reshape(-1, 1, 1)


def random_letters(n_wires, generator):
    return "".join("IXYZ"[i] for i in torch.randint(4, (n_wires,), generator=generator).tolist())


def random_observables(n_wires, generator):
    """A few strings and a Hamiltonian, with repetitions and the identity among them."""
    strings = [random_letters(n_wires, generator) for _ in range(6)]
    weights = torch.randn(6, generator=generator).tolist()
    return observables_from([*strings, dict(zip(strings, weights, strict=True)), "I" * n_wires], n_wires)


def random_readout(n_wires, generator):
    return [tuple(pair) for pair in (0.3 * torch.rand(n_wires, 2, generator=generator)).tolist()]


# -- Observables --------------------------------------------------------------------------------------------------


def test_strings_read_both_forms():
    assert PauliString.parse("Z0 X2", 3) == PauliString("ZIX") == PauliString.parse("ZIX", 3)
    string = PauliString("ZIYX")
    assert (string.support, string.flipped, string.signed) == ((0, 2, 3), (2, 3), (0, 2))
    assert string.pauli_index == ((3 * 4 + 0) * 4 + 2) * 4 + 1


@pytest.mark.parametrize("letters", ["X", "ZY", "IXYZ", "YYIX"])
def test_matrix_is_the_kronecker_product(letters):
    assert torch.equal(PauliString(letters).matrix(), dense(letters))


def test_h2_spectrum():
    h2 = {
        "II": -1.052373245772859,
        "IZ": 0.39793742484318045,
        "ZI": -0.39793742484318045,
        "ZZ": -0.01128010425623538,
        "XX": 0.18093119978423156,
    }
    spectrum = torch.linalg.eigvalsh(Hamiltonian(h2).matrix())
    expected = torch.tensor([-1.85727503, -1.24458455, -0.88272215, -0.22491125], dtype=torch.float64)
    torch.testing.assert_close(spectrum, expected, atol=1e-8, rtol=0)


def test_plain_data():
    assert observables_from("z", 3) == (PauliString("ZII"), PauliString("IZI"), PauliString("IIZ"))
    assert observables_from("X", 2) == (PauliString("XI"), PauliString("IX"))
    assert observables_from("ZZ", 2) == (PauliString("ZZ"),)
    assert observables_from({"Z0": 1, "ZI": 0.5}, 2) == (Hamiltonian({"ZI": 1.5}),)
    mixed = observables_from(["ZI", {"XX": 2.0, "IZ": -1}], 2)
    assert mixed == (PauliString("ZI"), Hamiltonian({"XX": 2.0, "IZ": -1.0}))
    assert observables_from(observables_data(mixed), 2) == mixed
    assert observables_from(mixed, 2) == mixed


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("ZQI", r"'ZQI' is no Pauli string.*'Q'"),
        ("ZZ", r"'ZZ' has 2 letters, but there are 3 wires"),
        ("Z0 X3", "wire 3; expected 0 to 2"),
        ("Z0 X0", "wire 0 twice"),
        ("Z0X1", "not a letter and a wire"),
        (["ZII", True], "True is no Pauli string"),
        ([], "no measurement"),
        (7, "no measurement"),
        ({}, "at least one term"),
        ({"ZII": "a"}, "coefficient of 'ZII' is 'a'"),
        ({"ZII": math.inf}, "finite real number"),
    ],
)
def test_malformed_data_is_refused(data, message):
    with pytest.raises(ConfigError, match=message):
        observables_from(data, 3)


def test_strings_of_a_hamiltonian_have_one_length():
    with pytest.raises(ConfigError, match="one length"):
        Hamiltonian({"ZZ": 1.0, "ZIZ": 1.0})


# -- Exact expectations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_wires", [1, 2, 3, 5])
def test_random_observables_equal_dense_matrices(n_wires):
    generator = torch.Generator().manual_seed(n_wires)
    observables = random_observables(n_wires, generator)
    matrices = [
        sum(coefficient * dense(string.letters) for string, coefficient in observable.terms)
        for observable in observables
    ]
    psi = random_states(n_wires, 4, generator)
    expected = torch.stack([torch.einsum("ib,ij,jb->b", psi.conj(), m, psi).real for m in matrices], dim=1)
    torch.testing.assert_close(expectations(psi, observables, n_wires), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(expectations(pauli_vector(psi), observables, n_wires), expected, atol=1e-12, rtol=0)
    single = expectations(psi.to(torch.complex64), observables, n_wires)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, atol=1e-5, rtol=0)

    rho = random_density(n_wires, 4, generator)
    expected = torch.stack([torch.einsum("bij,ji->b", rho, m).real for m in matrices], dim=1)
    torch.testing.assert_close(
        expectations(pauli_vector_of_density(rho), observables, n_wires), expected, atol=1e-12, rtol=0
    )


def test_closed_forms():
    angle = torch.tensor([0.0, 0.3, 1.0, math.pi], dtype=torch.float64)
    # RX(angle)|0>, then a wire in |1>: Y reads -sin, Z reads cos.
    psi = torch.stack((0 * angle, torch.cos(angle / 2), 0 * angle, -1j * torch.sin(angle / 2)))
    values = expectations(psi, observables_from(["ZI", "YI", "XI", "IZ", "ZZ"], 2), 2)
    expected = torch.stack((angle.cos(), -angle.sin(), 0 * angle, angle * 0 - 1, -angle.cos()), dim=1)
    torch.testing.assert_close(values, expected, atol=1e-14, rtol=0)


def test_greenberger_horne_zeilinger_correlations():
    psi = torch.zeros(8, 1, dtype=torch.complex128)
    psi[0] = psi[7] = math.sqrt(0.5)
    values = expectations(psi, observables_from(["XXX", "XYY", "YXY", "ZZI", "ZII", "YYY"], 3), 3)
    torch.testing.assert_close(values[0], torch.tensor([1, -1, -1, 1, 0, 0], dtype=torch.float64), atol=1e-14, rtol=0)


def test_expectations_pass_gradcheck():
    generator = torch.Generator().manual_seed(0)
    observables = observables_from(["ZI", "XY", {"YI": 0.3, "ZZ": -1.2, "YY": 0.7}], 2)
    psi = random_states(2, 2, generator).requires_grad_()
    readout = random_readout(2, generator)
    assert torch.autograd.gradcheck(lambda s: expectations(s, observables, 2), psi)
    assert torch.autograd.gradcheck(lambda s: expectations(s, observables, 2, readout), psi)
    assert torch.autograd.gradcheck(lambda s: expectations(pauli_vector(s), observables, 2, readout), psi)


def test_plans_made_during_inference_serve_training():
    observables = observables_from(["ZXI", {"YII": 0.123, "ZZZ": 1.0}], 3)
    psi = random_states(3, 2, torch.Generator().manual_seed(1))
    readout = [(0.01, 0.02)] * 3
    for errors in (None, readout):
        with torch.inference_mode():
            before = expectations(psi, observables, 3, errors), expectations(pauli_vector(psi), observables, 3, errors)
        leaf = psi.clone().requires_grad_()
        expectations(leaf, observables, 3, errors).sum().backward()
        expectations(pauli_vector(leaf), observables, 3, errors).sum().backward()
        assert leaf.grad is not None
        torch.testing.assert_close(before[0].clone(), before[1].clone(), atol=1e-12, rtol=0)


def test_all_wires_of_a_large_register():
    n = 12
    psi = torch.zeros(2**n, 2, dtype=torch.complex64)
    psi[0b100000000001, 0] = 1
    psi[0, 1] = 1j
    values = expectations(psi, observables_from("z", n), n)
    expected = torch.ones(2, n)
    expected[0, 0] = expected[0, n - 1] = -1
    assert torch.equal(values, expected)


@pytest.mark.parametrize("letter", ["x", "y"])
def test_rotating_to_a_basis_equals_flipping_string_by_string(letter):
    # More wires than one window of a rotation.
    n = 7
    psi = random_states(n, 3, torch.Generator().manual_seed(7))
    observables = observables_from(letter, n)
    together = expectations(psi, observables, n)
    one_by_one = torch.cat([expectations(psi, [observable], n) for observable in observables], dim=1)
    torch.testing.assert_close(together, one_by_one, atol=1e-13, rtol=0)


@pytest.mark.parametrize(
    ("state", "observables", "message"),
    [
        (torch.zeros(8, 1, dtype=torch.complex64), observables_from("z", 2), "8, 1.* has 3 wires; expected 2"),
        (torch.zeros(16, 1), observables_from("z", 3), "'?ZII'? is on 3 wires; the state has 2"),
        (torch.zeros(8, 1), observables_from("z", 2), "no raw state"),
        (torch.zeros(4, dtype=torch.complex64), observables_from("z", 2), "no raw state"),
        (torch.zeros(16, 1), (), "no observable"),
    ],
)
def test_misfits_are_refused(state, observables, message):
    with pytest.raises(ConfigError, match=message):
        expectations(state, observables, 2)


# -- Readout errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_wires", [1, 2, 4])
def test_readout_errors_equal_confused_outcomes(n_wires):
    generator = torch.Generator().manual_seed(10 + n_wires)
    readout = random_readout(n_wires, generator)
    confusion = torch.ones(1, 1, dtype=torch.float64)
    for e01, e10 in readout:
        confusion = torch.kron(confusion, torch.tensor([[1 - e01, e10], [e01, 1 - e10]], dtype=torch.float64))
    observables = random_observables(n_wires, generator)
    psi = random_states(n_wires, 3, generator)
    expected = torch.zeros(3, len(observables), dtype=torch.float64)
    for column, observable in enumerate(observables):
        for string, coefficient in observable.terms:
            basis = string.letters.replace("I", "Z")
            signs = dense("".join("I" if letter == "I" else "Z" for letter in string.letters)).diagonal().real
            expected[:, column] += coefficient * (probabilities(psi, basis) @ confusion.T @ signs)
    torch.testing.assert_close(expectations(psi, observables, n_wires, readout), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(
        expectations(pauli_vector(psi), observables, n_wires, readout), expected, atol=1e-12, rtol=0
    )
    torch.testing.assert_close(
        probabilities(psi, readout=readout), probabilities(psi) @ confusion.T, atol=1e-12, rtol=0
    )


def test_readout_of_one_wire_is_the_linear_form():
    e01, e10 = 0.1, 0.25
    psi = random_states(1, 5, torch.Generator().manual_seed(0))
    z = expectations(psi, observables_from("z", 1), 1)
    read = expectations(psi, observables_from("z", 1), 1, [(e01, e10)])
    torch.testing.assert_close(read, (1 - e01 - e10) * z + (e10 - e01), atol=1e-14, rtol=0)


def test_no_readout_error_changes_nothing():
    psi = random_states(2, 2, torch.Generator().manual_seed(0))
    observables = observables_from(["ZX", "YI"], 2)
    assert torch.equal(expectations(psi, observables, 2, [(0.0, 0.0)] * 2), expectations(psi, observables, 2))


@pytest.mark.parametrize("readout", [[(0.1, 0.1)], [(0.1, 1.1), (0.0, 0.0)]])
def test_malformed_readout_is_refused(readout):
    psi = random_states(2, 1, torch.Generator().manual_seed(0))
    with pytest.raises(ConfigError, match="readout errors"):
        expectations(psi, observables_from("z", 2), 2, readout)


# -- States -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_wires", [1, 2, 3])
def test_pauli_vector_is_its_definition_and_round_trips(n_wires):
    generator = torch.Generator().manual_seed(n_wires)
    rho = random_density(n_wires, 2, generator)
    vector = pauli_vector_of_density(rho)
    for _ in range(10):
        string = PauliString(random_letters(n_wires, generator))
        expected = torch.einsum("ij,bji->b", dense(string.letters), rho).real
        torch.testing.assert_close(vector[string.pauli_index], expected, atol=1e-13, rtol=0)
    torch.testing.assert_close(density_matrix(vector), rho, atol=1e-13, rtol=0)
    torch.testing.assert_close(purity(vector), torch.einsum("bij,bji->b", rho, rho).real, atol=1e-13, rtol=0)

    psi = random_states(n_wires, 2, generator)
    pure = torch.einsum("ib,jb->bij", psi, psi.conj())
    torch.testing.assert_close(pauli_vector(psi), pauli_vector_of_density(pure), atol=1e-13, rtol=0)
    torch.testing.assert_close(purity(pauli_vector(psi)), torch.ones(2, dtype=torch.float64), atol=1e-13, rtol=0)
    torch.testing.assert_close(purity(psi), torch.ones(2, dtype=torch.float64), atol=1e-13, rtol=0)


def test_probabilities_of_both_forms_agree_in_every_basis():
    generator = torch.Generator().manual_seed(3)
    psi = random_states(3, 4, generator)
    for basis in (None, "XYZ", "YYX", "ZXX"):
        chances = probabilities(psi, basis)
        torch.testing.assert_close(chances, probabilities(pauli_vector(psi), basis), atol=1e-13, rtol=0)
        torch.testing.assert_close(chances.sum(1), torch.ones(4, dtype=torch.float64), atol=1e-13, rtol=0)
    torch.testing.assert_close(probabilities(psi), psi.abs().square().T, atol=1e-14, rtol=0)
    with pytest.raises(ConfigError, match="measurement basis of 3 wires"):
        probabilities(psi, "ZZ")


def test_fidelity_is_the_squared_overlap_in_both_forms():
    generator = torch.Generator().manual_seed(4)
    psi, target = random_states(3, 4, generator), random_states(3, 4, generator).T
    expected = (target.conj() * psi.T).sum(1).abs().square()
    torch.testing.assert_close(fidelity(psi, target, 3), expected, atol=1e-13, rtol=0)
    torch.testing.assert_close(fidelity(pauli_vector(psi), target, 3), expected, atol=1e-13, rtol=0)
    shared = fidelity(pauli_vector(psi), target[:1], 3)
    torch.testing.assert_close(shared, fidelity(psi, target[:1], 3), atol=1e-13, rtol=0)
    torch.testing.assert_close(fidelity(psi, psi.T, 3), torch.ones(4, dtype=torch.float64), atol=1e-13, rtol=0)

    rho = random_density(3, 4, generator)
    expected = torch.einsum("bi,bij,bj->b", target.conj(), rho, target).real
    torch.testing.assert_close(fidelity(pauli_vector_of_density(rho), target, 3), expected, atol=1e-13, rtol=0)
    with pytest.raises(ConfigError, match=r"expected \[4, 8\] or \[1, 8\]"):
        fidelity(psi, target[:2], 3)


def test_fidelity_and_probabilities_pass_gradcheck():
    generator = torch.Generator().manual_seed(5)
    psi, target = random_states(2, 2, generator).requires_grad_(), random_states(2, 1, generator).T
    assert torch.autograd.gradcheck(lambda s: fidelity(s, target, 2), psi)
    assert torch.autograd.gradcheck(lambda s: fidelity(pauli_vector(s), target, 2), psi)
    assert torch.autograd.gradcheck(lambda s: probabilities(s, "XY", [(0.1, 0.2)] * 2), psi)
    assert torch.autograd.gradcheck(lambda s: purity(pauli_vector(s)), psi)


# -- Parity -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torchquantum():
    import torchquantum

    return torchquantum


def test_strings_equal_torchquantum(torchquantum):
    from torchquantum.measurement import expval_joint_analytical

    generator = torch.Generator().manual_seed(6)
    for n_wires in (1, 2, 3, 4):
        psi = random_states(n_wires, 3, generator, torch.complex64)
        device = torchquantum.QuantumDevice(n_wires=n_wires, bsz=3)
        device.states = psi.T.reshape([3] + [2] * n_wires)
        strings = [random_letters(n_wires, generator) for _ in range(8)]
        ours = expectations(psi, observables_from(strings, n_wires), n_wires)
        theirs = torch.stack([expval_joint_analytical(device, letters) for letters in strings], dim=1)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_small_letters_mean_the_same():
    assert observables_from("zix", 3) == observables_from("ZIX", 3)
    assert observables_from(["z0 x2", {"yyi": 0.5}], 3) == observables_from(["Z0 X2", {"YYI": 0.5}], 3)
