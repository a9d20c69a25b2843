"""Energies, states, cuts and unitaries from searched circuits: every experiment runs, and reaches what it is for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from benchmarks.quantum_physics import GOALS, RESULTS, run, table
from darts_hpo.cli import config_dir
from darts_hpo.config import build, register_resolvers, typed_config
from darts_hpo.export import load_bundle
from darts_hpo.pipeline import run_pipeline
from darts_hpo.training.task import Task
from quantum.export.files import load_circuit
from quantum.network import QuantumNetwork
from quantum.tasks.ground_state import GroundState
from quantum.tasks.maxcut import MaxCut
from quantum.tasks.preparation import StatePreparation
from quantum.tasks.unitary import UnitaryRecovery

QUICK = ("search.epochs=2", "search.weights_only_epochs=0", "retrain.epochs=2", "retrain.validate_every=1")
TARGETS = [name for name, goal in GOALS.items() if goal.wanted is not None]
SEEDS = range(5)


@pytest.mark.parametrize("experiment", GOALS)
@pytest.mark.filterwarnings("ignore::Warning:pytorch_lightning")
def test_an_experiment_runs_through_and_its_circuit_gives_the_score(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Its figures are tested elsewhere and would take most of the time.
    monkeypatch.setattr("darts_hpo.report.write_report", lambda *_: None)
    register_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        steps = "task.steps_per_epoch=3"
        config = compose("train", overrides=[f"+experiment={experiment}", *QUICK, steps, "reference=false", "run=x"])
    run_pipeline(typed_config(config, run_dir=str(tmp_path)))

    metrics = json.loads((tmp_path / "metrics.json").read_text())
    found, goal = metrics["found"], GOALS[experiment]
    assert math.isfinite(found["test"][goal.metric])
    network = load_bundle(tmp_path / "export" / "bundle.pt").network
    circuit, weights = load_circuit(tmp_path / "export" / "circuit.json")
    assert isinstance(network, QuantumNetwork)
    assert network.circuit == circuit
    assert found["costs"]["two_qubit"] == circuit.n_two_qubit
    measured = next(found["test"][name] for name in ("energy", "cut", "fidelity") if name in found["test"])
    assert measured == pytest.approx(_score(build(config.task), circuit.unitary(weights)), abs=1e-5)


def _score(task: Task, unitary: Tensor) -> float:
    """A circuit's score once more, from its matrix: an expectation or a fidelity by its textbook formula."""
    state = unitary[:, 0]
    if isinstance(task, UnitaryRecovery):
        overlaps = task.unitary.mH @ unitary
        if torch.equal(task.batches(0)["test"].inputs, torch.eye(len(unitary), dtype=task.complex_dtype)):
            return float(overlaps.diagonal().abs().square().mean())
        # The average gate fidelity: https://arxiv.org/abs/quant-ph/0205035, equation 3.
        size = len(unitary)
        return (float(overlaps.trace().abs()) ** 2 / size + 1) / (size + 1)
    if isinstance(task, StatePreparation):
        return float((task.target.conj() @ state).abs().square())
    if isinstance(task, MaxCut):
        return float(torch.from_numpy(task.graph.cuts()) @ state.abs().square())
    assert isinstance(task, GroundState)
    return float((state.conj() @ task.hamiltonian.matrix() @ state).real)


def test_the_committed_results_reach_the_goals():
    done = json.loads(RESULTS.read_text())
    for experiment in TARGETS:
        goal = GOALS[experiment]
        for seed in SEEDS:
            result = done[f"{experiment}/{seed}"]
            assert goal.reached(result["found"]["test"][goal.metric]), (experiment, seed)
    assert all(done[f"quantum_h2/{seed}"]["found"]["costs"]["two_qubit"] <= 2 for seed in SEEDS)


def test_the_table_has_a_line_per_experiment():
    def result(value: float) -> dict[str, Any]:
        network = {"test": {"error_mha": value}, "costs": {"two_qubit": 1.0}}
        return {"found": network, "reference": None, "seconds": 9.0}

    done = {"quantum_h2/0": result(0.5), "quantum_h2/1": result(2.5)}
    _, line = table(done, list(GOALS), [0, 1, 2])
    words = "quantum_h2 error_mha 2.50000 1.50000 - 0.0 1.6: 1 of 2 1.0 - 9"
    assert line.split() == words.split()


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("experiment", TARGETS)
def test_a_searched_circuit_reaches_the_goal(experiment: str, seed: int):
    result = run(experiment, seed, ["reference=false"])
    goal = GOALS[experiment]
    assert goal.reached(result["found"]["test"][goal.metric]), result
    if experiment == "quantum_h2":
        assert result["found"]["costs"]["two_qubit"] <= 2
