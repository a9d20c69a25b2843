"""From trials to what executors run, where the objective is a Python function."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.call import prepare_call
from darts_hpo.tuning.executors.base import Executor, Job
from darts_hpo.tuning.trial import Trial


class FunctionJobs:
    """Makes jobs that call a function with a trial's point as keywords.

    Where the trial has a budget, ``budget=`` is passed too; where it has a seed of its own (a repetition), ``seed=``.
    A parameter whose name is no Python name is passed all the same: the function takes ``**point``.

    Args:
        function: the objective.
        executor: decides whether the function is called here or in a process of its own.
        directory: of the study; trials get ``<directory>/<number>``. None takes a temporary one.
        timeout: seconds a trial may take.

    Raises:
        ConfigError: without a directory, nothing could find workers in other processes again.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        executor: Executor,
        directory: Path | None,
        timeout: float | None = None,
    ) -> None:
        if directory is None and not executor.calls_functions:
            raise ConfigError("Trials in other processes need files: give the study a directory=.")
        self.function, self.executor, self.timeout = function, executor, timeout
        self._temporary = TemporaryDirectory() if directory is None else None
        self._directory = Path(self._temporary.name) if self._temporary is not None else directory

    def __enter__(self) -> FunctionJobs:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()

    def __call__(self, trial: Trial, attempt: int) -> Job:
        """The job of one attempt.

        Raises:
            ConfigError: another process could not find the function.
        """
        assert self._directory is not None
        keywords: dict[str, Any] = dict(trial.point)
        if trial.budget is not None:
            keywords["budget"] = trial.budget
        if trial.seed is not None:
            keywords["seed"] = trial.seed
        directory = self._directory / str(trial.number)
        if self.executor.calls_functions:
            return Job(
                trial.number, attempt, directory, timeout=self.timeout, function=partial(self.function, **keywords)
            )
        command = prepare_call(directory, self.function, **keywords)
        return Job(trial.number, attempt, directory, command, timeout=self.timeout)
