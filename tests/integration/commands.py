"""Running the command line as a person would: in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

TOY = ("+experiment=toy_darts", "search.epochs=3", "retrain.epochs=3", "search.validate_every=1")
"""A small run that goes through every stage."""


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start ``train.py`` in a folder."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``train.py`` in a folder to its end."""
    process = start(folder, *arguments, **environment)
    out, err = process.communicate(timeout=1200)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def kill_when(process: subprocess.Popen[str], condition: Callable[[], bool], delay: float = 0.0) -> bool:
    """Kill -9 once a condition holds and a delay has passed; False where the process ended before."""
    while process.poll() is None:
        if condition():
            time.sleep(delay)
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return True
        time.sleep(0.002)
    process.communicate()
    return False


def results(run_dir: Path) -> tuple[Any, Any]:
    """Genotype and metrics, without what is measured with a clock."""
    genotype = json.loads((run_dir / "genotype.json").read_text())
    metrics = json.loads((run_dir / "metrics.json").read_text())
    genotype["costs"].pop("latency_ms", None)
    metrics.pop("stages")
    for who in ("found", "reference"):
        if metrics[who]:
            metrics[who]["costs"].pop("latency_ms", None)
    return genotype, metrics
