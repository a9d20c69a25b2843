"""Errors of the readout: a measured bit is reported wrongly, each wire on its own.

On a wire with `e01` = P(read 1 | 0) and `e10` = P(read 0 | 1), an expectation z of +1 and -1 is read as
`(1 - e01 - e10) z + (e10 - e01)`. A product of Pauli matrices becomes the product of these linear forms, whatever basis
each wire is measured in, because the wires are read independently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from torch import Tensor

from darts_hpo.errors import ConfigError
from quantum.measurements.products import apply_factors, factor_windows

Readout: TypeAlias = Sequence[tuple[float, float]]
"""Per wire `(e01, e10)`: the probabilities to read 1 for 0 and to read 0 for 1."""


def checked_readout(readout: Readout | None, n_wires: int) -> tuple[tuple[float, float], ...] | None:
    """Readout errors as a hashable value; None when there are none.

    Raises:
        ConfigError: there is not one pair per wire, or a number is no probability.
    """
    if readout is None:
        return None
    pairs = tuple((float(e01), float(e10)) for e01, e10 in readout)
    if len(pairs) != n_wires:
        raise ConfigError(f"There are readout errors of {len(pairs)} wires; expected one pair for each of {n_wires}.")
    for wire, pair in enumerate(pairs):
        if not all(0.0 <= error <= 1.0 for error in pair):
            raise ConfigError(f"The readout errors of wire {wire} are {pair}; expected probabilities from 0 to 1.")
    return pairs if any(error > 0.0 for pair in pairs for error in pair) else None


def linear_form(pair: tuple[float, float]) -> tuple[float, float]:
    """`(a, b)` such that an expectation z is read as `a * z + b`."""
    e01, e10 = pair
    return 1.0 - e01 - e10, e10 - e01


def confused(probabilities: Tensor, readout: Readout) -> Tensor:
    """Probabilities of what is read, from those of what is.

    Args:
        probabilities: `2**n x B`.
        readout: a pair per wire.

    Returns:
        `2**n x B`.
    """
    factors = [((1.0 - e01, e10), (e01, 1.0 - e10)) for e01, e10 in readout]
    return apply_factors(probabilities, factor_windows(factors, probabilities.dtype, probabilities.device))
