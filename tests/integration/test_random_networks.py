"""Random architectures beside the found one, costs that do not decompose, and what a space hands in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from integration.commands import results
from integration.here import FAST, at_batch, metrics_of, run_here

from darts_hpo.cli import config_dir
from darts_hpo.costs import Flops, Parameters
from darts_hpo.errors import TrainingError
from darts_hpo.report import Figure
from supernets.toy.network import ToyNetwork, ToySupernet

SMALL = (*FAST, "search.epochs=1", "retrain.epochs=2", "trainer.threads=1")
FIRST_OF_RANDOM, OF_A_NETWORK = 2 * 4 + 2 * 4 + 1, 2 * 4
"""Batches, counted over all stages: train and arch batches of the search, then two epochs of the retraining."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run with two random networks."""
    folder = tmp_path_factory.mktemp("whole")
    done = run_here(folder, *SMALL, "run=whole", "random=2")
    assert done.code == 0, done.err
    assert "random (mean +- sd of 2)" in done.out
    assert re.search(r"Search, val accuracy: relaxed 0\.\d+, discretized 0\.\d+, gap [+-]0\.\d+", done.out)
    return folder / "runs/toy_darts/whole"


def genotypes(run_dir: Path) -> list[dict[str, str]]:
    files = sorted((run_dir / "random").glob("*/genotype.json"), key=lambda path: int(path.parent.name))
    return [json.loads(path.read_text())["choices"] for path in files]


def test_random_networks_are_trained_measured_and_recorded(whole: Path):
    metrics = metrics_of(whole)
    assert len(metrics["random"]) == 2
    assert [network["genotype"] for network in metrics["random"]] == genotypes(whole)
    for number, network in enumerate(metrics["random"]):
        assert network.keys() == metrics["found"].keys()
        assert network["costs"].keys() == metrics["found"]["costs"].keys()
        assert {"best.ckpt", "last.ckpt", "metrics.csv"} <= {p.name for p in (whole / f"random/{number}").iterdir()}
    assert metrics["cost_labels"] == {
        "params_train": "Parameters, train form",
        "params_deployed": "Parameters, deployed",
    }
    stages = list(metrics["stages"])
    assert stages.index("export") < stages.index("random"), "what was found is delivered first"
    page = (whole / "report.html").read_text()
    assert "Random architectures, found and reference" in page


def test_the_relaxed_score_stands_beside_the_discretized_one(whole: Path):
    search = metrics_of(whole)["search"]
    gap = search["relaxed_val"]["accuracy"] - search["discretized_val"]["accuracy"]
    assert search["discretization_gap"] == pytest.approx(gap)


@pytest.mark.parametrize("finished", [0, 1])
def test_a_run_that_broke_among_random_networks_continues_bit_equally(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, finished: int
):
    run_dir = tmp_path / "runs/toy_darts/broken"

    def fail(terms: Mapping[str, Any]) -> None:
        raise TrainingError("lost")

    with monkeypatch.context() as defect:
        second_epoch = FIRST_OF_RANDOM + finished * OF_A_NETWORK + 5
        at_batch(defect, second_epoch, fail)
        assert run_here(tmp_path, *SMALL, "run=broken", "random=2").code != 0
    assert len(metrics_of(run_dir)["random"]) == finished
    assert (run_dir / f"random/{finished}/last.ckpt").exists(), "one epoch of it is done"
    assert genotypes(run_dir) == genotypes(whole), "recorded before anything is trained"
    done = run_here(tmp_path, *SMALL, "run=broken", "random=2")
    assert done.code == 0, done.err
    assert results(run_dir) == results(whole)


def test_random_networks_can_be_added_to_a_finished_run(tmp_path: Path, whole: Path):
    run_dir = tmp_path / "runs/toy_darts/a"
    assert run_here(tmp_path, *SMALL, "run=a", "random=1").code == 0
    first = metrics_of(run_dir)["random"]
    done = run_here(tmp_path, *SMALL, "run=a", "random=2")
    assert done.code == 0, done.err
    assert "Searching" not in done.out
    assert metrics_of(run_dir)["random"][:1] == first
    assert results(run_dir) == results(whole)
    fewer = run_here(tmp_path, *SMALL, "run=a", "random=0")
    assert "is finished" in fewer.out
    assert len(metrics_of(run_dir)["random"]) == 2, "what was measured stays"


def test_a_random_network_that_was_trained_already_is_not_trained_again(tmp_path: Path):
    fixed = [f"search.fixed.stage{n}.op=skip" for n in (2, 3, 4)]
    done = run_here(tmp_path, *SMALL, *fixed, "run=a", "random=5")
    assert done.code == 0, done.err
    metrics = metrics_of(tmp_path / "runs/toy_darts/a")
    assert len({network["genotype"]["stage1.op"] for network in metrics["random"]}) == 5
    assert done.out.count("Training a random network") == 4
    assert metrics["found"] in metrics["random"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["random=-1"], r"random=-1: expected a number of at least 0"),
        (["random=many"], r"random='many': expected a value of type int"),
        (["random=9", *(f"search.fixed.stage{n}.op=skip" for n in (2, 3, 4))], r"no more than 5 architectures"),
        (["random=1", *(f"search.fixed.stage{n}.op=skip" for n in (1, 2, 3, 4))], r"every choice is fixed"),
    ],
    ids=["negative", "text", "too many", "fixed"],
)
def test_a_number_that_cannot_be_is_refused_before_any_training(tmp_path: Path, arguments: list[str], message: str):
    refused = run_here(tmp_path, *SMALL, *arguments)
    assert refused.code == 1
    assert re.search(f"^error: .*{message}", refused.err), refused.err
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_trials_of_a_sweep_train_no_random_networks():
    params = yaml.safe_load((config_dir() / "hydra/sweeper/botorch.yaml").read_text())["params"]
    assert (params["reference"], params["random"]) == (False, 0)


# Costs


def test_a_cost_of_whole_networks_is_measured_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Flops, "decomposes", False)
    monkeypatch.setattr(Flops, "label", "Work")
    arguments = [argument for argument in SMALL if argument != "costs.gflops=null"]
    done = run_here(tmp_path, *arguments, "run=a", "random=1", "objective=[search,gflops]")
    assert done.code == 0, done.err
    run_dir = tmp_path / "runs/toy_darts/a"
    assert "gflops" not in json.loads((run_dir / "search/costs.json").read_text())
    assert metrics_of(run_dir)["search"]["costs"]["gflops"] > 0
    done = run_here(tmp_path, *arguments, "run=a", "random=1")
    assert done.code == 0, done.err
    metrics = metrics_of(run_dir)
    assert metrics["found"]["costs"]["gflops"] == metrics["search"]["costs"]["gflops"]
    assert metrics["random"][0]["costs"]["gflops"] >= 0
    assert re.search(r"│ Work +│", done.out)
    assert "<td>Work</td>" in (run_dir / "report.html").read_text()


def test_a_cost_without_expectation_cannot_be_penalized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Flops, "decomposes", False)
    arguments = [argument for argument in SMALL if argument != "costs.gflops=null"]
    refused = run_here(tmp_path, *arguments, "penalty=flops")
    assert refused.code == 1
    assert re.search(
        r"penalty\.cost: 'flops' is measured on whole networks.*that decompose: parameters", refused.err
    ), refused.err


def test_a_cost_that_does_not_apply_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Parameters, "applies_to", lambda self, network: not isinstance(network, ToyNetwork))
    done = run_here(tmp_path, *SMALL, "run=a", "objective=search")
    assert done.code == 0, done.err
    assert "costs.params does not apply to a network of toy and is left out" in done.out
    assert metrics_of(tmp_path / "runs/toy_darts/a")["search"]["costs"] == {}


# What a space hands in


def test_files_and_pictures_of_the_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def export_files(self: ToySupernet, network: torch.nn.Module, folder: Path) -> Mapping[str, Any]:
        assert isinstance(network, ToyNetwork)
        assert not network.training
        assert not (folder / "bundle.pt").exists()
        (folder / "network.txt").write_text(str(network))
        return {"lines": 7}

    def figures(self: ToySupernet, network: torch.nn.Module) -> list[Figure]:
        assert isinstance(network, ToyNetwork)
        return [Figure("A drawing of it", "Boxes. A bad sign: none.", svg="<svg xmlns='http://www.w3.org/2000/svg'/>")]

    monkeypatch.setattr(ToySupernet, "export_files", export_files)
    monkeypatch.setattr(ToySupernet, "figures", figures)
    done = run_here(tmp_path, *SMALL, "run=a")
    assert done.code == 0, done.err
    run_dir = tmp_path / "runs/toy_darts/a"
    assert metrics_of(run_dir)["export"] == {"lines": 7}
    assert (run_dir / "export/network.txt").exists()
    page = (run_dir / "report.html").read_text()
    assert page.index("The architecture found") < page.index("A drawing of it")
    assert "export/network.txt" in page
