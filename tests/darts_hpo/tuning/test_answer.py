"""What workers leave in result.json, and functions that are called in a process of their own."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from enum import IntEnum, StrEnum
from pathlib import Path

import numpy as np
import pytest

from darts_hpo.errors import ConfigError
from darts_hpo.testing.executors import finish
from darts_hpo.tuning import call
from darts_hpo.tuning.answer import ATTEMPT_VARIABLE, plain, read_answer, write_answer, write_failure
from darts_hpo.tuning.executors.base import Job, Outcome
from darts_hpo.tuning.executors.local import LocalProcesses

REPOSITORY = Path(__file__).parents[3]


class Mood(StrEnum):
    GOOD = "good"


class Level(IntEnum):
    TWO = 2


@pytest.mark.parametrize(
    "value",
    [0.1, 3, True, "text", None, [1, 2.5], {"loss": 0.5, "val.map50": 1e-300}, 10**30, -math.inf, [math.inf, {"a": 1}]],
)
def test_values_survive(tmp_path, value):
    write_answer(tmp_path, 3, value, seconds=1.5)
    assert read_answer(tmp_path, 3) == Outcome("COMPLETED", returned=value, seconds=1.5)
    json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)  # JSON proper has no NaN


def test_nan_survives(tmp_path):
    write_answer(tmp_path, 1, {"loss": math.nan, "list": [math.nan]})
    returned = read_answer(tmp_path, 1).returned
    assert math.isnan(returned["loss"])
    assert math.isnan(returned["list"][0])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([1.0, 2.0]), [1.0, 2.0]),
        (np.array(4), 4),
        ((1, 2), [1, 2]),
        ({1: (np.int8(2),)}, {"1": [2]}),
        (Mood.GOOD, "good"),
        (Level.TWO, 2),
        (int, "<class 'int'>"),
        ({1}, "{1}"),
        (b"x" * 500, repr(b"x" * 500)[:200] + "..."),
    ],
)
def test_what_json_does_not_have_becomes_plain(value, expected):
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


def test_an_answer_belongs_to_its_attempt(tmp_path):
    assert read_answer(tmp_path, 1) is None
    write_answer(tmp_path, 1, 0.5)
    assert read_answer(tmp_path, 2) is None
    write_failure(tmp_path, 2, ValueError("two\n lines"), seconds=2.0)
    assert read_answer(tmp_path, 2) == Outcome("FAILED", reason="ValueError: two lines", seconds=2.0)
    assert json.loads((tmp_path / "result.json").read_text())["error_type"] == "ValueError"


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"attempt": 1}', '{"attempt": 1, "status": "FINE"}', "\x00"])
def test_a_damaged_answer_says_so(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    outcome = read_answer(tmp_path, 1)
    assert outcome.status == "CRASHED"
    assert "result.json is damaged" in outcome.reason


# -- calls -------------------------------------------------------------------------------------------------------------


def run(directory: Path, command: tuple[str, ...]) -> Outcome:
    executor, job = LocalProcesses(), Job(0, 1, directory, command)
    executor.submit(job)
    return finish(executor, job)


def test_a_function_of_a_module_is_called(tmp_path, monkeypatch):
    """It is found where this process finds it; arguments arrive, names with dots too."""
    (tmp_path / "stranger.py").write_text(
        "class Place:\n"
        "    @staticmethod\n"
        "    def objective(**point):\n"
        "        return {'sum': point['lr'] + point['model.depth'], 'bad': float('nan')}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import stranger

    directory = tmp_path / "0"
    command = call.prepare_call(directory, stranger.Place.objective, **{"lr": 0.5, "model.depth": 2})
    outcome = run(directory, command)
    assert outcome.status == "COMPLETED", outcome
    assert outcome.returned["sum"] == 2.5
    assert math.isnan(outcome.returned["bad"])


def test_a_function_of_the_script_that_runs_is_called(tmp_path):
    """And the script does not start over in the worker."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from darts_hpo.tuning.call import prepare_call\n"
        "def objective(lr):\n"
        "    return helper(lr)\n"
        "def helper(lr):\n"
        "    return 2 * lr\n"
        "if __name__ == '__main__':\n"
        "    print('\\n'.join(prepare_call(Path(sys.argv[1]), objective, lr=4)))\n"
    )
    directory = tmp_path / "0"
    environment = {"PYTHONPATH": str(REPOSITORY)}
    found = subprocess.run(
        [sys.executable, script, directory], env=environment, capture_output=True, text=True, check=True
    )
    outcome = run(directory, tuple(found.stdout.splitlines()))
    assert (outcome.status, outcome.returned) == ("COMPLETED", 8)


def failing(kind):
    raise {"value": ValueError("no lr"), "exit": SystemExit(2)}[kind]


def test_exceptions_become_answers(tmp_path, monkeypatch, capsys):
    """With the traceback in the log; the exit status says that it failed."""
    monkeypatch.setenv(ATTEMPT_VARIABLE, "4")
    module = tmp_path / "failing_objective.py"
    module.write_text("def objective(kind):\n    raise {'value': ValueError('no lr'), 'exit': SystemExit(2)}[kind]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import failing_objective

    for kind, reason in (("value", "ValueError: no lr"), ("exit", "SystemExit: 2")):
        call.prepare_call(tmp_path, failing_objective.objective, kind=kind)
        assert call.main([str(tmp_path)]) == 1
        assert read_answer(tmp_path, 4).reason == reason
        assert "Traceback" in capsys.readouterr().err


def test_what_another_process_could_not_find_is_refused(tmp_path, monkeypatch):
    def local():
        return 1

    for function in (lambda: 1, local, object()):
        with pytest.raises(ConfigError, match="cannot be called from another process"):
            call.prepare_call(tmp_path, function)
    with pytest.raises(ConfigError, match="cannot be handed to another process"):
        call.prepare_call(tmp_path, failing, kind=object())
    monkeypatch.setattr(failing, "__module__", "__main__")
    monkeypatch.delattr(sys.modules["__main__"], "__file__")
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    with pytest.raises(ConfigError, match="typed into an interactive session"):
        call.prepare_call(tmp_path, failing)
