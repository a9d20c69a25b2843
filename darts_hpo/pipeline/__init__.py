"""From a configuration to a found, trained, measured and exported network; every stage can be continued.

Stages: search, derive, retrain, reference, evaluate, export, random networks, report. Each leaves its result in the
run directory before the next begins; running the same command again skips what is there and continues what is not.
"""

from __future__ import annotations

import logging
from pathlib import Path

from darts_hpo.config import RunConfig
from darts_hpo.pipeline.run import Run
from darts_hpo.runs.directory import RunDirectory

__all__ = ["Run", "run_pipeline"]


def run_pipeline(config: RunConfig) -> float | dict[str, float]:
    """Run or continue everything a configuration asks for.

    Returns:
        What ``config.objective`` names: a number, or names and numbers where it is a list. Where a budget paused the
        run, its value so far.

    Raises:
        RunStopped: a STOP file asked for it, or the budget ended before there was anything to return.
        DartsHPOError: a setting or file is wrong, the directory is in use or belongs to another configuration, or
            training failed; in the last case ``metrics.json`` says so.
    """
    # Lightning announces products and hardware at every fit; warnings still come through.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning").setLevel(logging.WARNING)
    directory = RunDirectory(Path(config.run_dir))
    with directory.lock():
        return Run(config, directory).result()
