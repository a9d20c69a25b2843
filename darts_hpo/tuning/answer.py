"""``result.json``: what a worker has to say, and to which attempt it belongs."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darts_hpo.runs.files import write_json
from darts_hpo.tuning.executors.base import Outcome

ANSWER_FILE = "result.json"
SCHEMA_VERSION = 1

ATTEMPT_VARIABLE = "DARTS_HPO_ATTEMPT"
"""Environment variable that tells a worker which attempt it is."""

_FLOAT_TAG = "$float"
_REPR_LENGTH = 200


def current_attempt() -> int:
    """The attempt that this process was started for; 1 where nobody said."""
    text = os.environ.get(ATTEMPT_VARIABLE, "")
    return int(text) if text.isdigit() else 1


def write_answer(
    directory: Path,
    attempt: int,
    value: Any = None,
    reason: str | None = None,
    *,
    error_type: str | None = None,
    seconds: float | None = None,
) -> None:
    """Leave the answer of an attempt, in one step.

    Args:
        directory: of the trial.
        attempt: that answers; see :func:`current_attempt`.
        value: what the objective returned. Anything: the study judges it.
        reason: one line on why it failed; None where it did not.
        error_type: name of the exception's class.
        seconds: of work.

    Raises:
        RunDirectoryError: the file cannot be written.
    """
    write_json(
        Path(directory) / ANSWER_FILE,
        {
            "schema_version": SCHEMA_VERSION,
            "attempt": attempt,
            "status": "COMPLETED" if reason is None else "FAILED",
            "value": _encoded(plain(value)),
            "reason": reason,
            "error_type": error_type,
            "seconds": seconds,
        },
    )


def write_failure(directory: Path, attempt: int, error: BaseException, *, seconds: float | None = None) -> None:
    """Leave an exception as the answer of an attempt; see :func:`write_answer`."""
    write_answer(directory, attempt, reason=described(error), error_type=type(error).__name__, seconds=seconds)


def read_answer(directory: Path, attempt: int) -> Outcome | None:
    """What an attempt answered.

    Returns:
        None where there is no answer, or it is another attempt's. ``CRASHED`` where the file is damaged: whose it
        was cannot be said.
    """
    path = Path(directory) / ANSWER_FILE
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
        if answer["attempt"] != attempt:
            return None
        failed = {"COMPLETED": False, "FAILED": True}[answer["status"]]
        seconds = answer.get("seconds")
        if failed:
            return Outcome("FAILED", reason=answer.get("reason") or "no reason was given", seconds=seconds)
        return Outcome("COMPLETED", returned=_decoded(answer["value"]), seconds=seconds)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Outcome("CRASHED", reason=f"{path.name} is damaged: {described(error)}")


def described(error: BaseException) -> str:
    """An exception in one line: its class and what it says."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def plain(value: Any) -> Any:
    """A value as JSON has it, NaN and infinities kept; what JSON does not have becomes its ``repr``.

    So an objective means the same in this process and in another one, and what it returned by mistake can be named.

    >>> plain({"loss": 0.5, "pair": (1, float("inf")), "net": object})
    {'loss': 0.5, 'pair': [1, inf], 'net': "<class 'object'>"}
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if not isinstance(value, type) and hasattr(value, "tolist"):  # NumPy and torch, scalars and arrays
        return plain(value.tolist())
    if isinstance(value, str):  # an enumeration may be one
        return str.__str__(value)
    for number in (int, float):
        if isinstance(value, number):
            return number(value)
    shown = repr(value)
    return shown if len(shown) <= _REPR_LENGTH else f"{shown[:_REPR_LENGTH]}..."


def _encoded(value: Any) -> Any:
    """JSON proper has no NaN and no infinities, and null would not be what was returned: they are tagged."""
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT_TAG: str(value)}
    if isinstance(value, dict):
        return {key: _encoded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    return value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_FLOAT_TAG}:
            return float(value[_FLOAT_TAG])
        return {key: _decoded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    return value
