"""The closing table of a run, for a terminal or a log."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from darts_hpo.report.labels import COST_LABELS, metric_label

if TYPE_CHECKING:
    from rich.table import Table

HEADLINE_METRICS = 2
"""Metrics shown beside the primary one's family; all of them are in ``metrics.json`` and the report."""


def results_table(metrics: Mapping[str, Any], width: int = 100) -> str:
    """Found and reference network side by side, as text.

    Args:
        metrics: content of ``metrics.json``.
        width: columns of the output.
    """
    from rich.console import Console
    from rich.table import Table

    networks = [name for name in ("found", "reference") if metrics.get(name)]
    table = Table(title="Result", title_justify="left")
    table.add_column("")
    if not networks:
        _add_search(table, metrics)
    for name in networks:
        table.add_column(name, justify="right")
    for split in ("val", "test"):
        for metric in _headline(metrics, networks) if networks else ():
            values = [metrics[name][split].get(metric) for name in networks]
            table.add_row(f"{split} {metric_label(metric)}", *(_score(value) for value in values))
    for key, label in COST_LABELS.items():
        values = [metrics[name]["costs"].get(key) for name in networks]
        if any(value is not None for value in values):
            table.add_row(label, *(_quantity(value) for value in values))
    text = io.StringIO()
    Console(file=text, width=width).print(table)
    return text.getvalue().rstrip()


def _add_search(table: Table, metrics: Mapping[str, Any]) -> None:
    """What a run without retraining has to show: the discretized supernet."""
    search = metrics.get("search") or {}
    table.add_column("discretized supernet", justify="right")
    scores = search.get("discretized_val") or {}
    for metric in [name for name in scores if "/" not in name][:HEADLINE_METRICS]:
        table.add_row(f"val {metric_label(metric)}", _score(scores[metric]))
    for key, label in COST_LABELS.items():
        if (search.get("costs") or {}).get(key) is not None:
            table.add_row(label, _quantity(search["costs"][key]))


def _headline(metrics: Mapping[str, Any], networks: list[str]) -> list[str]:
    """The primary metric and, of the others without a class name, the first ones."""
    primary = metrics["primary_metric"]
    others = [name for name in metrics[networks[0]]["test"] if "/" not in name and name != primary]
    return [primary, *others[: HEADLINE_METRICS - 1]]


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _quantity(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 10_000 else f"{value:.3f}"
