"""Parts of a data set that lie in one another: what a share of the data means as a budget."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np


def nested_subset(strata: Sequence[Hashable], fraction: float, seed: int) -> list[int]:
    """Positions of a part of the samples, every stratum in proportion.

    For one seed the parts are nested: that of 0.25 is contained in that of 0.5. Samples are ordered once and a
    part is a beginning of that order: within a stratum at random, strata interleaved by their quantiles, so that
    every beginning holds each of them to within one sample of its share.

    Args:
        strata: group of every sample, for example its class; equal for all where there are no groups.
        fraction: share of the samples, in (0, 1].
        seed: of the order.

    Returns:
        Positions, ascending, at least one where there are samples.
    """
    rng = np.random.default_rng([seed, len(strata)])
    members: dict[Hashable, list[int]] = {}
    for position, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(position)
    keyed: list[tuple[float, float, int]] = []
    for positions in members.values():
        shuffled = rng.permutation(positions).tolist()
        ties = rng.random(len(positions)).tolist()
        keyed += [((rank + 0.5) / len(shuffled), ties[rank], position) for rank, position in enumerate(shuffled)]
    count = math.ceil(fraction * len(strata) - 1e-9)
    return sorted(position for _, _, position in sorted(keyed)[:count])
