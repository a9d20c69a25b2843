"""Where a result came from: code, packages, machine, seed and command."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from darts_hpo.errors import RunDirectoryError

PACKAGES: tuple[str, ...] = (
    "darts-hpo",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "hydra-core",
    "omegaconf",
    "torchmetrics",
    "pycocotools",
    "botorch",
    "torchquantum-ng",
    "onnx",
    "onnxruntime",
    "numpy",
)
"""Distributions whose versions are recorded where they are installed."""


def provenance(seed: int, command: Sequence[str] | None = None) -> dict[str, Any]:
    """What one would need to know to repeat a run, as plain JSON-able data.

    Args:
        seed: the run's seed.
        command: the command line; this process's own by default.

    Returns:
        ``seed``, ``command``, ``started`` (UTC, ISO 8601), ``git`` (``sha`` and ``dirty``, or None outside a
        checkout), ``packages`` (name to version), ``python``, ``platform``, ``cpu`` (``model``, and ``count``
        usable by this process), ``torch_threads`` and ``gpus`` (names).
    """
    import torch

    # A GPU is named only where torch sees one; asking does not create a context on it.
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "seed": seed,
        "command": shlex.join(sys.argv if command is None else command),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": _git_state(),
        "packages": _versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"model": _cpu_model(), "count": _cpu_count()},
        "torch_threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def recorded_fact(path: Path, fact: str) -> Any:
    """A fact of the run's first start, which decides its results and must not change on another machine.

    Args:
        path: ``provenance.json``.
        fact: its key.

    Raises:
        RunDirectoryError: the file is damaged or lacks the key.
    """
    try:
        return json.loads(path.read_text())[fact]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunDirectoryError(f"{path} is damaged or lacks {fact!r}; start another run with run=NAME.") from error


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _git_state() -> dict[str, Any] | None:
    package = Path(__file__).resolve().parent
    # An installed package may lie inside somebody else's checkout: only one that tracks this file counts.
    if _git(package, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    sha = _git(package, "rev-parse", "HEAD")
    changes = _git(package, "status", "--porcelain", "--untracked-files=no")
    return None if sha is None else {"sha": sha, "dirty": bool(changes)}


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_count() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
