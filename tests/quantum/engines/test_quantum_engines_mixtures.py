"""The channel engine against an enumeration of all circuits, with and without noise."""

import pytest
import torch

from darts_hpo.errors import SpaceError
from quantum.encoders import encoder
from quantum.engines import ChannelEngine, StatevectorEngine
from quantum.engines.fusion import FusionPlan, Placed
from quantum.measurements import pauli_vector
from quantum.noise import DeviceNoise, UniformNoise
from quantum.program import DataSlot, Program, Slot

NOISE = {
    "ideal": None,
    "uniform": UniformNoise(0.02, 0.08, 0.03, 0.05),
    "device": DeviceNoise("quito", n_wires=3),
}
GATES = Program(
    2,
    (
        DataSlot((encoder("angle", 2, 3),)),
        Slot((0,), ("I", "RX", "U3")),
        Slot((1,), ("H", "RY", "T")),
        Slot((1, 0), ("I", "CNOT", "CRX")),
    ),
)
DATA = Program(
    3,
    (
        DataSlot((encoder("angle", 3, 3), encoder("amplitude", 3, 3), None)),
        Slot((0,), ("SX", "RZ")),
        Slot((2, 0), ("I", "CU3", "iSWAP")),
        DataSlot((None, encoder("angle_rx", 3, 3), encoder("angle_ryz", 3, 3))),
        Slot((1, 2), ("RXX", "CZ")),
    ),
)


def samples(dtype=torch.float64):
    return torch.rand(2, 3, dtype=dtype, generator=torch.Generator().manual_seed(3)) * 3


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
@pytest.mark.parametrize(("program", "n_circuits"), [(GATES, 27), (DATA, 108)], ids=["gates", "data"])
def test_a_mixture_of_channels_is_the_average_over_all_circuits(
    program, n_circuits, noise, average_over_circuits, random_weights
):
    parameters, mixture, data = random_weights(program)
    data = data if program is DATA else []
    inputs = samples()
    expected, counted = average_over_circuits(program, parameters, mixture, data, inputs, noise)
    assert counted == n_circuits
    exact = ChannelEngine(noise=noise).run(program, parameters, mixture, data, inputs)
    assert float((exact - expected).abs().max()) < 1e-12
    single = ChannelEngine(noise=noise).run(
        program, parameters.float(), mixture.float(), [weights.float() for weights in data], inputs.float()
    )
    assert float((single - expected).abs().max()) < 1e-6


@pytest.mark.parametrize("program", [GATES, DATA], ids=["gates", "data"])
def test_a_linear_combination_of_unitaries_is_not(program, average_over_circuits, random_weights):
    """Or else the test above would say nothing."""
    parameters, mixture, data = random_weights(program)
    data = data if program is DATA else []
    expected, _ = average_over_circuits(program, parameters, mixture, data, samples())
    state = StatevectorEngine().run(program, parameters, mixture, data, samples())
    assert float((pauli_vector(state) - expected).abs().max()) > 0.1


def test_a_cell_that_is_repeated_is_no_independent_choice(average_over_circuits, random_weights):
    """One choice for two slots: the engine sees two independent ones, and the average is another."""
    program = Program(1, (Slot((0,), ("RX", "RY")), Slot((0,), ("RX", "RY"))))
    parameters, mixture, _ = random_weights(program)
    mixture = torch.cat([mixture[:2], mixture[:2]])
    engine = ChannelEngine()
    independent = engine.run(program, parameters, mixture)
    expected, _ = average_over_circuits(program, parameters, mixture, [], torch.zeros(1, 0))
    assert float((independent - expected).abs().max()) < 1e-12
    tied = sum(
        mixture[choice] * engine.run(program, parameters, torch.eye(2, dtype=torch.float64)[choice].repeat(2))
        for choice in range(2)
    )
    assert float((independent - tied).abs().max()) > 0.1


def test_noise_shrinks_the_pauli_vector_and_keeps_the_trace(random_weights):
    parameters, mixture, _ = random_weights(GATES)
    ideal, noisy = (
        ChannelEngine(noise=noise).run(GATES, parameters, mixture, [], samples())
        for noise in (None, UniformNoise(0.05, 0.2))
    )
    torch.testing.assert_close(noisy[0], torch.ones(2, dtype=torch.float64))
    assert bool((noisy.square().sum(0) < ideal.square().sum(0)).all())


@pytest.mark.parametrize("engine", [StatevectorEngine(), ChannelEngine()])
@pytest.mark.parametrize("windows", [2, 3, 5])
def test_segments_between_data_have_slots_on_one_wire_in_runs_of_any_length(
    engine, windows, average_over_circuits, random_weights
):
    """Slots on one wire in runs of 0 to 4 before, between and after pairs and data: none may get into another's run."""
    engine = type(engine)(window=windows)
    chain = ("RX", "RZ", "H", "RY", "U3", "SX")
    elements = []
    for number, length in enumerate((3, 0, 4, 1)):
        elements.append(DataSlot((encoder("angle_ryz", 3, 3),)))
        elements += [Slot((number % 3,), (chain[(number + place) % 6],)) for place in range(length)]
        elements.append(Slot(((number + 1) % 3, (number + 2) % 3), ("CRY",)))
        elements += [Slot(((number + 2) % 3,), (chain[(2 * number + place) % 6],)) for place in range(2 * (number % 2))]
    elements += [DataSlot((encoder("angle", 3, 3),)), Slot((1,), ("RX",))]  # a last segment without a pair
    program = Program(3, tuple(elements))
    parameters, mixture, _ = random_weights(program)
    expected, _ = average_over_circuits(program, parameters, mixture, [], samples())
    state = engine.run(program, parameters, inputs=samples())
    assert float(((pauli_vector(state) if engine.local == 2 else state) - expected).abs().max()) < 1e-12


def test_programs_without_slots_without_pairs_and_without_anything(average_over_circuits):
    inputs = samples()
    for elements in (
        (),
        (DataSlot((encoder("angle_ryz", 2, 3),)),),
        (Slot((1,), ("H",)),),
        (DataSlot((encoder("angle", 2, 3),)), DataSlot((encoder("angle_rx", 2, 3),))),
    ):
        program = Program(2, elements)
        mixture = torch.ones(len(program.slots))
        expected, _ = average_over_circuits(program, torch.zeros(0), mixture, [], inputs)
        for engine in (StatevectorEngine(), ChannelEngine()):
            state = engine.run(program, torch.zeros(0, dtype=torch.float64), inputs=inputs)
            vector = pauli_vector(state) if engine.local == 2 else state
            assert float((vector - expected).abs().max()) < 1e-12


@pytest.mark.parametrize("engine", [StatevectorEngine(), ChannelEngine()])
def test_what_does_not_fit_the_program_is_refused(engine, random_weights):
    parameters, mixture, data = random_weights(DATA)
    with pytest.raises(SpaceError, match="has 5 angles; it was given 3"):
        engine.run(DATA, parameters[:3], mixture, data, samples())
    with pytest.raises(SpaceError, match="needs a weight for each"):
        engine.run(DATA, parameters, None, data, samples())
    with pytest.raises(SpaceError, match="has 7 candidate gates but 6 weights"):
        engine.run(DATA, parameters, mixture[:-1], data, samples())
    with pytest.raises(SpaceError, match="data slots with several candidates"):
        engine.run(DATA, parameters, mixture, [], samples())
    with pytest.raises(SpaceError, match=r"data slots have \[3, 3\] candidates but \[3\] weights"):
        engine.run(DATA, parameters, mixture, data[:1], samples())
    with pytest.raises(SpaceError, match="encodes data; it needs inputs"):
        engine.run(DATA, parameters, mixture, data, None)


# -- Without pairs ---------------------------------------------------------------------------------------------------

# Parts before, between and after data: lone wires only, one pair only, nothing at all.
PAIR_FREE = Program(
    3,
    (
        Slot((0,), ("RX", "H")),
        Slot((2,), ("RY",)),
        Slot((0,), ("U3", "I")),
        DataSlot((encoder("angle", 3, 2), None)),
        DataSlot((encoder("angle_rx", 3, 2),)),
        Slot((1,), ("I", "T")),
        DataSlot((encoder("angle_ry", 3, 2),)),
        Slot((2, 0), ("CNOT", "I")),
    ),
)


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("noise", [None, NOISE["uniform"]])
def test_parts_without_pairs_are_the_average_too(noise, window, random_weights, average_over_circuits):
    parameters, mixture, data = random_weights(PAIR_FREE)
    inputs = torch.rand(2, 2, dtype=torch.float64)
    state = ChannelEngine(noise, window=window).run(PAIR_FREE, parameters, mixture, data, inputs)
    expected, n_circuits = average_over_circuits(PAIR_FREE, parameters, mixture, data, inputs, noise)
    assert n_circuits == 2**5
    torch.testing.assert_close(state, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("window", [2, 4])
@pytest.mark.parametrize("memory", ["store", "recompute"])
def test_parts_without_pairs_agree_between_the_engines(window, memory, one_hot, random_weights):
    """At one-hot weights, in the precision of a search, and after a pass in inference mode."""
    parameters = random_weights(PAIR_FREE, dtype=torch.float32)[0].requires_grad_()
    engines = StatevectorEngine(window, memory), ChannelEngine(window=window, memory=memory)
    inputs = torch.rand(2, 2)
    for seed in range(4):
        choices, data_choices, mixture, data = one_hot(PAIR_FREE, seed)
        circuit, kept = PAIR_FREE.circuit(choices, data_choices)
        results = []
        for engine in engines:
            with torch.inference_mode():
                engine.run(PAIR_FREE, parameters, mixture, data, inputs)
            state = engine.run(PAIR_FREE, parameters, mixture, data, inputs)
            results.append(pauli_vector(state) if engine.local == 2 else state)
        torch.testing.assert_close(*results, atol=2e-6, rtol=0)
        weights = parameters.detach()[list(kept)].tolist()
        for sample, column in zip(inputs, results[1].T, strict=True):
            exact = circuit.unitary(weights, sample.tolist())[:, :1]
            torch.testing.assert_close(column[:, None].double(), pauli_vector(exact), atol=2e-6, rtol=0)
        gradients = [torch.autograd.grad(result[5].sum() + result[-1].sum(), parameters)[0] for result in results]
        torch.testing.assert_close(*gradients, atol=1e-5, rtol=0)


def test_a_plan_without_pairs_multiplies_the_gates_of_every_wire():
    """No pair among the slots: one window holds the products of both wires."""
    plan = FusionPlan(2, [Placed(0, (0,)), Placed(1, (1,)), Placed(2, (0,))], 2)
    single = torch.randn(3, 2, 2, dtype=torch.complex128)
    state = torch.eye(4, dtype=torch.complex128)
    for wires, matrix in zip(plan.windows, plan.matrices(single, single.new_zeros(0, 4, 4)), strict=True):
        whole = matrix
        if len(wires) == 1:
            eye = torch.eye(2, dtype=single.dtype)
            whole = torch.kron(matrix, eye) if wires == (0,) else torch.kron(eye, matrix)
        state = whole @ state
    torch.testing.assert_close(state, torch.kron(single[2] @ single[0], single[1]))
