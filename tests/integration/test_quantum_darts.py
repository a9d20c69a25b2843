"""The circuit search through the command line: what it leaves, kills, sweeps, and what a person can get wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from integration.commands import killed, results, run

from darts_hpo.cli import config_dir
from darts_hpo.config import build, register_resolvers, typed_config
from darts_hpo.errors import ConfigError, DartsHPOError
from darts_hpo.export import load_bundle
from darts_hpo.pipeline.assembly import assemble, check_training
from darts_hpo.pipeline.seeds import Seeds
from quantum.export.files import load_circuit

SMALL = (
    "+experiment=quantum_darts",
    "search.epochs=3",
    "search.weights_only_epochs=1",
    "retrain.epochs=2",
    "supernet.n_layers=2",
    "random=1",
    "costs.device_depth=null",  # importing Qiskit takes seconds
)
# Draws of gates are part of what must continue.
SAMPLED = ("relaxation=gumbel", "relaxation.draws=2")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("circuits")
    done = run(folder, *SMALL, *SAMPLED, "run=whole")
    assert done.returncode == 0, done.stderr
    return folder / "runs/quantum_darts/whole"


def test_a_run_leaves_the_circuit_and_its_scores(finished: Path):
    for name in ("circuit.json", "circuit.svg", "circuit.qasm", "circuit_qasm3.qasm", "bundle.pt"):
        assert (finished / "export" / name).exists(), name
    metrics = json.loads((finished / "metrics.json").read_text())
    for network in (metrics["found"], metrics["reference"], *metrics["random"]):
        assert {"accuracy", "accuracy_noisy"} <= set(network["test"])
        assert {"two_qubit", "depth", "success"} <= set(network["costs"])
    assert metrics["export"]["trainability"]["mean"] > 0
    report = (finished / "report.html").read_text()
    assert "The found circuit" in report


def test_the_bundle_is_the_exported_circuit(finished: Path):
    network = load_bundle(finished / "export/bundle.pt").network
    circuit, weights = load_circuit(finished / "export/circuit.json")
    assert circuit == network.circuit
    assert weights == network.weights.tolist()
    x = torch.rand(3, 16)
    state = network.state(x)
    for column, sample in enumerate(x.tolist()):
        expected = circuit.unitary(weights, sample)[:, 0]
        assert torch.allclose(state[:, column], expected.to(state.dtype), atol=1e-5)


def test_qiskit_reads_the_exported_circuit(finished: Path):
    import qiskit.qasm2
    import qiskit.qasm3
    from qiskit.quantum_info import Statevector, state_fidelity

    circuit, weights = load_circuit(finished / "export/circuit.json")
    older = qiskit.qasm2.load(finished / "export/circuit.qasm")
    newer = qiskit.qasm3.load(str(finished / "export/circuit_qasm3.qasm"))
    sample = torch.linspace(0.1, 1.5, 16).tolist()
    newer = newer.assign_parameters({p: sample[int(p.name.removeprefix("x_"))] for p in newer.parameters})
    # OpenQASM 2 has no inputs: that file is bound to zeros.
    for text, inputs in ((older, [0.0] * 16), (newer, sample)):
        expected = Statevector(circuit.unitary(weights, inputs)[:, 0].numpy())
        # Qiskit's first qubit is the least significant bit of an index, ours the most significant.
        state = Statevector(text.remove_final_measurements(inplace=False)).reverse_qargs()
        assert state_fidelity(state, expected) == pytest.approx(1.0, abs=1e-9)


def test_a_killed_search_of_sampled_circuits_continues_bit_equally(finished: Path):
    folder, directory = finished.parents[2], finished.parent / "killed"
    for moment in (("search", 1, 4), ("search", 2, "checkpoint"), ("retrain", 1, 2), ("0", 0, 3)):
        assert killed(folder, moment, *SMALL, *SAMPLED, "run=killed"), moment
    done = run(folder, *SMALL, *SAMPLED, "run=killed")
    assert done.returncode == 0, done.stderr
    assert results(directory) == results(finished)


@pytest.mark.parametrize(
    "optimizer",
    [
        # Adam's lr and betas, and SGD's lr and momentum.
        (
            "search.optimizer.beta2=interval(0.9,0.9999)",
            "retrain.optimizer.beta2=${search.optimizer.beta2}",
        ),
        ("search.optimizer.name=sgd", "retrain.optimizer.name=sgd"),
    ],
    ids=["adam", "sgd"],
)
def test_the_outer_loop_tunes_the_optimizer(tmp_path: Path, optimizer: tuple[str, ...]):
    done = run(
        tmp_path,
        "-m",
        *SMALL,
        "objective=search",
        "search.epochs=2",
        "hydra/sweeper=botorch",
        "hydra/sweeper/sampler=random",
        "lr=tag(log, interval(1e-3, 1e-1))",
        "momentum=interval(0.5, 0.95)",
        *optimizer,
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.replicates.top=0",
        "hydra.sweeper.report=false",
        "hydra.sweep.dir=sweep",
    )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in (tmp_path / "sweep/journal.jsonl").read_text().splitlines()]
    asked = [event["point"] for event in events if event["event"] == "ask"]
    told = [event for event in events if event["event"] == "tell"]
    assert len(asked) == 2
    assert {"lr", "momentum"} <= set(asked[0])
    assert [event["state"] for event in told] == ["COMPLETED", "COMPLETED"]


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("supernet.two_qubit=[I,CNOTT]", "CNOT"),
        ("supernet.one_qubit=[I,CNOT]", "acts on 2 wires"),
        ("supernet.topology=[[0,4]]", "wires count from 0 to 3"),
        ("supernet.topology=line", "chain"),
        ("supernet.encoder=4x4_ryzx", "4x4_ryzxy"),
        ("noise=none supernet.n_wires=8", "mixing=lcu"),
        ("supernet.mixing=lcuu", "lcu"),
        ("supernet.noise.device=manilla", "manila"),
        ("supernet.head=lin", "linear"),
        ("noise=none supernet.noisy=[training]", "needs a noise model"),
        ("supernet.reupload=sometimes", "search"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, mistake: str, said: str):
    register_resolvers()
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        config = typed_config(compose("train", overrides=[*SMALL, *mistake.split()]))
    task = build(config.task)
    task.prepare(tmp_path, 0)
    with pytest.raises(DartsHPOError, match=said):
        build(config.supernet, **task.network_arguments())


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("export.onnx=true", "export.onnx=false"),
        ("noise=none task.evaluations=[noisy] task.primary=accuracy_noisy", "noise=device"),
        ("task.evaluations=[shots]", "supernet.shots=NUMBER"),
        ("bilevel=unrolled", "search.optimizer.name=sgd"),
    ],
)
def test_what_would_fail_after_hours_is_refused_before_training(tmp_path: Path, mistake: str, said: str):
    register_resolvers()
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        config = typed_config(compose("train", overrides=[*SMALL, *mistake.split()]))
    task, seeds = build(config.task), Seeds(0)
    task.prepare(tmp_path, 0)
    parts = assemble(config, task, seeds)
    with pytest.raises(ConfigError, match=said):
        check_training(config, parts, seeds)


def test_a_mistake_leaves_nothing_behind(tmp_path: Path):
    done = run(tmp_path, *SMALL, "supernet.two_qubit=[I,CNOTT]", "run=wrong")
    assert done.returncode != 0
    assert "CNOT" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs/quantum_darts/wrong").exists()


@pytest.mark.parametrize(("wires", "said"), [(2, False), (3, True)])
def test_what_the_task_decides_is_said_where_it_was_set_otherwise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wires: int, said: bool
):
    register_resolvers()
    overrides = ["+experiment=quantum_h2", f"supernet.n_wires={wires}"]
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        config = typed_config(compose("train", overrides=overrides))
    task = build(config.task)
    task.prepare(tmp_path, 0)
    with caplog.at_level("INFO", "darts_hpo"):
        parts = assemble(config, task, Seeds(0))
    assert parts.supernet.n_wires == 2
    assert ("The task decides supernet.n_wires;" in caplog.text) == said
