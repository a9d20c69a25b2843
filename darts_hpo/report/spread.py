"""Means over several networks, and how far they lie apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from darts_hpo.report.record import mapping, numbers


@dataclass(frozen=True)
class Spread:
    """Values of one quantity over several networks.

    Args:
        values: at least one.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the networks, of `n - 1` degrees of freedom; None for a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean: the deviation over the root of `n`."""
        return None if self.deviation is None else self.deviation / math.sqrt(len(self.values))


def spread(networks: Sequence[Mapping[str, Any]], group: str, name: str) -> Spread | None:
    """Of one number of networks; None where none of them has it.

    Args:
        networks: entries of ``random`` in ``metrics.json``.
        group: ``val``, ``test`` or ``costs``.
        name: as :func:`~darts_hpo.report.record.numbers` names it.
    """
    found = (dict(numbers(mapping(network, group))).get(name) for network in networks)
    values = tuple(value for value in found if value is not None)
    return Spread(values) if values else None
