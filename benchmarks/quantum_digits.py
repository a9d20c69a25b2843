"""The circuit search on digits 0 to 3 over seeds: found, hand-made and random circuits, ideally and in noise.

    python -m benchmarks.quantum_digits [--seeds 0 1 2 3 4]

Every cell is one ``python train.py +experiment=quantum_darts seed=SEED`` on one thread: the found circuit, the
hand-made ring of U3 and CU3 and four circuits drawn at random are trained the same way. Printed are means and standard
deviations over seeds, and the paired difference of found and random in units of its standard error. The seed also
divides the images anew.

Finished runs are kept in ``benchmarks/results/quantum_digits.json`` and not repeated: kill it and start it again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quantum_physics import run
from darts_hpo.runs.files import write_text

RESULTS = Path(__file__).resolve().parent / "results" / "quantum_digits.json"
COLUMNS = (
    ("test", "accuracy", "accuracy"),
    ("test", "accuracy_noisy", "in noise"),
    ("costs", "two_qubit", "2-qubit"),
    ("costs", "depth", "depth"),
    ("costs", "device_depth", "compiled"),
    ("costs", "params_deployed", "angles"),
    ("costs", "success", "success"),
)
"""Group, key and heading of what is printed."""


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    arguments = parser.parse_args()
    done: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for seed in arguments.seeds:
        if str(seed) not in done:
            done[str(seed)] = run("quantum_darts", seed)
            write_text(RESULTS, json.dumps(done, indent=1, sort_keys=True) + "\n")
    for line in table([done[str(seed)] for seed in arguments.seeds]):
        print(line)


def table(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines: one per kind of circuit, then what the search adds to a random circuit."""
    yield f"{'':12s}" + "".join(f"{heading:>18s}" for _, _, heading in COLUMNS)
    kinds = {
        "found": [[run["found"]] for run in runs],
        "hand-made": [[run["reference"]] for run in runs],
        "random": [run["random"] for run in runs],
    }
    for kind, networks in kinds.items():
        cells = [_cell([_mean(of_seed, group, key) for of_seed in networks]) for group, key, _ in COLUMNS]
        yield f"{kind:12s}" + "".join(f"{cell:>18s}" for cell in cells)
    for group, key, heading in COLUMNS[:2]:
        differences = [_mean([run["found"]], group, key) - _mean(run["random"], group, key) for run in runs]
        error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
        mean = statistics.mean(differences)
        yield f"found - random, {heading}: {mean:+.3f}, {mean / error:.1f} standard errors over {len(runs)} seeds"
    gaps = [run["search"]["relaxed"]["accuracy"] - run["search"]["discretized"]["accuracy"] for run in runs]
    yield f"relaxed - discretized, val accuracy: {_cell(gaps)}; {_cell([run['seconds'] for run in runs])} seconds"


def _mean(networks: Sequence[Mapping[str, Any]], group: str, key: str) -> float:
    return statistics.mean(network[group][key] for network in networks)


def _cell(values: Sequence[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} +- {deviation:.3f}"


if __name__ == "__main__":
    main()
