"""The worker's end of the protocol: a library's ask and tell, answered as JSON lines, each call timed where it runs.

Requests are ``{"do": "start", "space": ..., "seed": ..., "trials": ..., "settings": ...}`` once, then
``{"do": "ask"}`` and ``{"do": "tell", "key": ..., "value": number or null}``; the end of input ends the worker. Every
answer holds ``cpu`` and ``wall``, the seconds that the library took for it, and an answer to a call that raised holds
``error`` instead of its result.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any


class Tuner(ABC):
    """A library that minimizes."""

    @abstractmethod
    def ask(self) -> tuple[int, dict[str, Any]]:
        """A key for the answer, and the point to evaluate."""

    @abstractmethod
    def tell(self, key: int, value: float | None) -> None:
        """The value at a point that was asked for; None where the trial failed."""

    def close(self) -> None:  # noqa: B027 - most have nothing to release
        """Called once, at the end."""


Start = Callable[[Mapping[str, Any], int, int, Mapping[str, Any]], Tuner]
"""Makes a tuner of a space (as ``Space.to_json`` writes it), a seed, the number of trials and settings."""


def serve(start: Start) -> None:
    """Answer requests until the input ends."""
    # Libraries print. Their output must not end up between our lines.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    tuner: Tuner | None = None
    for line in sys.stdin:
        request = json.loads(line)
        cpu, wall = time.process_time(), time.perf_counter()
        answer: dict[str, Any] = {}
        try:
            if request["do"] == "start":
                tuner = start(request["space"], request["seed"], request["trials"], request["settings"])
            elif tuner is None:
                raise RuntimeError("the first request must be a start")
            elif request["do"] == "ask":
                answer["key"], answer["point"] = tuner.ask()
            else:
                tuner.tell(request["key"], request["value"])
        except Exception as error:  # whatever a library raises is a result of this benchmark
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        answer["cpu"], answer["wall"] = time.process_time() - cpu, time.perf_counter() - wall
        answers.write(json.dumps(answer) + "\n")
    if tuner is not None:
        tuner.close()
