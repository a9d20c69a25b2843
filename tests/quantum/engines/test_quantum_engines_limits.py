"""Precision, modes of autograd, what is kept of encoded data, and what is refused."""

import copy
import gc
import pickle
import weakref

import pytest
import torch

from darts_hpo.errors import ConfigError, SpaceError
from quantum.circuit import Input, Operation
from quantum.encoders import encoder
from quantum.engines import ChannelEngine, StatevectorEngine, TorchQuantumEngine, pure_state_engine
from quantum.noise import UniformNoise
from quantum.program import DataSlot, Encoding, Program, Slot

PROGRAM = Program(
    3,
    (
        DataSlot((encoder("angle", 3, 3),)),
        Slot((0,), ("RX", "H")),
        Slot((0, 2), ("CNOT", "CRZ")),
        DataSlot((encoder("angle_ryz", 3, 3),)),
        Slot((1,), ("U3", "I")),
    ),
)
ENGINES = [StatevectorEngine, ChannelEngine, lambda: ChannelEngine(UniformNoise(0.01, 0.1))]


def weights(random_weights, dtype=torch.float32):
    return random_weights(PROGRAM, dtype=dtype)[:2]


# -- Encoded data ----------------------------------------------------------------------------------------------------


class Counting(StatevectorEngine):
    count = 0

    def encoded(self, *arguments):
        self.count += 1
        return super().encoded(*arguments)


def run(engine, inputs, random_weights, dtype=torch.float32):
    return engine.run(PROGRAM, *weights(random_weights, dtype), (), inputs)


def test_a_batch_is_encoded_once(random_weights):
    engine, inputs = Counting(), torch.rand(4, 3)
    first = run(engine, inputs, random_weights)
    assert torch.equal(run(engine, inputs, random_weights), first)
    assert engine.count == 1
    run(engine, inputs.clone(), random_weights)  # equal in value, but another batch
    assert engine.count == 2
    run(engine, inputs, random_weights, torch.float64)  # in another precision
    assert engine.count == 3


def test_a_batch_that_was_changed_is_encoded_again(random_weights):
    engine, inputs = Counting(), torch.rand(4, 3)
    run(engine, inputs, random_weights)
    inputs.add_(0.5)
    changed = run(engine, inputs, random_weights)
    assert engine.count == 2
    torch.testing.assert_close(changed, run(StatevectorEngine(), inputs.clone(), random_weights))


def test_data_that_want_a_gradient_are_never_kept(random_weights):
    engine, inputs = Counting(), torch.rand(4, 3, requires_grad=True)
    for _ in range(2):
        state = run(engine, inputs, random_weights)
        (gradient,) = torch.autograd.grad(state.abs()[0].sum(), inputs)
        assert bool((gradient != 0).any())
    assert engine.count == 2


def test_what_is_kept_goes_with_the_batch(random_weights):
    engine, inputs = StatevectorEngine(), torch.rand(4, 3)
    run(engine, inputs, random_weights)
    assert len(engine._encoded._batches) == 1
    del inputs
    gc.collect()
    assert len(engine._encoded._batches) == 0


def test_writing_to_a_state_does_not_reach_what_is_kept():
    engine, inputs, encoding = StatevectorEngine(), torch.rand(4, 3), Program(3, (DataSlot((encoder("angle", 3, 3),)),))
    first = engine.run(encoding, torch.zeros(0), inputs=inputs)
    expected = first.clone()
    first.zero_()
    assert torch.equal(engine.run(encoding, torch.zeros(0), inputs=inputs), expected)


def test_what_is_kept_goes_with_the_engine(random_weights):
    engine, inputs = StatevectorEngine(), torch.rand(4, 3)
    run(engine, inputs, random_weights)
    kept = weakref.ref(engine._encoded)
    gc.disable()  # at once, not when cycles are looked for
    try:
        del engine
        assert kept() is None
    finally:
        gc.enable()


def test_copies_keep_nothing_and_compute_the_same(random_weights):
    engine, inputs = StatevectorEngine(), torch.rand(4, 3)
    expected = run(engine, inputs, random_weights)
    for other in (copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))):
        assert len(other._encoded._batches) == 0
        assert torch.equal(run(other, inputs, random_weights), expected)


# -- Precision and modes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ENGINES)
def test_what_was_made_in_inference_mode_does_not_disturb_training(make, random_weights):
    engine, inputs = make(), torch.rand(4, 3)
    parameters, mixture = weights(random_weights)
    with torch.inference_mode():
        expected = engine.run(PROGRAM, parameters, mixture, (), inputs).clone()
        other = engine.run(PROGRAM, parameters, mixture, (), torch.rand(4, 3))  # a batch that was made there, too
    assert other.shape == expected.shape
    parameters.requires_grad_()
    state = engine.run(PROGRAM, parameters, mixture, (), inputs)
    torch.testing.assert_close(state, expected.clone())
    state.abs().square().sum(dim=1)[0].backward()
    assert bool(parameters.grad.isfinite().all())


@pytest.mark.parametrize("make", ENGINES)
def test_the_angles_decide_the_precision_and_autocast_does_not(make, random_weights):
    engine, inputs = make(), torch.rand(4, 3, dtype=torch.float64)
    results = {}
    for dtype in (torch.float32, torch.float64):
        results[dtype] = engine.run(PROGRAM, *weights(random_weights, dtype), (), inputs)
        real = results[dtype].real if engine.local == 2 else results[dtype]
        assert real.dtype == dtype
    double = results[torch.float64]
    single = results[torch.float32].to(double.dtype)
    assert 1e-9 < float((single - double).abs().max()) < 2e-6
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(engine.run(PROGRAM, *weights(random_weights), (), inputs), results[torch.float32])


@pytest.mark.parametrize("make", ENGINES)
def test_half_precision_is_refused_with_the_remedy(make, random_weights):
    with pytest.raises(ConfigError, match=r"trainer\.precision=32-true"):
        make().run(PROGRAM, *weights(random_weights, torch.bfloat16), (), torch.rand(4, 3))


def test_complex_amplitudes_are_inputs_too():
    program = Program(2, (DataSlot((encoder("amplitude", 2, 4),)), Slot((0,), ("X",))))
    inputs = torch.randn(3, 4, dtype=torch.complex64)
    inputs = inputs / inputs.norm(dim=1, keepdim=True)
    state = StatevectorEngine().run(program, torch.zeros(0), inputs=inputs)
    torch.testing.assert_close(state.T, inputs[:, [2, 3, 0, 1]])


@pytest.mark.parametrize("engine", [StatevectorEngine(), ChannelEngine(), TorchQuantumEngine()])
def test_complex_samples_are_no_angles(engine):
    program = Program(2, (DataSlot((encoder("angle", 2, 4),)),))
    with pytest.raises(SpaceError, match=r"encoder 'angle' takes real angles; use supernet\.encoder=amplitude"):
        engine.run(program, torch.zeros(0), inputs=torch.ones(3, 4, dtype=torch.complex64))


def test_encodings_may_hold_fixed_gates_and_gates_on_two_wires():
    operations = (Operation("H", (0,)), Operation("CRY", (0, 1), (Input(0),)), Operation("U3", (1,), (0.3, 0.2, 0.1)))
    program = Program(2, (DataSlot((Encoding("mine", operations),)), Slot((0,), ("T",))))
    inputs = torch.rand(3, 1, dtype=torch.float64)
    state = StatevectorEngine().run(program, torch.zeros(0, dtype=torch.float64), inputs=inputs)
    circuit, _ = program.circuit([0], [0])
    for sample, column in zip(inputs, state.T, strict=True):
        torch.testing.assert_close(column, circuit.unitary([], sample.tolist())[:, 0])


# -- Limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [StatevectorEngine(), TorchQuantumEngine()])
def test_more_wires_than_memory_states_the_bytes(engine):
    with pytest.raises(SpaceError, match=f"A batch of 3 states of 38 wires takes {3 * 2**38 * 8:,} bytes"):
        engine.run(
            Program(38, (DataSlot((encoder("angle", 38, 1),)), Slot((37,), ("H",)))),
            torch.zeros(0),
            inputs=torch.zeros(3, 1),
        )
    with pytest.raises(SpaceError, match=r"2\*\*500 amplitudes fits in no memory"):
        engine.run(Program(500, ()), torch.zeros(0))


def test_double_precision_takes_twice_the_bytes():
    with pytest.raises(SpaceError, match=f"takes {2**38 * 16:,} bytes"):
        StatevectorEngine().run(Program(38, ()), torch.zeros(0, dtype=torch.float64))


def test_the_channel_engine_names_the_alternative_beyond_its_limit():
    with pytest.raises(SpaceError, match=r"up to 6 wires and was given 7.*4\*\*7.*supernet\.mixing=lcu"):
        ChannelEngine().run(Program(7, ()), torch.zeros(0))
    assert ChannelEngine(max_wires=7).run(Program(7, ()), torch.zeros(0)).shape == (4**7, 1)
    with pytest.raises(SpaceError, match=f"density matrices of 20 wires takes {4**20 * 4:,} bytes"):
        ChannelEngine(max_wires=20).run(Program(20, ()), torch.zeros(0))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StatevectorEngine(window=1), "window=1: expected at least 2"),
        (lambda: StatevectorEngine(memory="recomput"), "Did you mean 'recompute'"),
        (lambda: ChannelEngine(max_wires=0), "max_wires=0: expected at least 1"),
        (lambda: pure_state_engine("torchquantm"), "Did you mean 'torchquantum'"),
        (lambda: pure_state_engine("torchquantum", "recompute"), "use supernet.memory=store with it"),
        (lambda: TorchQuantumEngine().run(Program(1, ()), torch.zeros(0, dtype=torch.float64)), "complex64 only"),
    ],
)
def test_settings_out_of_range_are_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


@pytest.mark.parametrize("engine", [StatevectorEngine(), ChannelEngine()])
def test_samples_that_are_no_states_are_refused(engine):
    program = Program(2, (DataSlot((encoder("amplitude", 2, 4),)),))
    with pytest.raises(ConfigError, match="A sample is all zeros"):
        engine.run(program, torch.zeros(0), inputs=torch.zeros(2, 4))
    with pytest.raises(ConfigError, match="holds 4 features on 2 wires, not 5"):
        engine.run(program, torch.zeros(0), inputs=torch.ones(2, 5))


def test_engines_are_chosen_by_name():
    assert isinstance(pure_state_engine("fused", "recompute"), StatevectorEngine)
    assert isinstance(pure_state_engine("torchquantum"), TorchQuantumEngine)
