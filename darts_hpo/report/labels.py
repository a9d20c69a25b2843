"""What metrics and costs are called where people read them; their keys in files stay as they are."""

from __future__ import annotations

COST_LABELS = {
    "params_train": "Parameters, train form",
    "params_deployed": "Parameters, deployed",
    "gflops": "GFLOPs",
    "latency_ms": "Latency (ms)",
}
"""Costs in the order in which they are shown."""

_METRICS = {"map": "mAP50-95", "map50": "mAP50", "map75": "mAP75"}


def metric_label(name: str) -> str:
    """The name the field knows a metric by, with its key; the key alone where there is no other.

    >>> metric_label("map")
    'mAP50-95 (map)'
    """
    return f"{_METRICS[name]} ({name})" if name in _METRICS else name
