"""The command that started this program, as a trial types it again."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.grammar import override_name

_OWN_KEYS = (
    "hydra.sweeper", "hydra.sweep", "hydra.launcher", "hydra.mode", "hydra.run", "hydra.job.num", "hydra.job.id"
)  # fmt: skip
"""Overrides of the sweep itself: a trial is a single run in a directory of its own."""

_WITH_VALUE = ("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--package", "-p")
"""Hydra's options that take the next argument, which is therefore no override."""


@dataclass(frozen=True)
class Command:
    """How a program was started.

    Args:
        program: interpreter, its options, and what it runs: a script, ``-m module`` or ``-c code``.
        arguments: of the program.
    """

    program: tuple[str, ...]
    arguments: tuple[str, ...]

    def without_sweep(self, swept: Iterable[str]) -> Command:
        """The command of a single run: without what makes it a sweep.

        Args:
            swept: names of overrides that the sweep sets.
        """
        return Command(self.program, tuple(_kept(self.arguments, set(swept))))


def original_command(
    original: Sequence[str] | None = None, seen: Sequence[str] | None = None, interpreter: str | None = None
) -> Command:
    """The command of this process.

    Args:
        original: the interpreter's own command line; by default ``sys.orig_argv``.
        seen: what the program sees; by default ``sys.argv``.
        interpreter: to start trials with; by default that of this process.

    Raises:
        ConfigError: this process was not started as a program that can be started again.
    """
    original = sys.orig_argv if original is None else original
    seen = sys.argv if seen is None else seen
    python = sys.executable if interpreter is None else interpreter
    options, started, arguments = _split(original)
    if started and _is_what_runs(started, seen[0]):
        what = (str(Path(started[0]).absolute()),) if len(started) == 1 else started
        return Command((python, *options, *what), arguments)
    script = Path(seen[0])
    if script.suffix == ".py" and script.is_file():  # under a debugger or profiler
        return Command((python, str(script.absolute())), tuple(seen[1:]))
    raise ConfigError(
        f"{seen[0]!r} was not started as a program, so a trial can't be started the same way. Start it from the "
        "command line, or let Hydra's launcher run the trials in batches: hydra/sweeper/executor=launcher"
    )


def _split(original: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """A Python command line as the interpreter's options, what it runs, and that program's arguments."""
    options: list[str] = []
    rest = list(original[1:])
    while rest and rest[0].startswith("-") and rest[0] != "-":
        option = rest.pop(0)
        if option.startswith("--"):  # --check-hash-based-pycs MODE
            options += [option, *rest[:1]]
            rest = rest[1:]
            continue
        for position, letter in enumerate(option[1:], start=1):
            before, after = option[:position], option[position + 1 :]
            if letter in "mc":  # what follows in the same word or the next is what to run
                if before != "-":
                    options.append(before)
                value = [after] if after else rest[:1]
                return tuple(options), (f"-{letter}", *value), tuple(rest if after else rest[1:])
            if letter in "WX":
                options += [option] if after else [option, *rest[:1]]
                rest = rest if after else rest[1:]
                break
        else:
            options.append(option)
    return tuple(options), tuple(rest[:1]), tuple(rest[1:])


def _is_what_runs(started: Sequence[str], seen: str) -> bool:
    """Whether the program that the interpreter started is the one that runs now; not so under a debugger."""
    if len(started) == 1:
        return started[0] == seen
    if started[0] == "-c":
        return seen == "-c"
    parts = Path(seen).with_suffix("").parts
    return bool(parts) and (parts[:-1] if parts[-1] == "__main__" else parts)[-1:] == (started[1].split(".")[-1],)


def _kept(arguments: Sequence[str], swept: set[str]) -> Iterable[str]:
    rest = iter(arguments)
    for argument in rest:
        if argument in _WITH_VALUE:
            yield argument
            yield from [value for value in [next(rest, None)] if value is not None]
        elif argument == "-m" or (len(argument) > 2 and "--multirun".startswith(argument)):
            continue
        elif argument.startswith("-") or not _is_dropped(override_name(argument), swept):
            yield argument


def _is_dropped(name: str, swept: set[str]) -> bool:
    dotted = name.replace("/", ".")
    return name in swept or any(f"{dotted}.".startswith(f"{own}.") for own in _OWN_KEYS)
