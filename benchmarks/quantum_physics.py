"""What the circuit search reaches on tasks without data: energies, states, cuts and unitaries.

    python -m benchmarks.quantum_physics [--experiments quantum_h2 ...] [--seeds 0 1 2 3 4]

Every cell is one ``python train.py +experiment=NAME seed=SEED`` on one thread: search, discretization, retraining from
the search's angles, the hand-made circuit (U3 on every wire, the pool's richest gate on every pair, in every layer)
trained in the same way, and export. Printed is the test metric of every found circuit, worst and median, that of the
hand-made one, what is exact, and the mean numbers of gates on two wires.

Finished runs are kept in ``benchmarks/results/quantum_physics.json`` and not repeated: kill it and start it again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darts_hpo.runs.files import write_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results" / "quantum_physics.json"


@dataclass(frozen=True)
class Goal:
    """What an experiment is judged by.

    Args:
        metric: of the test split.
        best: its value for a perfect circuit.
        wanted: value that every seed should reach; None where only the result is reported.
        larger: whether larger is better.
    """

    metric: str
    best: float
    wanted: float | None
    larger: bool

    def reached(self, value: float) -> bool | None:
        """Whether a value is good enough; None where nothing is asked for."""
        if self.wanted is None:
            return None
        return value >= self.wanted if self.larger else value <= self.wanted


GOALS: Mapping[str, Goal] = {
    "quantum_h2": Goal("error_mha", 0.0, 1.6, larger=False),  # chemical accuracy
    "quantum_ghz": Goal("fidelity", 1.0, 0.999, larger=True),
    "quantum_maxcut": Goal("approximation_ratio", 1.0, 0.99, larger=True),
    "quantum_ising": Goal("error", 0.0, None, larger=False),
    "quantum_qft": Goal("fidelity", 1.0, None, larger=True),
    "quantum_hidden_circuit": Goal("fidelity", 1.0, None, larger=True),
}
"""By the name of the experiment, in the order of the table."""


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", default=list(GOALS), choices=list(GOALS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    arguments = parser.parse_args()
    done: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for experiment in arguments.experiments:
        for seed in arguments.seeds:
            name = f"{experiment}/{seed}"
            if name not in done:
                done[name] = run(experiment, seed)
                write_text(RESULTS, json.dumps(done, indent=1, sort_keys=True) + "\n")
    for line in table(done, arguments.experiments, arguments.seeds):
        print(line)


def run(experiment: str, seed: int, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """One run of the command line, in a folder that does not outlive it.

    Args:
        experiment: name of the configuration.
        seed: of the run.
        overrides: further arguments of the command.

    Returns:
        ``found``, ``reference`` and a list ``random``, each with test metrics and costs; ``search``, the validation
        metrics of the supercircuit and of the discretized one before retraining, and the chosen gates; ``seconds`` of
        the process.

    Raises:
        RuntimeError: the command failed; the message is its own.
    """
    command = [sys.executable, str(ROOT / "train.py"), f"+experiment={experiment}", f"seed={seed}", *overrides]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = subprocess.run(
            [*command, "run=x"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()}")
        seconds = time.perf_counter() - began
        metrics = json.loads((Path(folder) / "runs" / experiment / "x" / "metrics.json").read_text())
    search = metrics["search"]
    return {
        "found": _of_network(metrics["found"]),
        "reference": _of_network(metrics["reference"]) if metrics["reference"] else None,
        "random": [_of_network(network) for network in metrics["random"] or ()],
        "search": {
            "relaxed": _rounded(search["relaxed_val"]),
            "discretized": _rounded(search["discretized_val"]),
            "gates": {slot: gate for slot, gate in search["choices"].items() if gate != "I"},
        },
        "seconds": round(seconds, 1),
    }


def _of_network(measured: Mapping[str, Any]) -> dict[str, Any]:
    return {"test": _rounded(measured["test"]), "costs": _rounded(measured["costs"])}


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 7) for name, value in values.items()}


def table(done: Mapping[str, Mapping[str, Any]], experiments: Sequence[str], seeds: Sequence[int]) -> Iterator[str]:
    """Lines: found circuits against the hand-made one and the exact value."""
    yield (
        f"{'':24s}{'metric':>20s}{'worst':>10s}{'median':>10s}{'hand-made':>11s}{'exact':>7s} "
        f"{'goal':>13s}{'2-qubit':>9s}{'hand-made':>11s}{'seconds':>9s}"
    )
    for experiment in experiments:
        goal = GOALS[experiment]
        runs = [done[f"{experiment}/{seed}"] for seed in seeds if f"{experiment}/{seed}" in done]
        if not runs:
            continue
        found = [run["found"]["test"][goal.metric] for run in runs]
        hand_made = [run["reference"] for run in runs if run["reference"]]
        worst = min(found) if goal.larger else max(found)
        reached = [goal.reached(value) for value in found]
        hits = "" if None in reached else f"{sum(map(bool, reached))} of {len(reached)}"
        yield (
            f"{experiment:24s}{goal.metric:>20s}{worst:10.5f}{statistics.median(found):10.5f}"
            f"{_middle([network['test'][goal.metric] for network in hand_made], '11.5f')}{goal.best:7.1f} "
            f"{'' if goal.wanted is None else f'{goal.wanted:g}: {hits}':>13s}"
            f"{statistics.mean(run['found']['costs']['two_qubit'] for run in runs):9.1f}"
            f"{_middle([network['costs']['two_qubit'] for network in hand_made], '11.0f')}"
            f"{statistics.median(run['seconds'] for run in runs):9.0f}"
        )


def _middle(values: Sequence[float], form: str) -> str:
    return format(statistics.median(values), form) if values else "-".rjust(int(form.partition(".")[0]))


if __name__ == "__main__":
    main()
