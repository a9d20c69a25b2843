"""Running the command line inside the test's own process: no start-up time, and defects can be put in."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from darts_hpo.cli import main


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@contextmanager
def own_logging() -> Iterator[None]:
    """Hydra configures logging for the process: close what it opened, put back what was there."""
    root = logging.getLogger()
    handlers, level, raises = list(root.handlers), root.level, logging.raiseExceptions
    levels = {name: logging.getLogger(name).level for name in ("pytorch_lightning", "lightning")}
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.raiseExceptions = raises
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)


@pytest.fixture
def train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Outcome]]:
    """Runs the command line in ``tmp_path``, as ``python train.py ARGUMENTS`` would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    environment = dict(os.environ)
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()

    def command(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = 0
        with own_logging():
            try:
                main(arguments)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Outcome(code, *capsys.readouterr())

    yield command
    torch.use_deterministic_algorithms(deterministic)
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(environment)
