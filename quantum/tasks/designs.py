"""Finite sets of states over which a mean equals that over all states."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from darts_hpo.errors import ConfigError

MOST_WIRES = 6
"""Wires up to which there is a set: 4160 states."""

_IRREDUCIBLE = {1: 0b11, 2: 0b111, 3: 0b1011, 4: 0b10011, 5: 0b100101, 6: 0b1000011}


def two_design(n_wires: int) -> Tensor:
    """The states of a complete set of mutually unbiased bases, a state 2-design.

    States of two different bases overlap by exactly `1 / 2**n` in square modulus. The mean of any polynomial of
    degree two in a state's projector over the set equals that over all states (Klappenecker and Roetteler,
    arXiv:quant-ph/0502031); that of `<psi|U^dagger E(psi) U|psi>` is therefore the exact average gate
    fidelity of a channel `E` with a unitary `U`, as Nielsen defines it (arXiv:quant-ph/0205035).

    Besides the basis states there is one basis per element `a` of the field of `2**n` elements, with amplitudes
    `i**(x^T A x) (-1)**(b x) / sqrt(2**n)`, where `A_jk = tr(a e_j e_k)` for a basis `e` of the field (Wootters and
    Fields, "Optimal state-determination by mutually unbiased measurements", Annals of Physics 191, 1989).

    Args:
        n_wires: 1 to :data:`MOST_WIRES`.

    Returns:
        `2**n (2**n + 1) x 2**n`, complex128.

    Raises:
        ConfigError: too many wires.
    """
    if n_wires not in _IRREDUCIBLE:
        raise ConfigError(f"n_wires={n_wires}: expected 1 to {MOST_WIRES}, for which a 2-design of states is known.")
    size = 2**n_wires
    numbers = np.arange(size)
    bits = (numbers[:, None] >> np.arange(n_wires)) & 1
    signs = 1 - 2 * (bits @ bits.T % 2)  # row b, column x: (-1)**(b x)
    bases = [np.eye(size, dtype=np.complex128)]
    for element in range(size):
        form = np.array(
            [
                [_trace(_product(element, 1 << (j + k), n_wires), n_wires) for k in range(n_wires)]
                for j in range(n_wires)
            ]
        )
        phases = np.array([1, 1j, -1, -1j])[np.einsum("xj,jk,xk->x", bits, form, bits) % 4]
        bases.append(signs * phases / math.sqrt(size))
    return torch.from_numpy(np.concatenate(bases))


def _product(first: int, second: int, degree: int) -> int:
    """Product of two elements of the field, polynomials over bits; `second` may be of any degree."""
    result = 0
    modulus = _IRREDUCIBLE[degree]
    while second:
        if second & 1:
            result ^= first
        second >>= 1
        first <<= 1
        if first >> degree:
            first ^= modulus
    return result


def _trace(element: int, degree: int) -> int:
    """Sum of the element's conjugates: 0 or 1."""
    total, power = 0, element
    for _ in range(degree):
        total ^= power
        power = _product(power, power, degree)
    return total
