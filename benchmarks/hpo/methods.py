"""The methods that are compared: which program wraps each, in which environment it runs, with which settings."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.environments import python_of
from benchmarks.hpo.environments import PEERS
from darts_hpo import space
from darts_hpo.errors import unknown_name

WRAPPERS = Path(__file__).resolve().parent / "peers"


@dataclass(frozen=True)
class Method:
    """One way to choose trials.

    Args:
        name: as on the command line and in results.
        wrapper: program in ``peers/``.
        settings: given to it.
        peer: its environment; None is this one.
        variant: whether it is run and reported only when named: other settings of a method that is there already.
    """

    name: str
    wrapper: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    peer: str | None = None
    variant: bool = False

    @property
    def command(self) -> list[str]:
        """What starts a worker.

        Raises:
            SystemExit: its environment has not been made.
        """
        if self.peer is None:
            return [sys.executable, str(WRAPPERS / self.wrapper)]
        return [str(python_of(PEERS[self.peer])), str(WRAPPERS / self.wrapper)]

    @property
    def code(self) -> str:
        """What computes: the peer's release, or a digest of our sampler's source."""
        if self.peer is not None:
            return PEERS[self.peer].requirement
        return _digest(str(self.settings["_target_"]).rpartition(".")[0])


def _digest(module: str) -> str:
    """A digest of a sampler's source and of everything of ``darts_hpo.tuning`` that it imports."""
    root = Path(space.__file__).parents[1]
    found: dict[str, bytes] = {}
    unread = [module]
    while unread:
        name = unread.pop()
        path = root / (name.replace(".", "/") + ".py")
        if name in found or not path.exists():
            continue
        found[name] = path.read_bytes()
        for node in ast.walk(ast.parse(found[name])):
            names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            if isinstance(node, ast.ImportFrom):
                # What is imported may be a module itself, or a name in one.
                names = [f"{node.module}.{name}" for name in names] + [node.module or ""]
            unread += [name for name in names if name.startswith("darts_hpo.tuning.")]
    return hashlib.sha256(b"".join(found[name] for name in sorted(found))).hexdigest()[:12]


def _ours(name: str, target: str, **settings: Any) -> Method:
    settings = {"_target_": f"darts_hpo.tuning.samplers.{target}", **settings}
    return Method(name, "with_darts_hpo.py", settings, variant=len(settings) > 1)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        _ours("random", "random.RandomSampler"),
        _ours("sobol", "sobol.SobolSampler"),
        _ours("tpe", "tpe.TPESampler"),
        _ours("gp", "gp.GPSampler"),
        _ours("forest", "forest.ForestSampler"),
        _ours("neural", "neural.NeuralSampler"),
        _ours("gp_power", "gp.GPSampler", scale="power"),
        _ours("gp_warp", "gp.GPSampler", warp=True),
        _ours("gp_ignore", "gp.GPSampler", failures="ignore"),
        Method("optuna_tpe", "with_optuna.py", {"sampler": "TPESampler"}, "optuna"),
        Method("optuna_gp", "with_optuna.py", {"sampler": "GPSampler"}, "optuna"),
        Method("smac", "with_smac.py", {"facade": "HyperparameterOptimizationFacade"}, "smac"),
        Method("ax", "with_ax.py", {}, "ax"),
    )
}
"""Name to method, ours first. ``random`` is the baseline, ``gp`` what our studies use by default."""

COMPARED = [method.name for method in METHODS.values() if not method.variant]
"""What is run and reported where nobody says otherwise."""

OURS = "gp"


def method(name: str) -> Method:
    """The method of a name.

    Raises:
        SystemExit: there is none.
    """
    if name not in METHODS:
        raise SystemExit(unknown_name("method", name, METHODS))
    return METHODS[name]
