"""One cell of the table: its contenders take turns, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.environments import Peer, python_of
from benchmarks.quantum.cases import Case

ROOT = Path(__file__).resolve().parents[2]
PEER = Peer("pennylane", "pennylane==0.45.1", "benchmarks.quantum")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
TOLERANCE = 1e-3
TURN = 0.15
"""Seconds of a turn; a step that takes longer is a turn."""
MOST_SECONDS = 15.0
"""Seconds of the wall after which a contender's turns are enough, if it has had three."""


@dataclass(frozen=True)
class Contender:
    """Who computes.

    Args:
        name: module of :mod:`benchmarks.quantum.contenders`.
        title: in tables.
        kinds: of cases that it computes.
        peer: its environment; None is this one.
        states_per_candidate: states that it keeps for each candidate gate, roughly: what its memory is foreseen by.
        most_samples: it computes no larger batch, which would take minutes.
        most_wires: nor more wires.
    """

    name: str
    title: str
    kinds: tuple[str, ...]
    peer: Peer | None = None
    states_per_candidate: float = 1.0
    most_samples: int | None = None
    most_wires: int | None = None

    def reason_to_pass(self, case: Case, memory: int) -> str | None:
        """Why it sits a case out, if so; ``memory`` is the most that it may take, in bytes."""
        if (self.most_samples or case.batch) < case.batch or (self.most_wires or case.n_wires) < case.n_wires:
            return "takes the samples one by one"
        candidates = sum(len(names) for _, names in case.slots)
        foreseen = self.states_per_candidate * candidates * case.state_bytes
        return f"about {foreseen / 2**30:.0f} GiB" if foreseen > memory else None


CONTENDERS: Mapping[str, Contender] = {
    contender.name: contender
    for contender in (
        Contender("ours", "ours", ("supercircuit", "circuit")),
        Contender("ours_double", "ours, float64", ("circuit",)),
        Contender("torchquantum", "TorchQuantum", ("supercircuit", "circuit"), states_per_candidate=4.6),
        Contender("mixed_matrices", "mixed matrices", ("supercircuit",)),
        Contender("pennylane", "PennyLane", ("circuit",), PEER, states_per_candidate=4.0),
        Contender("lightning", "lightning", ("circuit",), PEER, most_samples=32, most_wires=8),
    )
}
"""Ours first: the others' values are compared with it."""


def measure(case: Case, names: Sequence[str], turns: int, memory: int) -> dict[str, dict[str, Any]]:
    """Compare and time the contenders of a case.

    Args:
        case: what is computed.
        names: of contenders; ``ours`` among them, and first.
        turns: each contender's, at most.
        memory: most bytes that one may be foreseen to take.

    Returns:
        By contender: ``wall`` and ``cpu``, medians in seconds, and ``fastest_cpu``; ``steps``, how many were timed;
        ``peak`` and ``added``, most bytes of memory and how many of them came after the imports; ``off_outputs`` and
        ``off_gradients``, the largest difference from ours, the latter as a share of the largest gradient. A contender
        that sits the case out has ``passed``, its reason, alone.

    Raises:
        SystemExit: a contender computes something else, or its process died.
    """
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        running: dict[str, _Process] = {}
        for name in names:
            reason = CONTENDERS[name].reason_to_pass(case, memory)
            if reason is None:
                running[name] = stack.enter_context(_process(CONTENDERS[name], case))
            else:
                found[name] = {"passed": reason}
        for process in running.values():  # they import at the same time
            process.answer()
        found |= _compared(running, case)
        clocks: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": []} for name in running}
        for number in range(turns):
            for name, process in running.items():
                if number >= 3 and sum(clocks[name]["wall"]) > MOST_SECONDS:
                    continue
                for clock, seconds in process.ask(f"turn {TURN}").items():
                    clocks[name][clock] += seconds
        for name, process in running.items():
            size = process.ask("memory")
            found[name] |= {
                "wall": statistics.median(clocks[name]["wall"]),
                "cpu": statistics.median(clocks[name]["cpu"]),
                "fastest_cpu": min(clocks[name]["cpu"]),
                "steps": len(clocks[name]["cpu"]),
                "peak": size["peak"],
                "added": None if size["peak"] is None else size["peak"] - size["before"],
            }
    return {name: found[name] for name in names}


def _compared(running: Mapping[str, _Process], case: Case) -> dict[str, dict[str, float]]:
    """Differences from ours, which comes first; this is also everybody's first step, which is not timed."""
    values = {name: {key: torch.tensor(v) for key, v in p.ask("values").items()} for name, p in running.items()}
    ours = next(iter(values.values()))
    found = {}
    for name, theirs in values.items():
        off_outputs = _largest(theirs["outputs"] - ours["outputs"])
        off_gradients = _largest(theirs["gradients"] - ours["gradients"]) / _largest(ours["gradients"])
        if not (off_outputs < TOLERANCE and off_gradients < TOLERANCE):  # a NaN is no agreement
            raise SystemExit(
                f"{case}: {name} does not compute what ours does: outputs differ by {off_outputs:.1e}, gradients by "
                f"{off_gradients:.1e}; expected less than {TOLERANCE}."
            )
        found[name] = {"off_outputs": off_outputs, "off_gradients": off_gradients}
    return found


def _largest(values: Tensor) -> float:
    return float(values.abs().max())


class _Process:
    """A worker and what is said to it."""

    def __init__(self, popen: subprocess.Popen[str], name: str) -> None:
        self._popen, self._name = popen, name

    def ask(self, request: str) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the missing answer tells
            self._popen.stdin.write(request + "\n")
            self._popen.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next answer."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            raise SystemExit(f"The process of {self._name} ended with code {self._popen.wait()}; see above.")
        return dict(json.loads(line))


@contextmanager
def _process(contender: Contender, case: Case) -> Iterator[_Process]:
    """A worker's process, which ends with the context."""
    python = sys.executable if contender.peer is None else str(python_of(contender.peer))
    arguments = [contender.name, case.kind, str(case.n_wires), str(case.batch)]
    popen = subprocess.Popen(
        [python, "-m", "benchmarks.quantum.worker", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **ONE_THREAD},
    )
    with popen:
        try:
            yield _Process(popen, contender.name)
        finally:
            popen.kill()
