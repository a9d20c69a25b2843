"""A contender in a process of its own, so that its memory is its own: JSON lines in, JSON lines out.

Run as ``python -m benchmarks.quantum.worker CONTENDER KIND N_WIRES BATCH``. It answers when it is ready, then the
requests ``values``, ``turn SECONDS`` and ``memory``; the end of input ends it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.quantum.cases import Case, Numbers, Step


def main() -> None:
    """Serve until the input ends."""
    warnings.simplefilter("ignore")  # what other libraries say of themselves would only hide our own lines
    answers, sys.stdout = sys.stdout, sys.stderr
    torch.set_num_threads(1)
    contender, kind, n_wires, batch = sys.argv[1:]
    case = Case(kind, int(n_wires), int(batch))
    module = importlib.import_module(f"benchmarks.quantum.contenders.{contender}")
    step: Callable[[], Step] = module.prepare(case, Numbers.of(case))
    before = memory_now()
    _answer(answers, {"ready": True})
    for request in sys.stdin:
        do, *arguments = request.split()
        if do == "values":
            values = step()
            _answer(answers, {"outputs": values.outputs.tolist(), "gradients": values.gradients.tolist()})
        elif do == "turn":
            _answer(answers, turn(step, float(arguments[0])))
        else:
            _answer(answers, {"before": before, "peak": memory_peak()})


def turn(step: Callable[[], Step], seconds: float) -> dict[str, list[float]]:
    """Steps one after the other, at least one: what each took on the clocks of the wall and of the processor."""
    wall, cpu = list[float](), list[float]()
    end = time.perf_counter() + seconds
    while not wall or time.perf_counter() < end:
        start, start_cpu = time.perf_counter(), time.process_time()
        step()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return {"wall": wall, "cpu": cpu}


def memory_now() -> int | None:
    """Resident bytes of this process, from where on :func:`memory_peak` counts; None where no one says."""
    # Forget the peak of the imports. (Not `getrusage`: on Linux its peak outlives exec, so it may be the parent's.)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def memory_peak() -> int | None:
    """Most resident bytes that this process ever had."""
    return _status("VmHWM")


def _status(name: str) -> int | None:
    path = Path("/proc/self/status")
    if not path.exists():
        return None
    lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    return int(lines[name].split()[0]) * 1024 if name in lines else None


def _answer(stream: Any, answer: dict[str, Any]) -> None:
    stream.write(json.dumps(answer) + "\n")
    stream.flush()


if __name__ == "__main__":
    main()
