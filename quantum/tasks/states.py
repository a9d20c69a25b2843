"""States of qubits as amplitudes `2**n`, complex128, wire 0 the most significant bit of the index."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError


def ghz(n_wires: int) -> Tensor:
    """`(|0...0> + |1...1>) / sqrt(2)`.

    Raises:
        ConfigError: fewer than two wires.
    """
    _check_wires(n_wires, 2)
    state = torch.zeros(2**n_wires, dtype=torch.complex128)
    state[0] = state[-1] = math.sqrt(0.5)
    return state


def w(n_wires: int) -> Tensor:
    """One excitation spread evenly: the sum of all basis states with a single 1, over `sqrt(n)`.

    Raises:
        ConfigError: fewer than two wires.
    """
    _check_wires(n_wires, 2)
    state = torch.zeros(2**n_wires, dtype=torch.complex128)
    state[[1 << wire for wire in range(n_wires)]] = 1 / math.sqrt(n_wires)
    return state


def amplitudes(real: Sequence[float], imaginary: Sequence[float] | None = None) -> Tensor:
    """A state of given amplitudes, which are normalized.

    Args:
        real: `2**n` real parts, in order of the basis states.
        imaginary: as many imaginary parts; None for none.

    Raises:
        ConfigError: their number is no power of two from 2 or differs, or all are zero.
    """
    n_wires = (len(real) - 1).bit_length()
    if len(real) < 2 or len(real) != 2**n_wires:
        raise ConfigError(f"A state of {len(real)} amplitudes: expected a power of two from 2.")
    if imaginary is not None and len(imaginary) != len(real):
        raise ConfigError(f"A state of {len(real)} real and {len(imaginary)} imaginary parts: expected as many.")
    state = torch.complex(
        torch.tensor(real, dtype=torch.float64),
        torch.zeros(len(real), dtype=torch.float64)
        if imaginary is None
        else torch.tensor(imaginary, dtype=torch.float64),
    )
    norm = float(torch.linalg.vector_norm(state))
    if not 0 < norm < math.inf:
        raise ConfigError("A state needs finite amplitudes, at least one of them other than zero.")
    return state / norm


def haar_states(count: int, n_wires: int, seed: Sequence[int]) -> Tensor:
    """Random states, uniformly distributed on the sphere.

    Args:
        count: how many, `B`.
        n_wires: qubits.
        seed: integers that the states are a function of.

    Returns:
        `B x 2**n`.
    """
    import numpy as np

    parts = np.random.default_rng(list(seed)).normal(size=(2, count, 2**n_wires))
    states = torch.complex(torch.from_numpy(parts[0]), torch.from_numpy(parts[1]))
    return states / torch.linalg.vector_norm(states, dim=1, keepdim=True)


def _check_wires(n_wires: int, least: int) -> None:
    if n_wires < least:
        raise ConfigError(f"n_wires={n_wires}: expected at least {least}.")
