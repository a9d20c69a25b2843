"""What a trial leaves behind when its task function ends: ``result.json``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

_RANKS = ("RANK", "LOCAL_RANK")


class ResultCallback(Callback):
    """Writes what the task function returned, or why it failed, into the run's directory.

    ``@hydra.main`` throws return values away, so a trial in a process of its own reports through this callback.
    A process that is killed, or ends itself by ``sys.exit``, leaves no answer: its executor says how it ended.
    """

    def __init__(self) -> None:
        self._attempt, self._began = 1, time.monotonic()

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """The clock starts. Which attempt this is stands in the environment, until the job ends."""
        from darts_hpo.tuning.answer import current_attempt

        del config, kwargs
        self._attempt, self._began = current_attempt(), time.monotonic()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """The answer is written."""
        from darts_hpo.tuning.answer import write_answer, write_failure

        del kwargs
        if any(os.environ.get(rank, "0") != "0" for rank in _RANKS):
            return  # a helper of a distributed training, which runs the same command
        directory, seconds = Path(config.hydra.runtime.output_dir), time.monotonic() - self._began
        returned = job_return._return_value  # the property would raise what a failed job raised
        if job_return.status is JobStatus.COMPLETED:
            write_answer(directory, self._attempt, returned, seconds=seconds)
        else:
            write_failure(directory, self._attempt, returned, seconds=seconds)
