"""What metrics and costs are called where people read them; their keys in files stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from darts_hpo.report.record import mapping, numbers, random_networks

_UNLABELLED = {
    "params_train": "Parameters, train form",
    "params_deployed": "Parameters, deployed",
    "gflops": "GFLOPs",
    "latency_ms": "Latency (ms)",
}
"""Costs of runs that were written before labels were stored with them."""

_METRICS = {"map": "mAP50-95", "map50": "mAP50", "map75": "mAP75"}


def cost_labels(*runs: Mapping[str, Any]) -> dict[str, str]:
    """The costs of runs by key, in the order in which they are shown, with what they are called.

    Args:
        runs: content of ``metrics.json`` of each.
    """
    labels: dict[str, str] = {}
    for metrics in runs:
        labels |= {name: text for name, text in mapping(metrics, "cost_labels").items() if isinstance(text, str)}
    keys = dict.fromkeys(key for metrics in runs for key in _costs(metrics))
    order = {key: position for position, key in enumerate(_UNLABELLED)}
    others = sorted((key for key in keys if key not in labels), key=lambda key: (order.get(key, len(order)), key))
    return labels | {key: _UNLABELLED.get(key, key) for key in others}


def _costs(metrics: Mapping[str, Any]) -> list[str]:
    networks = [*(mapping(metrics, who) for who in ("found", "reference", "search")), *random_networks(metrics)]
    return [name for network in networks for name, _ in numbers(mapping(network, "costs"))]


def metric_label(name: str) -> str:
    """The name the field knows a metric by, with its key; the key alone where there is no other.

    >>> metric_label("map")
    'mAP50-95 (map)'
    """
    return f"{_METRICS[name]} ({name})" if name in _METRICS else name
