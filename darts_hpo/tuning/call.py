"""Calls a function in a process of its own: ``python -m darts_hpo.tuning.call DIRECTORY``.

The directory holds ``call.json``, written by :func:`prepare_call`; the answer is left in ``result.json``.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from darts_hpo.errors import ConfigError
from darts_hpo.runs.files import write_text
from darts_hpo.tuning.answer import current_attempt, write_answer, write_failure

CALL_FILE = "call.json"
SCHEMA_VERSION = 1
_MAIN = "__main__"
_WORKER_MAIN = "__worker_main__"
"""Name of the user's script when a worker reads it: not ``__main__``, so that it does not start the study again."""


def prepare_call(directory: Path, function: Callable[..., Any], /, **keywords: Any) -> tuple[str, ...]:
    """Write down a call for another process.

    Args:
        directory: of the trial; made if need be.
        function: defined at the top level of a module or of the script that runs.
        keywords: its arguments; JSON.

    Returns:
        The command that makes the call.

    Raises:
        ConfigError: another process could not find the function, or an argument is not JSON.
        RunDirectoryError: the directory cannot be written.
    """
    name, module = getattr(function, "__qualname__", ""), getattr(function, "__module__", None)
    if not name or module is None or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(
            f"{name or function!r} cannot be called from another process. Define it with 'def' at the top level of a "
            "module or script, or run trials in this process (executors.in_process.InProcess)."
        )
    file = None
    if module == _MAIN:
        file = getattr(sys.modules[_MAIN], "__file__", None)
        spec = getattr(sys.modules[_MAIN], "__spec__", None)
        if spec is not None and spec.name is not None:  # python -m package.module
            module = spec.name
        elif file is None:
            raise ConfigError(
                f"{name!r} was typed into an interactive session, where no other process can find it. Put it into a "
                "file, or run trials in this process (executors.in_process.InProcess)."
            )
    call = {
        "schema_version": SCHEMA_VERSION,
        "module": None if module == _MAIN else module,
        "file": str(Path(file).absolute()) if module == _MAIN and file is not None else None,
        "name": name,
        "search_path": [str(Path(entry).absolute()) for entry in sys.path],
        "keywords": keywords,
    }
    try:
        text = json.dumps(call, indent=2, ensure_ascii=False)
    except TypeError as error:
        raise ConfigError(f"An argument of {name!r} cannot be handed to another process: {error}.") from None
    write_text(Path(directory) / CALL_FILE, f"{text}\n")
    return (sys.executable, "-m", "darts_hpo.tuning.call", str(Path(directory).absolute()))


def main(arguments: Sequence[str]) -> int:
    """Make the call that a directory describes and leave its answer there.

    Returns:
        0 where the function returned, 1 where it raised.
    """
    if len(arguments) != 1:
        raise SystemExit("usage: python -m darts_hpo.tuning.call DIRECTORY")
    directory, attempt, start = Path(arguments[0]), current_attempt(), time.monotonic()
    try:
        call = json.loads((directory / CALL_FILE).read_text(encoding="utf-8"))
        sys.path.extend(entry for entry in call["search_path"] if entry not in sys.path)
        function = _find(call)
        start = time.monotonic()
        value = function(**call["keywords"])
        write_answer(directory, attempt, value, seconds=time.monotonic() - start)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        write_failure(directory, attempt, error, seconds=time.monotonic() - start)
        return 1
    return 0


def _find(call: dict[str, Any]) -> Callable[..., Any]:
    """The function itself.

    It may lie anywhere: it was named by the process that holds it, not by a configuration.
    """
    if call["module"] is not None:
        found: Any = importlib.import_module(call["module"])
    else:
        spec = importlib.util.spec_from_file_location(_WORKER_MAIN, call["file"])
        if spec is None or spec.loader is None:
            raise ImportError(f"{call['file']} cannot be imported: it is no Python file")
        found = sys.modules[_WORKER_MAIN] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
    for part in call["name"].split("."):
        found = getattr(found, part)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
