"""Environments of other libraries that are measured beside ours, one each, outside the repository.

An environment sees this project's installed packages behind its own, so that torch and its gigabytes are there once
and all methods compute with the same numerical libraries; what a library pins differently is installed into
its own environment and found first.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

FOLDER = "DARTS_HPO_PEERS"
"""Environment variable that moves the environments elsewhere."""


@dataclass(frozen=True)
class Peer:
    """Another library.

    Args:
        name: of its environment.
        requirement: the release that is compared, as pip takes it.
        benchmark: the package whose command ``environments`` makes the environment.
    """

    name: str
    requirement: str
    benchmark: str


def folder() -> Path:
    """Where the environments are: beside other caches of this user, unless ``DARTS_HPO_PEERS`` says otherwise."""
    chosen = os.environ.get(FOLDER)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else cache / "darts-hpo" / "peers"


def _interpreter(peer: Peer) -> Path:
    scripts = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    return folder() / peer.name / scripts


def python_of(peer: Peer) -> Path:
    """The interpreter of a peer.

    Raises:
        SystemExit: its environment has not been made, or not wholly.
    """
    if not _done(peer).exists():
        raise SystemExit(f"{peer.requirement} has no environment yet; type: python -m {peer.benchmark} environments")
    return _interpreter(peer)


def make(peer: Peer) -> None:
    """Make an environment, or leave it as it is if it holds the required release.

    Raises:
        subprocess.CalledProcessError: pip failed; it has said why.
    """
    if _done(peer).exists():
        print(f"{peer.requirement}: there already")
        return
    home = folder() / peer.name
    venv.EnvBuilder(with_pip=True, symlinks=os.name != "nt", clear=True).create(home)
    python = str(_interpreter(peer))
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([python, "-c", query], check=True, capture_output=True, text=True).stdout.strip()
    # A line of a .pth file is appended to sys.path: behind the environment's own packages.
    (Path(packages) / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run([python, "-m", "pip", "install", "--quiet", peer.requirement], check=True)
    _done(peer).write_text(f"{sys.version}\n")
    print(f"{peer.requirement}: made")


def _done(peer: Peer) -> Path:
    """Written last, so that an interrupted installation is begun anew."""
    return folder() / peer.name / f"{peer.requirement}.done"
