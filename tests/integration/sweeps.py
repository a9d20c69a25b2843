"""Sweeping other people's Hydra applications: in a process of their own, or in the test's."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from integration.commands import environment_of_a_run

from darts_hpo.tuning.history import History
from darts_hpo.tuning.study import Study

STRANGER = Path(__file__).with_name("stranger")
"""An application that has nothing of ours in it."""

QUICK = (
    "hydra/sweeper=botorch",
    "hydra/sweeper/sampler=random",
    "hydra.sweeper.posterior=false",
    "hydra.sweeper.report=false",
    "hydra.sweeper.poll_seconds=0.05",
)
"""Options of a sweep whose trials take no time."""


def sweep(folder: Path, *arguments: str, program: tuple[str, ...] = (), **environment: str) -> Any:
    """``python app.py -m QUICK ARGUMENTS`` in a folder, as a completed process."""
    command = [sys.executable, *(program or (str(STRANGER / "app.py"),)), "-m", *QUICK, *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment_of_a_run(**environment),
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )


def sweep_here(folder: Path, task: Callable[[Any], Any], *arguments: str) -> Any:
    """The same with a task function of the test's and the stranger's configuration, run by Hydra's own launcher.

    Raises:
        Exception: whatever ends the sweep.
    """
    options = ["hydra.sweep.dir=sweep", "hydra/sweeper/executor=launcher", "hydra.sweeper.poll_seconds=0"]
    with _process_as_before():
        os.chdir(folder)
        os.environ["HYDRA_FULL_ERROR"] = "1"
        sys.argv = ["app.py", "-m", *QUICK, *options, *arguments]
        main = hydra.main(version_base="1.3", config_path=str(STRANGER / "conf"), config_name="config")
        return main(task)()


@contextmanager
def _process_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, root.manager.disable
    arguments, environment, folder = list(sys.argv), dict(os.environ), Path.cwd()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        root.manager.disable = disabled
        for logger in root.manager.loggerDict.values():
            if isinstance(logger, logging.Logger):
                logger.disabled = False
        sys.argv = arguments
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)


def history(folder: Path) -> History:
    """The study in a sweep's directory."""
    return Study.load(folder)


def results(folder: Path) -> dict[str, Any]:
    """Its ``optimization_results.yaml``."""
    content: dict[str, Any] = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    return content
