"""The benchmark of circuits: contenders compute the same, workers answer, and ratios are what they should be."""

from __future__ import annotations

import importlib
import warnings

import pytest
import torch

from benchmarks.quantum.cases import Case, Numbers, Step
from benchmarks.quantum.measuring import CONTENDERS, measure
from benchmarks.quantum.report import geometric_means, table

SMALL = {kind: Case(kind, 3, 2) for kind in ("supercircuit", "circuit")}


@pytest.fixture(scope="module")
def torchquantum() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("torchquantum")


def step_of(name: str, case: Case) -> Step:
    module = importlib.import_module(f"benchmarks.quantum.contenders.{name}")
    step = module.prepare(case, Numbers.of(case))
    first, second = step(), step()
    assert torch.equal(first.gradients, second.gradients)  # nothing accumulates
    return second


@pytest.mark.parametrize("kind", ["supercircuit", "circuit"])
def test_contenders_of_this_environment_compute_the_same(kind: str, torchquantum: None) -> None:
    ours = step_of("ours", SMALL[kind])
    candidates = {"supercircuit": 12 * 6 + 8 * 4, "circuit": 12 * 3}[kind]  # angles: 6 per wire, 4 per pair; 3 of Rot
    assert ours.gradients.shape == (candidates + (20 * 5 if kind == "supercircuit" else 0),)
    for name in {"supercircuit": ("torchquantum", "mixed_matrices"), "circuit": ("torchquantum", "ours_double")}[kind]:
        theirs = step_of(name, SMALL[kind])
        torch.testing.assert_close(theirs.outputs, ours.outputs, atol=1e-5, rtol=0)
        torch.testing.assert_close(theirs.gradients, ours.gradients, atol=1e-5, rtol=0)


def test_a_cell_is_measured_in_processes_of_its_own() -> None:
    found = measure(Case("circuit", 2, 2), ["ours"], turns=1, memory=2**30)["ours"]
    assert found["off_outputs"] == found["off_gradients"] == 0
    assert found["steps"] >= 1
    assert 0 < found["cpu"] < 5
    assert found["peak"] is None or found["peak"] > found["added"] > 0


def test_what_would_take_too_much_is_passed_over() -> None:
    large = Case("supercircuit", 12, 256)
    assert "GiB" in str(CONTENDERS["torchquantum"].reason_to_pass(large, 4 * 2**30))
    assert CONTENDERS["ours"].reason_to_pass(large, 4 * 2**30) is None
    assert CONTENDERS["lightning"].reason_to_pass(Case("circuit", 8, 128), 2**40) == "takes the samples one by one"


def test_means_are_geometric_and_over_the_cells_that_both_computed() -> None:
    def cell(batch: int, ours: float, theirs: float | None) -> dict[str, object]:
        entries = {"ours": ours, "torchquantum": theirs}
        contenders = {
            name: {"passed": "8 GiB"} if cpu is None else {"cpu": cpu, "wall": 2 * cpu, "added": 2**20}
            for name, cpu in entries.items()
        }
        return {"kind": "circuit", "n_wires": 4, "batch": batch, "contenders": contenders}

    cells = [cell(1, 0.001, 0.002), cell(2, 0.001, 0.008), cell(3, 0.001, None)]
    assert geometric_means(cells, "cpu") == {"torchquantum": pytest.approx(4.0)}
    lines = list(table(cells, "circuit"))
    assert lines[2] == "| 4, 1 | 1.0 ms, 1 MiB | 2.0 ms (2.0x), 1 MiB |"
    assert lines[4] == "| 4, 3 | 1.0 ms, 1 MiB | - (8 GiB) |"
    assert lines[5] == "| geometric mean |  | 4.0x |"
    assert list(table(cells, "supercircuit")) == []
