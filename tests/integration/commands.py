"""Running the command line as a person would: in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

TOY = ("+experiment=toy_darts", "search.epochs=3", "retrain.epochs=3", "search.validate_every=1", "random=2")
"""A small run that goes through every stage."""


def environment_of_a_run(**environment: str) -> dict[str, str]:
    """One thread and no GPU: results then do not depend on the machine's load."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment}


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start ``train.py`` in a folder."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=folder,
        env=environment_of_a_run(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``train.py`` in a folder to its end."""
    process = start(folder, *arguments, **environment)
    out, err = process.communicate(timeout=1200)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def killed(folder: Path, moment: tuple[str, int, int | str], *arguments: str) -> bool:
    """Run ``train.py`` until SIGKILL hits it at a moment of ``killed.py``; False where it ended otherwise."""
    script = Path(__file__).with_name("killed.py")
    process = subprocess.run(
        [sys.executable, str(script), *map(str, moment), *arguments],
        cwd=folder,
        env=environment_of_a_run(),
        capture_output=True,
        check=False,
        timeout=1200,
    )
    return process.returncode == -signal.SIGKILL


def results(run_dir: Path) -> tuple[Any, Any]:
    """Genotype and metrics, without what is measured with a clock."""
    genotype = json.loads((run_dir / "genotype.json").read_text())
    metrics = json.loads((run_dir / "metrics.json").read_text())
    genotype["costs"].pop("latency_ms", None)
    metrics.pop("stages")
    for network in (metrics["found"], metrics["reference"], *metrics["random"]):
        if network:
            network["costs"].pop("latency_ms", None)
    return genotype, metrics
