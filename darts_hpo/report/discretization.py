"""What a search believed that it had found, beside what it had found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darts_hpo.report.record import mapping, number


@dataclass(frozen=True)
class Discretization:
    """Scores of the supernet on val before any retraining. They are shown together or not at all.

    Args:
        metric: the primary one.
        relaxed: of the supernet under the gates that the search ended with.
        discretized: of the plain network that was taken from it.
    """

    metric: str
    relaxed: float
    discretized: float

    @property
    def gap(self) -> float:
        """Relaxed minus discretized: what the step to a single architecture costs."""
        return self.relaxed - self.discretized

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> Discretization | None:
        """From the content of ``metrics.json``; None where one of the scores is not known."""
        metric, search = metrics.get("primary_metric"), mapping(metrics, "search")
        relaxed = number(mapping(search, "relaxed_val").get(str(metric)))
        discretized = number(mapping(search, "discretized_val").get(str(metric)))
        if relaxed is None or discretized is None:
            return None
        return cls(str(metric), relaxed, discretized)
