"""The closing table of a run, for a terminal or a log."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from darts_hpo.report.discretization import Discretization
from darts_hpo.report.labels import cost_labels, metric_label
from darts_hpo.report.record import random_networks
from darts_hpo.report.spread import spread

if TYPE_CHECKING:
    from rich.table import Table

HEADLINE_METRICS = 2
"""Metrics shown beside the primary one's family; all of them are in ``metrics.json`` and the report."""


def results_table(metrics: Mapping[str, Any], width: int = 100) -> str:
    """Found, reference and random networks side by side, as text.

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
    random = random_networks(metrics) if networks else []
    if random:
        shown = f"mean +- sd of {len(random)}" if len(random) > 1 else "one"
        table.add_column(f"random ({shown})", justify="right")
    for split in ("val", "test"):
        for metric in _headline(metrics, networks) if networks else ():
            cells = [_score(metrics[name][split].get(metric)) for name in networks]
            table.add_row(f"{split} {metric_label(metric)}", *cells, *_random(random, split, metric, _score))
    for key, label in cost_labels(metrics).items():
        values = [metrics[name]["costs"].get(key) for name in networks]
        if any(value is not None for value in values):
            table.add_row(label, *map(_quantity, values), *_random(random, "costs", key, _quantity))
    text = io.StringIO()
    Console(file=text, width=width).print(table)
    return f"{text.getvalue().rstrip()}{_discretization(metrics)}"


def _random(
    networks: Sequence[Mapping[str, Any]], group: str, name: str, shown: Callable[[float | None], str]
) -> list[str]:
    """The cell of a row; none where there is no column."""
    if not networks:
        return []
    values = spread(networks, group, name)
    if values is None:
        return ["-"]
    return [shown(values.mean) if values.deviation is None else f"{shown(values.mean)} +- {shown(values.deviation)}"]


def _discretization(metrics: Mapping[str, Any]) -> str:
    scores = Discretization.of(metrics)
    if scores is None:
        return ""
    return (
        f"\nSearch, val {metric_label(scores.metric)}: relaxed {scores.relaxed:.3f}, "
        f"discretized {scores.discretized:.3f}, gap {scores.gap:+.3f}"
    )


def _add_search(table: Table, metrics: Mapping[str, Any]) -> None:
    """What a run without retraining has to show: the discretized supernet."""
    search = metrics.get("search") or {}
    table.add_column("discretized supernet", justify="right")
    scores = search.get("discretized_val") or {}
    for metric in [name for name in scores if "/" not in name][:HEADLINE_METRICS]:
        table.add_row(f"val {metric_label(metric)}", _score(scores[metric]))
    for key, label in cost_labels(metrics).items():
        if (search.get("costs") or {}).get(key) is not None:
            table.add_row(label, _quantity(search["costs"][key]))


def _headline(metrics: Mapping[str, Any], networks: list[str]) -> list[str]:
    """The primary metric and its variants (``accuracy_noisy`` of ``accuracy``), then others without a class name."""
    primary = metrics["primary_metric"]
    others = [name for name in metrics[networks[0]]["test"] if "/" not in name and name != primary]
    variants = [name for name in others if name.startswith(f"{primary}_")]
    rest = [name for name in others if name not in variants]
    return [primary, *variants, *rest[: max(0, HEADLINE_METRICS - 1 - len(variants))]]


def _score(value: float | None) -> str:
    if value is None:
        return "-"
    # Errors can be much smaller than one, and then they are what matters.
    return f"{value:.1e}" if 0 < abs(value) < 5e-4 else f"{value:.3f}"


def _quantity(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"
