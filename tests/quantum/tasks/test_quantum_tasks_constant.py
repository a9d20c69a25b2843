import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from darts_hpo.errors import ConfigError, DataError, SpaceError
from darts_hpo.training.evaluation import evaluate
from quantum.measurements import Hamiltonian, expectations, observables_from, pauli_vector
from quantum.tasks.designs import two_design
from quantum.tasks.exact import ground_energy
from quantum.tasks.graphs import Graph, from_edges, prism, ring
from quantum.tasks.ground_state import GroundState
from quantum.tasks.hamiltonians import h2, hamiltonian_of, transverse_field_ising
from quantum.tasks.maxcut import MaxCut
from quantum.tasks.preparation import StatePreparation
from quantum.tasks.states import amplitudes, ghz, haar_states, w
from quantum.tasks.unitaries import (
    clifford_t,
    fredkin,
    hidden_circuit,
    quantum_fourier_transform,
    random_circuit,
    toffoli,
)
from quantum.tasks.unitary import UnitaryRecovery

CPU = torch.device("cpu")
SPLITS = ("train", "arch", "val", "test")


class Gives(nn.Module):
    """A network of fixed behaviour."""

    def __init__(self, function, ways=None):
        super().__init__()
        self.function = function
        if ways is not None:
            self.evaluations = lambda: ways

    def forward(self, x):
        return self.function(x)


def prepared(task, tmp_path, seed=0):
    task.prepare(tmp_path, seed)
    return task


def batch_of(task, split):
    return next(iter(task.loader(split, training=False)))


# -- what all tasks without data share -------------------------------------------------------------------------------


def test_an_epoch_is_a_number_of_equal_steps(tmp_path):
    task = prepared(GroundState(h2(), steps_per_epoch=7), tmp_path)
    loader = task.loader("train", training=True, batch_size=64)
    assert len(loader) == len(list(loader)) == 7
    assert all(batch.inputs.shape == (1, 0) for batch in loader)
    assert len(list(task.loader("val", training=False))) == 1
    assert len(task.loader("train+arch", training=True)) == 7
    assert batch_of(task, "train+arch").inputs.shape == (1, 0)


def test_loaders_do_not_touch_the_global_generator(tmp_path):
    task = prepared(UnitaryRecovery(toffoli()), tmp_path)
    before = torch.get_rng_state()
    list(task.loader("train", training=True))
    assert (torch.get_rng_state() == before).all()


def test_a_share_of_no_data_is_refused(tmp_path):
    task = prepared(GroundState(h2()), tmp_path)
    task.reduce_training_data(1.0, seed=0)
    with pytest.raises(ConfigError, match=r"data_fraction=0.5: this task has no data.*steps_per_epoch"):
        task.reduce_training_data(0.5, seed=0)
    task.keep("train", [0])
    with pytest.raises(ConfigError, match="nothing can be left out of its train split"):
        task.keep("train", [])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"steps_per_epoch": 0}, "steps_per_epoch=0"),
        ({"precision": "float16"}, "'float16'.*Valid: float32, float64"),
        ({"primary": "enrgy"}, "Did you mean 'energy'"),
        ({"primary": "energy_noisy"}, r"evaluations=\[noisy\]"),
    ],
)
def test_values_out_of_range_are_refused(arguments, reason):
    with pytest.raises(ConfigError, match=reason):
        GroundState(h2(), **arguments)


@pytest.mark.parametrize(("precision", "real", "amplitude"), [("float32", 32, 64), ("float64", 64, 128)])
def test_precision_is_that_of_inputs_and_targets(tmp_path, precision, real, amplitude):
    batch = batch_of(prepared(StatePreparation(ghz(3), precision=precision), tmp_path), "val")
    assert str(batch.inputs.dtype) == f"torch.float{real}"
    assert str(batch.targets.dtype) == f"torch.complex{amplitude}"
    batch = batch_of(prepared(UnitaryRecovery(toffoli(), precision=precision), tmp_path), "val")
    assert str(batch.inputs.dtype) == str(batch.targets.dtype) == f"torch.complex{amplitude}"


# -- ground states ---------------------------------------------------------------------------------------------------


def test_h2_has_its_known_spectrum():
    spectrum = np.linalg.eigvalsh(Hamiltonian(h2()).matrix().numpy())
    assert np.allclose(spectrum, [-1.85727503, -1.24458455, -0.88272215, -0.22491125], atol=1e-8)
    assert ground_energy(Hamiltonian(h2())) == pytest.approx(-1.85727503, abs=1e-8)


def test_ising_chains_have_the_energies_of_free_fermions():
    # Critical chain of n spins: open, 1 - 1 / sin(pi / (4 n + 2)); periodic, -2 / sin(pi / (2 n)).
    for n in (2, 4, 9):
        energy = ground_energy(Hamiltonian(transverse_field_ising(n)))
        assert energy == pytest.approx(1 - 1 / math.sin(math.pi / (4 * n + 2)), abs=1e-9)
    for n in (4, 8):
        energy = ground_energy(Hamiltonian(transverse_field_ising(n, periodic=True)))
        assert energy == pytest.approx(-2 / math.sin(math.pi / (2 * n)), abs=1e-9)
    assert ground_energy(Hamiltonian(transverse_field_ising(3, coupling=2, field=0))) == -4
    assert ground_energy(Hamiltonian(transverse_field_ising(5, coupling=0, field=3))) == pytest.approx(-15)


def test_sparse_diagonalization_equals_dense():
    rng = np.random.default_rng(0)
    terms = {"".join(rng.choice(list("IXYZ"), 7)): float(rng.normal()) for _ in range(40)}
    dense = np.linalg.eigvalsh(Hamiltonian(terms).matrix().numpy())[0]
    assert ground_energy(Hamiltonian(terms)) == pytest.approx(dense, abs=1e-9)
    diagonal = {text.replace("X", "Z").replace("Y", "I"): value for text, value in terms.items()}
    dense = Hamiltonian(diagonal).matrix().diagonal().real.min()
    assert ground_energy(Hamiltonian(diagonal)) == pytest.approx(float(dense), abs=1e-9)
    with pytest.raises(ConfigError, match="13 wires: Hamiltonians are diagonalized up to 12"):
        ground_energy(Hamiltonian({"Z" * 13: 1.0}))


def test_ground_state_reports_energy_and_distance_to_the_exact_one(tmp_path):
    task = prepared(GroundState(h2(), hartree=True), tmp_path)
    assert task.network_arguments() == {"n_inputs": 0, "n_wires": 2, "measurement": h2()}
    assert task.input_shape == (0,)
    network = Gives(
        lambda x: torch.full((len(x), 1), -1.85, dtype=torch.float64), {"noisy": lambda x: torch.zeros(1, 1)}
    )
    values = evaluate(network, task, "test", device=CPU)
    assert set(task.metric_names) <= set(values)
    assert values["negative_energy"] == 1.85 == -values["energy"]
    assert values["error_mha"] == pytest.approx(7.27503, abs=1e-4) == 1000 * values["error"]
    assert values["energy_noisy"] == 0
    batch = batch_of(task, "train")
    assert float(task.loss(network, network(batch.inputs), batch)["loss"]) == -1.85


def test_the_measured_hamiltonian_gives_the_ground_energy_of_its_ground_state():
    task = GroundState(transverse_field_ising(4))
    arguments = task.network_arguments()
    ground = torch.linalg.eigh(task.hamiltonian.matrix()).eigenvectors[:, :1]
    observables = observables_from(arguments["measurement"], arguments["n_wires"])
    assert expectations(ground, observables, 4).item() == pytest.approx(task.exact_energy, abs=1e-9)


def test_large_hamiltonians_have_no_exact_energy():
    task = GroundState(transverse_field_ising(13))
    assert task.exact_energy is None
    assert task.metric_names == ("negative_energy", "energy")
    assert task.summary({"energy": -2.0}) == {"negative_energy": 2.0, "energy": -2.0}


def test_hamiltonians_of_users(tmp_path):
    path = tmp_path / "terms.json"
    path.write_text(json.dumps(h2()))
    assert hamiltonian_of(str(path)) == hamiltonian_of(h2())
    assert hamiltonian_of({"Z0 X2": 0.5}, 3).data == {"ZIX": 0.5}
    for content, reason in (("{", "is no JSON"), ("[1]", "holds no object of Pauli strings")):
        path.write_text(content)
        with pytest.raises(DataError, match=reason):
            hamiltonian_of(str(path))
    with pytest.raises(DataError, match="cannot be read: No such file"):
        hamiltonian_of(str(tmp_path / "absent.json"))


@pytest.mark.parametrize(
    "terms", [{}, {"ZQ": 1.0}, {"ZZ": 1.0, "Z": 1.0}, {"ZZ": "a"}, {"ZZ": math.inf}, ["ZZ"], {"Z0": 1}]
)
def test_wrong_hamiltonians_are_refused(terms):
    with pytest.raises(ConfigError, match=r"Hamiltonian|Pauli string|coefficient"):
        GroundState(terms)


def test_too_short_chains_are_refused():
    with pytest.raises(ConfigError, match="n_wires=1: an open chain has at least 2"):
        transverse_field_ising(1)
    with pytest.raises(ConfigError, match="n_wires=2: a periodic chain has at least 3"):
        transverse_field_ising(2, periodic=True)


# -- cuts ------------------------------------------------------------------------------------------------------------


def brute_force(graph):
    return [
        sum(weight for a, b, weight in graph.edges if sides[a] != sides[b])
        for sides in itertools.product((0, 1), repeat=graph.n_nodes)
    ]


@pytest.mark.parametrize(
    ("graph", "maximum"),
    [(prism(), 7), (ring(6), 6), (ring(5), 4), (from_edges([[0, 1], [1, 2, 0.5], [0, 2, -1]]), 1.5), (ring(3), 2)],
)
def test_cuts_equal_enumeration_and_the_observable(graph, maximum):
    cuts = graph.cuts()
    assert np.allclose(cuts, brute_force(graph))
    assert cuts.max() == pytest.approx(maximum)
    operator = Hamiltonian(graph.hamiltonian()).matrix()
    assert np.allclose(operator.diagonal().real, cuts)
    assert torch.equal(operator, operator.diagonal().diag())


def test_ratio_is_that_of_the_expected_cut(tmp_path):
    task = prepared(MaxCut(prism()), tmp_path)
    arguments = task.network_arguments()
    observables = observables_from(arguments["measurement"], arguments["n_wires"])
    uniform = torch.full((64, 1), 1 / 8, dtype=torch.complex128)
    network = Gives(lambda x: expectations(uniform, observables, 6))
    values = evaluate(network, task, "val", device=CPU)
    assert values == {"cut": pytest.approx(4.5), "approximation_ratio": pytest.approx(4.5 / 7)}
    batch = batch_of(task, "arch")
    assert float(task.loss(network, network(batch.inputs), batch)["loss"]) == pytest.approx(-4.5 / 7)
    best = torch.zeros(64, 1, dtype=torch.complex128)
    best[int(task.graph.cuts().argmax())] = 1
    network = Gives(lambda x: expectations(best, observables, 6))
    assert evaluate(network, task, "val", device=CPU)["approximation_ratio"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("edges", "reason"),
    [
        ([], "needs edges|nodes"),
        ([[0, 1], [1, 1]], "two different nodes"),
        ([[0, 1], [1, 0]], "given twice"),
        ([[0, 1, 2, 3]], "two nodes and, if not 1, a weight"),
        ([[0, 1.5]], "two nodes and"),
        ([[0, 1, math.nan]], "expected a finite number"),
        ([[-1, 1]], "two different nodes out of 0 to 1"),
        ([[0, 30]], "31 nodes: expected 2 to 20"),
    ],
)
def test_wrong_edges_are_refused(edges, reason):
    with pytest.raises(ConfigError, match=reason):
        from_edges(edges)


def test_graphs_without_a_positive_cut_are_refused():
    with pytest.raises(ConfigError, match="No cut of the graph has a positive weight"):
        MaxCut(from_edges([[0, 1, -1]]))
    with pytest.raises(ConfigError, match="needs edges"):
        Graph(3, ())
    with pytest.raises(ConfigError, match="a ring has at least 3"):
        ring(2)


# -- states ----------------------------------------------------------------------------------------------------------


def test_named_states():
    assert torch.equal(ghz(3).nonzero().flatten(), torch.tensor([0, 7]))
    assert torch.equal(w(3).nonzero().flatten(), torch.tensor([1, 2, 4]))
    for state in (ghz(4), w(4), amplitudes([3, 4]), amplitudes([1, 0, 0, 1], [0, 1, 0, 0])):
        assert torch.linalg.vector_norm(state).item() == pytest.approx(1)
    assert amplitudes([3, 0], [0, 4]).tolist() == [pytest.approx(0.6), pytest.approx(0.8j)]


@pytest.mark.parametrize("real", [[1.0], [1.0, 0, 0], [0.0, 0.0], [math.inf, 0.0], []])
def test_wrong_amplitudes_are_refused(real):
    with pytest.raises(ConfigError, match="A state"):
        amplitudes(real)
    with pytest.raises(ConfigError, match="2 real and 1 imaginary"):
        amplitudes([1.0, 0.0], [1.0])
    with pytest.raises(ConfigError, match="n_wires=1: expected at least 2"):
        ghz(1)


@pytest.mark.parametrize("pauli", [False, True])
def test_preparation_scores_the_fidelity_of_either_form(tmp_path, pauli):
    task = prepared(StatePreparation(ghz(3), precision="float64"), tmp_path)
    assert task.network_arguments() == {"n_inputs": 0, "n_wires": 3, "measurement": "state"}

    def network(state):
        raw = state[:, None].to(torch.complex128)
        return Gives(lambda x: (pauli_vector(raw) if pauli else raw).T)

    zero = torch.zeros(8)
    zero[0] = 1
    phase = torch.exp(torch.tensor(0.7j, dtype=torch.complex128))
    for state, expected in ((ghz(3) * phase, 1.0), (zero, 0.5), (w(3), 0.0), ((ghz(3) + w(3)) / 2**0.5, 0.5)):
        values = evaluate(network(state), task, "test", device=CPU)
        assert values == {"fidelity": pytest.approx(expected), "infidelity": pytest.approx(1 - expected)}
        batch = batch_of(task, "train")
        loss = task.loss(network(state), network(state)(batch.inputs), batch)["loss"]
        assert float(loss) == pytest.approx(1 - expected)


@pytest.mark.parametrize("target", [torch.ones(4), torch.ones(3), torch.ones(2, 2), torch.ones(1)])
def test_wrong_targets_are_refused(target):
    with pytest.raises(ConfigError, match=r"task.target"):
        StatePreparation(target.to(torch.complex128))


# -- unitaries -------------------------------------------------------------------------------------------------------


def test_named_unitaries():
    swaps = torch.eye(8, dtype=torch.complex128)
    assert torch.equal(toffoli() @ swaps[:, 6], swaps[:, 7])
    assert torch.equal(fredkin() @ swaps[:, 5], swaps[:, 6])
    fourier = quantum_fourier_transform(4)
    columns = torch.fft.ifft(torch.eye(16, dtype=torch.complex128), dim=0, norm="ortho")
    assert torch.allclose(fourier, columns, atol=1e-12)


def test_hidden_circuits_are_functions_of_their_seed():
    first, again, other = (random_circuit(3, 9, ["RX", "CNOT", "CRX"], seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert torch.allclose(first @ first.mH, torch.eye(8, dtype=torch.complex128), atol=1e-9)
    assert {op.gate for op in hidden_circuit(3, 40, ["H", "CZ"]).operations} == {"H", "CZ"}
    assert clifford_t(1, 5).shape == (2, 2)
    with pytest.raises(ConfigError, match="act on up to 2 wires"):
        random_circuit(1, 3, ["CNOT"])
    with pytest.raises(ConfigError, match="at least one of each"):
        random_circuit(2, 0, ["CNOT"])
    with pytest.raises(SpaceError, match="CNOTT"):
        random_circuit(2, 2, ["CNOTT"])


@pytest.mark.parametrize("n_wires", [1, 2, 3, 4])
def test_design_is_a_complete_set_of_unbiased_bases(n_wires):
    size = 2**n_wires
    states = two_design(n_wires)
    assert states.shape == (size * (size + 1), size)
    overlaps = (states.conj() @ states.T).abs().square().reshape(size + 1, size, size + 1, size)
    for first, second in itertools.product(range(size + 1), repeat=2):
        expected = torch.eye(size) if first == second else torch.full((size, size), 1 / size)
        assert torch.allclose(overlaps[first, :, second], expected.double(), atol=1e-9)


def test_designs_end_at_six_wires():
    assert two_design(6).shape == (64 * 65, 64)
    with pytest.raises(ConfigError, match="expected 1 to 6"):
        two_design(7)


def random_unitary(size, seed):
    return torch.linalg.qr(haar_states(size, size.bit_length() - 1, [seed])).Q


@pytest.mark.parametrize("n_wires", [1, 2, 3])
def test_test_fidelity_is_the_exact_average_gate_fidelity(tmp_path, n_wires):
    size = 2**n_wires
    wanted, found = random_unitary(size, 0), random_unitary(size, 1)
    task = prepared(UnitaryRecovery(wanted, precision="float64"), tmp_path)
    overlap = torch.trace(wanted.mH @ found).abs().square().item()
    exact = (overlap + size) / (size * (size + 1))
    value = evaluate(Gives(lambda x: x @ found.T), task, "test", device=CPU)["fidelity"]
    assert value == pytest.approx(exact, abs=1e-12)
    # Also of a channel: a depolarized unitary has F = (1 - p) F_U + p / d.
    mixed = torch.zeros(4**n_wires, 1, dtype=torch.float64)
    mixed[0] = 1

    def depolarized(x):
        return (0.7 * pauli_vector((x @ found.T).T) + 0.3 * mixed).T

    value = evaluate(Gives(depolarized), task, "test", device=CPU)["fidelity"]
    assert value == pytest.approx(0.7 * exact + 0.3 / size, abs=1e-12)


def test_random_states_differ_between_splits_and_depend_on_the_seed_only(tmp_path):
    task = prepared(UnitaryRecovery(toffoli(), states=5), tmp_path, seed=3)
    states = torch.cat([batch_of(task, split).inputs for split in SPLITS])
    overlaps = (states[:15].conj() @ states.T).abs() - torch.eye(15, len(states))
    assert overlaps.max() < 0.999
    again = prepared(UnitaryRecovery(toffoli(), states=5), tmp_path, seed=3)
    other = prepared(UnitaryRecovery(toffoli(), states=5), tmp_path, seed=4)
    assert torch.equal(batch_of(again, "arch").inputs, batch_of(task, "arch").inputs)
    assert not torch.allclose(batch_of(other, "arch").inputs, batch_of(task, "arch").inputs)
    assert len(batch_of(task, "train+arch").inputs) == 10
    assert len(task.strata("train+arch")) == 10


def test_haar_states_have_the_moments_of_the_sphere():
    states = haar_states(4000, 2, [0])
    assert torch.allclose(states.abs().square().mean(0), torch.full((4,), 0.25).double(), atol=0.01)
    assert states[:, 0].abs().pow(4).mean().item() == pytest.approx(2 / (4 * 5), rel=0.1)


def test_basis_states_are_mapped_to_columns(tmp_path):
    fourier = quantum_fourier_transform(3)
    task = prepared(UnitaryRecovery(fourier, inputs="basis", precision="float64"), tmp_path)
    assert task.network_arguments() == {"n_inputs": 8, "n_wires": 3, "measurement": "state"}
    for split in SPLITS:
        batch = batch_of(task, split)
        assert torch.equal(batch.inputs, torch.eye(8).to(batch.inputs))
        assert torch.allclose(batch.targets[5], fourier[:, 5])
    phases = torch.exp(1j * torch.arange(8.0, dtype=torch.float64))
    values = evaluate(Gives(lambda x: x @ (fourier * phases).T), task, "val", device=CPU)
    assert values["fidelity"] == pytest.approx(1)
    assert evaluate(Gives(lambda x: x), task, "val", device=CPU)["fidelity"] == pytest.approx(1 / 8)


@pytest.mark.parametrize(
    ("unitary", "arguments", "reason"),
    [
        (torch.ones(4, 4), {}, "no unitary matrix"),
        (torch.eye(3), {}, "expected 2\\*\\*n x 2\\*\\*n"),
        (torch.ones(4), {}, "expected 2\\*\\*n x 2\\*\\*n"),
        (torch.eye(4), {"inputs": "randon"}, "Did you mean 'random'"),
        (torch.eye(4), {"states": 0}, "states=0"),
        (torch.eye(128), {}, "7 wires; with inputs=random there may be up to 6"),
    ],
)
def test_wrong_unitaries_are_refused(unitary, arguments, reason):
    with pytest.raises(ConfigError, match=reason):
        UnitaryRecovery(unitary, **arguments)


def test_deployments_are_plain_data(tmp_path):
    for task in (GroundState(h2()), MaxCut(prism()), StatePreparation(ghz(2)), UnitaryRecovery(toffoli())):
        prepared(task, tmp_path)
        assert json.loads(json.dumps(task.deployment()))["task"] == type(task).__name__
