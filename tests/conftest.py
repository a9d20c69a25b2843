"""What all tests share."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"

# Small tensors: more threads cost more than they give, and results do not depend on the machine.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on the development data say so where it is absent."""
    if DATA.is_dir():
        return
    skip = pytest.mark.skip(reason="the development data (../shared/data) is not here")
    for item in items:
        if item.get_closest_marker("needs_data"):
            item.add_marker(skip)


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """A test that silently does not run proves nothing: only absent development data may skip one."""
    if report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"{report.nodeid} may not be skipped. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, pytest.TestReport]:
    """Skips are failures, but for absent development data."""
    report: pytest.TestReport = yield
    if DATA.is_dir() or not item.get_closest_marker("needs_data"):
        _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, pytest.CollectReport]:
    """Whole modules are never skipped."""
    report: pytest.CollectReport = yield
    _fail_if_skipped(report)
    return report


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
