"""Running the command line inside the test's own process: no start-up time, and defects can be put in."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from darts_hpo.cli import main
from supernets.toy.task import DigitsClassification

FAST = (
    "+experiment=toy_darts",
    "search.epochs=3",
    "search.batch_size=128",
    "retrain.epochs=3",
    "retrain.batch_size=256",
    "reference=false",
    "export.onnx=false",
    "costs.latency_ms=null",
    "costs.gflops=null",
    "trainer.accelerator=cpu",
)
"""A run of a second or two through search, retraining, evaluation and report, without anything timed by a clock."""


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def run_here(folder: Path, *arguments: str) -> Outcome:
    """``python train.py ARGUMENTS`` in a folder."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with _process_as_before(), redirect_stdout(out), redirect_stderr(err):
        os.chdir(folder)
        sys.argv = ["train.py"]
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Outcome(code, out.getvalue(), err.getvalue())


@contextmanager
def _process_as_before() -> Iterator[None]:
    """What a command may change because its process ends with it: logging, arguments, determinism, threads."""
    root = logging.getLogger()
    handlers, level, raises = list(root.handlers), root.level, logging.raiseExceptions
    levels = {name: logging.getLogger(name).level for name in ("pytorch_lightning", "lightning")}
    arguments, environment, folder = list(sys.argv), dict(os.environ), Path.cwd()
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
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
        sys.argv = arguments
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)


def at_batch(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[dict[str, Any]], object]) -> None:
    """Act on the loss terms of the given batch of the digits task, counted from 1 over all stages."""
    original, count = DigitsClassification.loss, 0

    def loss(*arguments: Any, **named: Any) -> dict[str, Any]:
        nonlocal count
        terms = original(*arguments, **named)
        count += 1
        if count == number:
            act(terms)
        return terms

    monkeypatch.setattr(DigitsClassification, "loss", loss)


def contents(folder: Path, *but: str) -> dict[str, bytes]:
    """Every file below a folder, by relative path."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()}
    return {name: path.read_bytes() for name, path in sorted(files.items()) if name not in but}


def metrics_of(run_dir: Path) -> dict[str, Any]:
    """``metrics.json``, in which no number may be NaN or infinite."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in metrics.json")

    metrics: dict[str, Any] = json.loads((run_dir / "metrics.json").read_text(), parse_constant=refuse)
    return metrics
