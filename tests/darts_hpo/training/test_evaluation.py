"""Scoring a supernet itself: equal to the plain network at one-hot gates, and without a trace in the search."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from darts_hpo.errors import TrainingError
from darts_hpo.relaxations import Softmax
from darts_hpo.supernet import Gate, one_hot_gates
from darts_hpo.testing.supernet import random_choices, randomize_normalization
from darts_hpo.training.evaluation import evaluate_choices, evaluate_relaxed
from supernets.toy.network import ToySupernet
from supernets.toy.task import DigitsClassification

HOW: dict[str, Any] = {"device": torch.device("cpu"), "calibration_batches": 2, "batch_size": 64}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> DigitsClassification:
    task = DigitsClassification()
    task.prepare(tmp_path_factory.mktemp("run"), seed=0)
    return task


@pytest.fixture
def supernet() -> ToySupernet:
    supernet = ToySupernet(width=8)
    randomize_normalization(supernet)
    return supernet


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("batches", [0, 2])
def test_at_one_hot_gates_it_scores_as_the_discretized_network(task, supernet, seed: int, batches: int):
    choices = random_choices(supernet, seed)
    how = HOW | {"calibration_batches": batches}
    gates = one_hot_gates(supernet.space, choices)
    relaxed, discretized = (
        evaluate_relaxed(supernet, gates, task, **how),
        evaluate_choices(supernet, choices, task, **how),
    )
    assert relaxed == pytest.approx(discretized, abs=1e-6)


def test_the_search_goes_on_as_if_nothing_had_been_scored(task, supernet):
    relaxation = Softmax(supernet.space)
    supernet.train()
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    gates = relaxation.sample("eval", torch.Generator())
    first = evaluate_relaxed(supernet, gates, task, **HOW)
    assert supernet.training
    assert all(module.training for module in supernet.modules())
    assert all(torch.equal(before[key], value) for key, value in supernet.state_dict().items())
    assert all(parameter.grad is None for parameter in (*supernet.parameters(), *relaxation.parameters()))
    assert evaluate_relaxed(supernet, gates, task, **HOW) == first


def test_gates_that_require_a_gradient_are_only_read(task, supernet):
    weights = {name: torch.full((5,), 0.2, requires_grad=True) for name in supernet.space}
    gates = {name: Gate(weight, tuple(range(5))) for name, weight in weights.items()}
    plain = {name: Gate(weight.detach(), tuple(range(5))) for name, weight in weights.items()}
    assert evaluate_relaxed(supernet, gates, task, **HOW) == evaluate_relaxed(supernet, plain, task, **HOW)


def test_outputs_that_are_not_finite_are_no_score(task, supernet):
    with torch.no_grad():
        supernet.frame.classifier.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="not finite"):
        evaluate_relaxed(supernet, one_hot_gates(supernet.space, supernet.reference_choices()), task, **HOW)
