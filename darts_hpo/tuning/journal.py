"""The study on disk: one JSON line per event, flushed before anything else happens. It is the only truth.

What a study knows is what replaying its journal gives. Every line about a trial carries the trial's point, so that
one damaged line never loses a configuration.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from darts_hpo.errors import DartsHPOError, RunDirectoryError
from darts_hpo.runs.directory import config_difference
from darts_hpo.runs.tables import JsonLog
from darts_hpo.space import Space
from darts_hpo.tuning import events
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity, Objective, OutcomeConstraint
from darts_hpo.tuning.trial import Trial, TrialState

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
FILE_NAME = "journal.jsonl"


@dataclass
class Replay:
    """What a journal says.

    Args:
        history: the study so far.
        workers: trial number to the facts of the attempt under way, as its executor gave them; None where the crash
            came before they were written. A trial that has answered, or was promoted but not started, has none.
        stopping: trials that were asked to stop and have not ended yet.
        problems: what could not be read, one line each.
    """

    history: History
    workers: dict[int, Mapping[str, Any] | None] = field(default_factory=dict)
    stopping: dict[int, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def ended(self, number: int) -> None:
        """An attempt has answered: its worker and what was asked of it are history."""
        self.workers.pop(number, None)
        self.stopping.pop(number, None)


class Journal:
    """The events of one study, appended to a file.

    Args:
        path: of the file; its directory is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = JsonLog(path)

    def begin(self, history: History) -> Replay:
        """Start the journal of a study without trials, or replay the one that is there.

        Raises:
            RunDirectoryError: the file belongs to another study (the message lists what differs), or its first
                line cannot be read.
        """
        header = _header(history)
        if not self.path.exists() or not self.path.read_bytes().strip():
            self._log.append({"event": "study", "at": _now(), **header})
            return Replay(history)
        replay = self.read()
        stored = _header(replay.history)
        if difference := config_difference(_by_name(stored), _by_name(header), ignore=()):
            raise RunDirectoryError(
                f"{self.path.parent} belongs to another study (stored -> now):\n  "
                + "\n  ".join(difference)
                + "\nGive another directory (hydra.sweep.dir=DIRECTORY), or restore these settings to continue."
            )
        return replay

    def read(self) -> Replay:
        """What the file says; lines that cannot be read are reported and left out.

        Raises:
            RunDirectoryError: there is no journal, or its first line is not the description of a study.
        """
        if not self.path.exists():
            raise RunDirectoryError(f"{self.path} does not exist; expected the directory of a study.")
        rows = list(self._log.readable_rows())
        replay = Replay(_described(rows[0][1] if rows else None, self.path))
        for number, row in rows[1:]:
            try:
                if row is None:
                    raise ValueError("it is not a JSON object")
                _apply(replay, row)
            except (DartsHPOError, ValueError, KeyError, TypeError, AttributeError) as error:
                reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
                replay.problems.append(f"Line {number} of {self.path} is left out: {reason}")
        for problem in replay.problems:
            log.warning("%s", problem)
        return replay

    def append(self, event: str, trial: Trial | None = None, **facts: Any) -> None:
        """Add an event; it is on disk when this returns.

        Raises:
            RunDirectoryError: the disk is full or not writable; the file is as before.
        """
        about = {} if trial is None else {"trial": trial.number, "point": dict(trial.point)}
        self._log.append({"event": event, "at": _now(), **about, **facts})


def _apply(replay: Replay, row: Mapping[str, Any]) -> None:
    """One line's effect."""
    event = row["event"]
    if event == "continue":
        return
    number = int(row["trial"])
    history = _with_known_point(replay.history, number, row)
    match event:
        case "ask":
            keys = ("budget", "source", "labels", "replicate_of", "seed")
            if number < len(replay.history):
                raise ValueError(f"trial {number} was asked for before")
            history = events.ask(history, row["point"], **{key: row[key] for key in keys})
        case "start":
            if history.trials[number].state is TrialState.COMPLETED:  # the line of its promotion was damaged
                history = events.promote(history, number, row["budget"])
            history = events.start(history, number)
            replay.workers[number] = None
        case "worker":
            replay.workers[number] = row["facts"]
        case "promote":
            history = events.promote(history, number, row["budget"])
            replay.workers.pop(number, None)
        case "report":
            history = events.report(history, number, int(row["step"]), row["value"])
        case "stop":
            replay.stopping[number] = row["reason"]
        case "tell":
            facts = {key: row[key] for key in ("budget", "seconds", "reason", "record")}
            history = events.tell(history, number, row["values"], state=TrialState(row["state"]), **facts)
            replay.ended(number)
        case "fail":
            history = events.fail(history, number, row["reason"], record=row["record"])
            replay.ended(number)
        case _:
            raise ValueError(f"there is no event {event!r}")
    replay.history = history


_LOST = "its lines in the journal were damaged"


def _with_known_point(history: History, number: int, row: Mapping[str, Any]) -> History:
    """The history with trial ``number`` in it, where a damaged line had taken it.

    Numbers are also names of directories, so a trial that is lost keeps its place.
    """
    wanted = number if row["event"] == "ask" else number + 1
    while len(history) < wanted:
        lost = len(history)
        history = events.fail(events.ask(history, {}, source="lost"), lost, _LOST)
    known = history.trials[number] if number < len(history) else None
    if known is not None and known.reason == _LOST and row["event"] != "ask" and row.get("point"):
        found = replace(known, point=dict(row["point"]), state=TrialState.RUNNING, reason=None)
        found = replace(found, budget=row.get("budget", known.budget))
        history = replace(history, trials=(*history.trials[:number], found, *history.trials[number + 1 :]))
    return history


def _header(history: History) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "space": history.space.to_json(),
        "objectives": [asdict(objective) for objective in history.objectives],
        "constraints": [asdict(constraint) for constraint in history.constraints],
        "fidelity": None if history.fidelity is None else asdict(history.fidelity),
    }


def _by_name(header: Mapping[str, Any]) -> dict[str, Any]:
    """A header whose differences read well: parameters under their names instead of in a list."""
    space = header["space"]
    parameters = {entry["name"]: {k: v for k, v in entry.items() if k != "name"} for entry in space["parameters"]}
    order = [entry["name"] for entry in space["parameters"]]
    return {**header, "space": {**space, "parameters": parameters, "order": order}}


def _described(row: Mapping[str, Any] | None, path: Path) -> History:
    try:
        if row is None or row["event"] != "study":
            raise KeyError("study")
        if row["schema_version"] > SCHEMA_VERSION:
            raise RunDirectoryError(
                f"{path} was written by a later version (schema {row['schema_version']}); update darts-hpo."
            )
        fidelity = row["fidelity"]
        return History(
            Space.from_json(row["space"]),
            tuple(Objective(**entry) for entry in row["objectives"]),
            (),
            tuple(OutcomeConstraint(**entry) for entry in row["constraints"]),
            None if fidelity is None else Fidelity(**fidelity),
        )
    except (KeyError, TypeError) as error:
        raise RunDirectoryError(
            f"The first line of {path} does not describe a study ({error}); restore it, or give another directory "
            "(hydra.sweep.dir=DIRECTORY)."
        ) from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
