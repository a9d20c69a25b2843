"""The harness's end of the protocol: a method in its own process, driven like anything that asks and tells."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import subprocess
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any

from benchmarks.hpo.methods import Method
from darts_hpo.errors import SpaceError
from darts_hpo.space import Float, Space, Value

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")


CALL_LIMIT = 1800.0
"""Seconds after which a call counts as hung, and its process is killed."""


class WorkerDied(RuntimeError):  # noqa: N818 - it tells what happened
    """The process of a method ended, or wrote something else than answers."""


class RemoteTuner:
    """A method in a process of its own. A context: leaving it ends the process.

    A call that raises there is counted, not hidden: in place of a point that could not be proposed a random one is
    evaluated, whose answer the method is not told.

    Args:
        method: that proposes.
        space: of the points.
        seed: of the method and of the random points in its stead.
        trials: how many will be asked for.
        log: takes the process's other output.
    """

    def __init__(self, method: Method, space: Space, seed: int, trials: int, log: IO[bytes]) -> None:
        self.space = space
        self.failures: list[str] = []
        self.cpu: list[float] = []
        self.wall = 0.0
        self._untimed = 0.0
        self._rng = random.Random(seed)
        self._process = subprocess.Popen(
            method.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **ONE_THREAD, "PYTHONHASHSEED": "0"},
        )
        answer = self._call(
            {"do": "start", "space": space.to_json(), "seed": seed, "trials": trials, "settings": dict(method.settings)}
        )
        if "error" in answer:
            self._end()
            raise WorkerDied(answer["error"])

    def ask(self, now: float) -> tuple[tuple[str, int], dict[str, Value], None]:
        """A key, a point, and no budget."""
        answer = self._call({"do": "ask"})
        # What telling took since the last suggestion belongs to the method's time too.
        self.cpu.append(answer["cpu"] + self._untimed)
        self.wall += answer["wall"]
        self._untimed = 0.0
        if "error" not in answer:
            try:
                return ("asked", answer["key"]), self.space.validate(self._kept_inside(answer["point"])), None
            except SpaceError as error:
                answer["error"] = f"a point outside the space: {error}"
        self.failures.append(f"ask: {answer['error']}")
        return ("random", len(self.failures)), self.space.sample(self._rng), None

    def tell(self, key: tuple[str, int], value: float | None) -> None:
        """The loss at a point; None where the trial failed."""
        origin, number = key
        if origin == "random":
            return
        answer = self._call({"do": "tell", "key": number, "value": value})
        self._untimed += answer["cpu"]
        self.wall += answer["wall"]
        if "error" in answer:
            self.failures.append(f"tell: {answer['error']}")

    def _kept_inside(self, point: Mapping[str, Value]) -> dict[str, Value]:
        """The point without the last digit by which exponentials of logarithms miss an interval's end."""
        kept = dict(point)
        for name, value in point.items():
            parameter = self.space.parameters.get(name)
            if isinstance(parameter, Float) and isinstance(value, (int, float)):
                nearest = min(max(float(value), parameter.low), parameter.high)
                kept[name] = nearest if math.isclose(value, nearest, rel_tol=1e-9, abs_tol=1e-12) else value
        return kept

    def _call(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        limit = threading.Timer(CALL_LIMIT, self._process.kill)
        limit.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return dict(json.loads(self._process.stdout.readline()))
        except (BrokenPipeError, json.JSONDecodeError):
            code = self._end()
            raise WorkerDied(f"the process ended with code {code} at {request['do']!r}") from None
        finally:
            limit.cancel()

    def _end(self) -> int | None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        try:
            return self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def __enter__(self) -> RemoteTuner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()
