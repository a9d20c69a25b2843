"""The hand-made detector on real blood cells: test scores over seeds, per class, with the training curve.

    python -m benchmarks.bccd --root FOLDER [--seeds 0 1 2] [--jobs 2] [--network gelan-t] [key=value ...]

Every seed is an ordinary run of ``train.py +experiment=yolov9_reference data=bccd``: kill it and start it again, it
continues. What is finished is kept in ``benchmarks/results/bccd-<network>.json``, not run again, and printed.

For scale: a popular AGPL package's yolov9t from scratch, the same 205 training images, 224 px, 60 epochs in 20 minutes
on such a machine, reached test mAP50 0.746 and mAP50-95 0.454 (RBC 0.517, WBC 0.679, Platelets 0.166).
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
PEER = {"map50": 0.746, "map": 0.454, "map/RBC": 0.517, "map/WBC": 0.679, "map/Platelets": 0.166}


def main() -> None:
    """Run the seeds, gather and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of the blood cell data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time, one thread each")
    parser.add_argument("--network", default="gelan-t")
    parser.add_argument("overrides", nargs="*", help="further key=value of train.py")
    arguments = parser.parse_args()

    path = RESULTS / f"bccd-{arguments.network}.json"
    runs = finished(path, arguments.overrides)
    missing = [seed for seed in arguments.seeds if seed not in runs]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for run in pool.map(lambda seed: trained(seed, arguments), missing):
            runs[run["seed"]] = run
            store(path, arguments.overrides, runs)
    print_table(arguments.network, list(runs.values()))
    print(f"\nIn {path.relative_to(ROOT)}")


def finished(path: Path, overrides: list[str]) -> dict[int, dict[str, Any]]:
    """Runs of an earlier call with the same settings, by seed."""
    if not path.exists():
        return {}
    stored = json.loads(path.read_text())
    if stored["overrides"] != overrides:
        sys.exit(f"{path} holds runs with {stored['overrides']}, not {overrides}; move it away first.")
    return {run["seed"]: run for run in stored["runs"]}


def store(path: Path, overrides: list[str], runs: dict[int, dict[str, Any]]) -> None:
    """Write what is there so far."""
    path.parent.mkdir(exist_ok=True)
    ordered = [runs[seed] for seed in sorted(runs)]
    path.write_text(json.dumps({"peer": PEER, "overrides": overrides, "runs": ordered}, indent=1) + "\n")


def trained(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one seed, or continue it."""
    name = f"{arguments.network}-seed{seed}"
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "+experiment=yolov9_reference",
        "data=bccd",
        f"data.root={arguments.root.resolve()}",
        f"supernet.network={arguments.network}",
        "trainer.threads=1",
        f"seed={seed}",
        f"run={name}",
        *arguments.overrides,
    ]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return gathered(seed, ROOT / "runs/yolov9_reference" / name)


def gathered(seed: int, run: Path) -> dict[str, Any]:
    """Scores, minutes and the val curve of a finished run."""
    metrics = json.loads((run / "metrics.json").read_text())
    provenance = json.loads((run / "provenance.json").read_text())
    with (run / "retrain/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    minutes = 0.0
    curve = []
    for row in rows:
        minutes += float(row["seconds"]) / 60
        if row.get("val/map50"):
            curve.append([int(row["epoch"]) + 1, round(minutes, 2), float(row["val/map50"]), float(row["val/map"])])
    return {
        "seed": seed,
        "test": metrics["found"]["test"],
        "val": metrics["found"]["val"],
        "minutes": minutes,
        "cpu": provenance["cpu"],
        "curve_epoch_minutes_map50_map": curve,
    }


def print_table(network: str, runs: list[dict[str, Any]]) -> None:
    """Mean and spread over seeds beside the peer's figures."""
    print(f"{'test':<16}{network + ' (mean)':>18}{'spread':>10}{'peer':>8}")
    for name, peer in PEER.items():
        values = [run["test"][name] for run in runs]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{name:<16}{statistics.mean(values):>18.3f}{spread:>10.3f}{peer:>8.3f}")
    print(f"{'minutes':<16}{statistics.mean(run['minutes'] for run in runs):>18.1f}{'':>10}{20.0:>8.1f}")


if __name__ == "__main__":
    main()
