"""What a sweep directory says: the journal, and beside it what the trials left."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from darts_hpo.errors import RunDirectoryError
from darts_hpo.report.record import mapping, number
from darts_hpo.tuning.history import History
from darts_hpo.tuning.journal import FILE_NAME, Journal
from darts_hpo.tuning.recommendation import Replicated, repetitions, replicated
from darts_hpo.tuning.trial import WARM_START, Result, Trial


@dataclass(frozen=True)
class SweepRecord:
    """Everything a sweep report is made from.

    Args:
        path: of the sweep directory.
        history: what the journal says.
        problems: lines of the journal that could not be read.
    """

    path: Path
    history: History
    problems: Sequence[str]

    @classmethod
    def read(cls, path: Path) -> SweepRecord:
        """Read what there is; the sweep may be running.

        Raises:
            RunDirectoryError: there is no journal, or its first line cannot be read.
        """
        if not path.is_dir():
            raise RunDirectoryError(f"There is no sweep directory at {path}.")
        replay = Journal(path / FILE_NAME).read()
        shown = [problem.replace(f"{path}/", "") for problem in replay.problems]  # a report is passed on
        return cls(path, replay.history, shown)

    @property
    def name(self) -> str:
        """The last two parts of the path."""
        resolved = self.path.resolve()
        return f"{resolved.parent.name}/{resolved.name}"

    @property
    def metric(self) -> str:
        """Name of the first objective."""
        return self.history.objectives[0].name

    def value(self, result: Result) -> float:
        """The first objective of a result, as reported."""
        return result.values[self.metric]

    @cached_property
    def scored(self) -> list[tuple[Trial, Result]]:
        """Proposals with their result at the largest budget observed, in the order of arrival."""
        return [pair for pair in self.history.comparable() if pair[0].replicate_of is None]

    @cached_property
    def ranked(self) -> list[tuple[Trial, Result]]:
        """The same, best first; what violates a constraint comes last."""
        history = self.history
        return sorted(self.scored, key=lambda pair: (not history.feasible(pair[1]), -history.gain(pair[1])))

    @cached_property
    def before(self) -> Replicated | None:
        """The first warm-start point: the settings that the sweep was to improve on."""
        first = next((t for t in self.history.proposals if t.source == WARM_START and t.results), None)
        return self._measured(first)

    @cached_property
    def after(self) -> Replicated | None:
        """The configuration that did best in its own run; where the best ones were repeated, the best of those.

        Fresh seeds judge it and have no part in choosing it, or they would not be fresh.
        """
        ranked = [pair[0] for pair in self.ranked]
        repeated = [t for t in ranked if self.repeated(t).fresh]
        others = [t for t in repeated if self.before is None or t.number != self.before.trial.number]
        chosen = others or repeated or ranked
        if others and self.before is not None and ranked and ranked[0].number == self.before.trial.number:
            chosen = ranked  # nothing was better than what there was
        return self._measured(chosen[0] if chosen else None)

    def _measured(self, trial: Trial | None) -> Replicated | None:
        measured = None if trial is None else self.repeated(trial)
        return measured if measured is not None and measured.values else None

    def repeated(self, trial: Trial) -> Replicated:
        """A trial with its repetitions on other seeds."""
        return repetitions(self.history, trial.number)

    @cached_property
    def noise(self) -> float | None:
        """Standard deviation from seed to seed, pooled over every repeated configuration; None without any."""
        groups = [repeated.values for repeated in replicated(self.history) if len(repeated.values) > 1]
        freedom = sum(len(values) - 1 for values in groups)
        if not freedom:
            return None
        return math.sqrt(sum(statistics.variance(v) * (len(v) - 1) for v in groups) / freedom)

    def directory(self, trial: Trial) -> Path:
        """Where a trial's last run lies: one that starts afresh with a larger budget has a directory of its own."""
        apart = self.path / f"{trial.number}_{trial.budget:g}" if trial.budget is not None else None
        return apart if apart is not None and apart.is_dir() else self.path / str(trial.number)

    def choices(self, trial: Trial) -> dict[str, str]:
        """The architecture that a trial found, where its record holds one."""
        return {str(name): str(option) for name, option in mapping(trial.record, "genotype").items()}

    def facts(self, trial: Trial, name: str) -> Mapping[str, Any]:
        """Named numbers of a trial's record, such as its costs."""
        return {k: v for k, v in mapping(trial.record, name).items() if number(v) is not None}
