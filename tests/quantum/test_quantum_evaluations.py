"""Scores of a supercircuit and of its circuits mean the same under every setting of the noise."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darts_hpo.errors import ConfigError
from darts_hpo.supernet import one_hot_gates
from darts_hpo.testing.supernet import mixture_gates, random_choices
from darts_hpo.training.evaluation import evaluate, evaluate_choices, evaluate_relaxed
from quantum.noise import UniformNoise
from quantum.supercircuit import STAGES, Supercircuit
from quantum.tasks.classification import QuantumClassification
from quantum.tasks.datasets.labelled import LabelledData

CPU = torch.device("cpu")
HOW: dict[str, Any] = {"device": CPU, "calibration_batches": 0, "batch_size": 8}
NOISE = UniformNoise(0.02, 0.1, 0.02, readout=[0.05, 0.1])
SUBSETS = [subset for size in range(4) for subset in itertools.combinations(STAGES, size)]


def task_in(folder: Path, **settings: Any) -> QuantumClassification:
    rng = np.random.default_rng(0)
    data = LabelledData(rng.normal(size=(60, 3)), np.repeat([0, 1], 30), ("a", "b"))
    task = QuantumClassification(data, **settings)
    task.prepare(folder, 0)
    return task


def supercircuit(**settings: Any) -> Supercircuit:
    torch.manual_seed(0)
    small = {"n_inputs": 3, "n_outputs": 2, "n_wires": 3, "n_layers": 2, "encoder": "angle", "head": "scale"}
    return Supercircuit(**{**small, "head_scale": 4.0, "noise": NOISE, **settings})


@pytest.mark.parametrize("noisy", SUBSETS, ids="+".join)
def test_at_one_hot_gates_nothing_is_lost_by_discretizing(tmp_path: Path, noisy: tuple[str, ...]):
    task, supernet = task_in(tmp_path), supercircuit(noisy=noisy)
    choices = random_choices(supernet, 1)
    relaxed = evaluate_relaxed(supernet, one_hot_gates(supernet.space, choices), task, **HOW)
    discretized = evaluate_choices(supernet, choices, task, **HOW)
    assert relaxed == pytest.approx(discretized, abs=1e-5)
    assert ("loss_noisy" in relaxed) == bool({"training", "evaluation"} & set(noisy))
    ideal = evaluate_choices(supercircuit(noise=None), choices, task, **HOW)
    assert discretized["loss"] == pytest.approx(ideal["loss"], abs=1e-5)
    if "loss_noisy" in discretized:
        assert abs(discretized["loss_noisy"] - ideal["loss"]) > 1e-3


@torch.no_grad()
def test_noise_enters_losses_only_in_training_mode(tmp_path: Path):
    task, supernet = task_in(tmp_path), supercircuit(noisy=STAGES)
    gates, x = mixture_gates(supernet), torch.rand(5, 3)
    network = supernet.derive(supernet.genotype(supernet.reference_choices()))
    in_noise = {"supercircuit": supernet(x, gates), "circuit": network(x)}
    supernet.eval()
    network.eval()
    offered = supernet.with_gates(gates).evaluations()["noisy"]
    assert torch.equal(offered(x), in_noise["supercircuit"])
    assert torch.equal(network.evaluations()["noisy"](x), in_noise["circuit"])
    assert float((supernet(x, gates) - in_noise["supercircuit"]).abs().max()) > 0.01
    assert float((network(x) - in_noise["circuit"]).abs().max()) > 0.01
    assert {"accuracy", "accuracy_noisy"} <= set(evaluate(network, task, "test", device=CPU))


def test_a_noisy_metric_can_be_the_primary_one(tmp_path: Path):
    task = task_in(tmp_path, evaluations=["noisy"], primary="accuracy_noisy")
    supernet = supercircuit()
    assert "accuracy_noisy" in evaluate_relaxed(supernet, mixture_gates(supernet), task, **HOW)


def test_where_a_mixture_cannot_be_run_in_noise_its_score_is_missing_and_no_error(tmp_path: Path):
    task = task_in(tmp_path, evaluations=["noisy"], primary="accuracy_noisy")
    supernet = supercircuit(mixing="lcu")
    relaxed = evaluate_relaxed(supernet, mixture_gates(supernet), task, **HOW)
    assert set(relaxed) == {"accuracy", "loss"}
    assert "accuracy_noisy" in evaluate_choices(supernet, supernet.reference_choices(), task, **HOW)


def test_a_circuit_without_a_declared_evaluation_is_refused(tmp_path: Path):
    task, supernet = task_in(tmp_path, evaluations=["noisy"]), supercircuit(noisy=["search"])
    with pytest.raises(ConfigError, match="noisy"):
        task.require_network(supernet.derive(supernet.genotype(supernet.reference_choices())))
