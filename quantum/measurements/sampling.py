"""Expectation values from finitely many shots, as a device would give them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError
from quantum.measurements.bases import settings
from quantum.measurements.exact import checked_observables
from quantum.measurements.observables import Observable
from quantum.measurements.readout import Readout, checked_readout
from quantum.measurements.states import check_wires, probabilities

_DRAWS_AT_ONCE = 2**22
"""Bounds the memory of a draw: 32 MiB of outcomes."""


@torch.no_grad()
def sampled_expectations(
    state: Tensor,
    observables: Sequence[Observable],
    n_wires: int,
    shots: int,
    generator: torch.Generator | None = None,
    readout: Readout | None = None,
) -> Tensor:
    """Estimates of expectation values from measured outcomes; unbiased, without a gradient.

    Strings that agree on every wire, or have `I` there, are read from the same outcomes, as on a device: all diagonal
    ones share one measurement. Every further basis is measured on its own with as many shots.

    Args:
        state: raw, in either form, normalised.
        observables: `M` of them.
        n_wires: number of qubits.
        shots: outcomes per measurement basis and sample, at least 1.
        generator: source of randomness, PyTorch's own when left out. The draws are made on its device.
        readout: per wire `(e01, e10)`, the probabilities to read 1 for 0 and 0 for 1.

    Returns:
        `B x M` real, on the state's device.

    Raises:
        ConfigError: `shots` is not positive, or the state, an observable or the readout errors do not fit the wires.
    """
    if shots < 1:
        raise ConfigError(f"shots is {shots}; expected at least 1 (leave shots out for exact expectations).")
    chosen = checked_observables(observables, n_wires)
    check_wires(state, n_wires)
    errors = checked_readout(readout, n_wires)
    real_dtype = state.real.dtype if state.is_complex() else state.dtype
    total = torch.zeros(state.shape[1], len(chosen), dtype=real_dtype, device=state.device)
    for setting in settings(chosen, None, real_dtype, state.device):
        counts = _counts(probabilities(state, setting.basis, errors), shots, generator)
        total += counts.to(total) @ setting.values.T
    return total / shots


def _counts(chances: Tensor, shots: int, generator: torch.Generator | None) -> Tensor:
    """How often each outcome came up in `shots` draws: `B x 2**n` float64."""
    # Rounding may leave a chance of a Pauli vector slightly below zero.
    weights = chances.double().clamp(min=0.0)
    if generator is not None:
        weights = weights.to(generator.device)
    counts = torch.zeros_like(weights)
    one = torch.ones((), dtype=weights.dtype, device=weights.device)
    at_once = max(1, _DRAWS_AT_ONCE // weights.shape[0])
    for start in range(0, shots, at_once):
        draws = min(at_once, shots - start)
        outcomes = torch.multinomial(weights, draws, replacement=True, generator=generator)
        counts.scatter_add_(1, outcomes, one.expand(outcomes.shape))
    return counts
