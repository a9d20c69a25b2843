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
from darts_hpo.tuning.trial import WARM_START, Result, Trial


@dataclass(frozen=True)
class Repeated:
    """One configuration with every value that was measured of it at the full budget.

    Args:
        trial: the configuration.
        values: its own value first, then those on other seeds.
    """

    trial: Trial
    values: tuple[float, ...]

    @property
    def fresh(self) -> tuple[float, ...]:
        """Values on seeds that had no part in the selection: the honest ones."""
        return self.values[1:]

    @property
    def mean(self) -> float:
        """Of the fresh values where there are any, else its own value."""
        return statistics.fmean(self.fresh or self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation from seed to seed, of all values; None for fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def error(self) -> float | None:
        """Standard error of the mean of the fresh values; None for fewer than two."""
        return statistics.stdev(self.fresh) / math.sqrt(len(self.fresh)) if len(self.fresh) > 1 else None


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
    def before(self) -> Repeated | None:
        """The first warm-start point: the settings that the sweep was to improve on."""
        first = next((t for t in self.history.proposals if t.source == WARM_START and t.results), None)
        return None if first is None else self.repeated(first)

    @cached_property
    def after(self) -> Repeated | None:
        """The best configuration: by its mean on fresh seeds where the best ones were repeated, else as observed."""
        candidates = [repeated for pair in self.ranked if (repeated := self.repeated(pair[0])) and repeated.fresh]
        if self.before is not None and len(candidates) > 1:
            candidates = [c for c in candidates if c.trial.number != self.before.trial.number] or candidates
        if candidates:
            gain = self.history.objectives[0].gain
            return max(candidates, key=lambda repeated: gain(repeated.mean))
        best = self.history.best()
        return None if best is None else self.repeated(best[0])

    def repeated(self, trial: Trial) -> Repeated:
        """A trial with its repetitions on other seeds."""
        last = trial.last
        own = () if last is None else (self.value(last),)
        again = [t.last for t in self.history if t.replicate_of == trial.number]
        return Repeated(trial, (*own, *(self.value(result) for result in again if result is not None)))

    @cached_property
    def noise(self) -> float | None:
        """Standard deviation from seed to seed, pooled over every repeated configuration; None without any."""
        groups = [self.repeated(t).values for t in self.history.proposals if t.results]
        groups = [values for values in groups if len(values) > 1]
        freedom = sum(len(values) - 1 for values in groups)
        if not freedom:
            return None
        return math.sqrt(sum(statistics.variance(v) * (len(v) - 1) for v in groups) / freedom)

    def choices(self, trial: Trial) -> dict[str, str]:
        """The architecture that a trial found, where its record holds one."""
        return {str(name): str(option) for name, option in mapping(trial.record, "genotype").items()}

    def facts(self, trial: Trial, name: str) -> Mapping[str, Any]:
        """Named numbers of a trial's record, such as its costs."""
        return {k: v for k, v in mapping(trial.record, name).items() if number(v) is not None}
