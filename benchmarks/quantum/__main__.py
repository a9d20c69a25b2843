"""Training steps of circuits, beside TorchQuantum and PennyLane: time, memory, and whether all compute the same.

    python -m benchmarks.quantum environments       make PennyLane's environment, once
    python -m benchmarks.quantum                    measure, print the tables, write benchmarks/results/quantum.json
    python -m benchmarks.quantum report             print the tables again

A step is a forward and a backward pass, the encoding of a new batch included. ``supercircuit`` mixes five candidate
gates in every slot: TorchQuantum applies each to a copy of the state and mixes the states; ``mixed matrices`` mixes
TorchQuantum's matrices and applies the mixture with its fastest function. ``circuit`` is a plain one, also run by
PennyLane: ``default.qubit`` with the batch broadcast, and ``lightning.qubit`` with adjoint differentiation, which takes
the samples one by one. PennyLane's ``default.qubit`` computes in complex128 whatever it is given; ours in float64 is
shown beside it.

Everybody has one thread and a process of its own, and they take turns, so that other work on the machine slows them
alike; before that, their values and gradients are compared. Times are medians of processor time, which on a machine
without other work is what the clock on the wall says; the results hold both. Memory is the most that a process took
beyond what it had after its imports.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.environments import make, python_of
from benchmarks.quantum.cases import Case
from benchmarks.quantum.measuring import CONTENDERS, PEER, ROOT, measure
from benchmarks.quantum.report import AIMS, geometric_means, ratio, table
from darts_hpo.runs.files import write_text
from darts_hpo.runs.provenance import provenance

RESULTS = ROOT / "benchmarks" / "results" / "quantum.json"
KINDS = ("supercircuit", "circuit")


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the environment, measure, or report."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quantum", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs="?", default="run", choices=("run", "environments", "report"))
    parser.add_argument("--wires", type=int, nargs="+", default=[4, 6, 8, 10, 12])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 256])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--memory", type=float, default=4.0, help="GiB that one contender may be foreseen to take")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    if given.command == "environments":
        make(PEER)
        return
    if given.command == "run":
        run(given)
    report(json.loads(given.results.read_text())["cells"])


def run(given: argparse.Namespace) -> None:
    """Measure cell by cell; results are written as they come."""
    names = [name for name in CONTENDERS if name in {"ours", *given.contenders}]
    for name in names:
        if (peer := CONTENDERS[name].peer) is not None:
            python_of(peer)  # says so now, not after minutes, if its environment is missing
    stored: dict[str, Any] = {
        "provenance": provenance(0, ["python", "-m", "benchmarks.quantum", *sys.argv[1:]]),
        "threads": 1,
        "peer": PEER.requirement,
        "cells": [],
    }
    for kind, n_wires, batch in itertools.product(given.kinds, given.wires, given.batches):
        case = Case(kind, n_wires, batch)
        able = [name for name in names if kind in CONTENDERS[name].kinds]
        found = measure(case, able, given.turns, int(given.memory * 2**30))
        stored["cells"].append({"kind": kind, "n_wires": n_wires, "batch": batch, "contenders": found})
        write_text(given.results, json.dumps(stored, indent=1) + "\n")
        compared = [entry for entry in found.values() if "off_outputs" in entry]
        off = (max(entry[f"off_{what}"] for entry in compared) for what in ("outputs", "gradients"))
        print(f"{case}: values agree to {next(off):.1e}, gradients to {next(off):.1e}", flush=True)


def report(cells: list[dict[str, Any]]) -> None:
    """Print the tables and the means on both clocks."""
    for kind in KINDS:
        print()
        for line in table(cells, kind):
            print(line)
        shown = [cell for cell in cells if cell["kind"] == kind]
        wall = ", ".join(f"{name} {mean:.1f}x" for name, mean in geometric_means(shown, "wall").items())
        print(f"\nOn the clock of the wall, geometric means: {wall}")
    double = [
        {**cell, "contenders": {"ours": cell["contenders"]["ours_double"], **_only(cell, "pennylane")}}
        for cell in cells
        if "ours_double" in cell["contenders"]
    ]
    for name, mean in geometric_means(double, "cpu").items():
        print(f"Beside ours in float64, too: {name} {mean:.1f}x")
    of_four = [cell for cell in cells if cell["kind"] == "supercircuit" and cell["n_wires"] == 4]
    for name, mean in geometric_means(of_four, "cpu").items():
        print(f"Supercircuit, 4 qubits: {name} {mean:.1f}x")
    for cell in cells:
        if (cell["kind"], cell["n_wires"], cell["batch"]) == ("supercircuit", 8, 256):
            print(f"Supercircuit, 8 qubits, batch 256: TorchQuantum {ratio(cell, 'torchquantum', 'cpu') or 0:.1f}x")
    print(AIMS)


def _only(cell: dict[str, Any], name: str) -> dict[str, Any]:
    return {name: cell["contenders"][name]} if name in cell["contenders"] else {}


if __name__ == "__main__":
    main()
