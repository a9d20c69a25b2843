"""Which strings are measured together: strings that on every wire agree, or are `I`, share one measurement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quantum.measurements.observables import Observable, PauliString
from quantum.measurements.plans import kept
from quantum.measurements.readout import linear_form


@dataclass(frozen=True)
class Setting:
    """One way to measure all wires at once, and what its outcomes are worth to each observable.

    Args:
        basis: letter `X`, `Y` or `Z` per wire.
        values: `M x 2**n`: what outcome x adds to observable m.
    """

    basis: str
    values: Tensor


def measurement_bases(strings: Iterable[PauliString]) -> dict[str, list[PauliString]]:
    """Groups strings that commute qubit by qubit, greedily, the longest support first.

    Returns:
        Per basis (a letter `X`, `Y` or `Z` per wire) the strings that it measures. Each string is in one group.
    """
    groups: list[tuple[list[str], list[PauliString]]] = []
    for string in sorted(dict.fromkeys(strings), key=lambda s: -len(s.support)):
        for letters, members in groups:
            if all(a in ("I", b) or b == "I" for a, b in zip(string.letters, letters, strict=True)):
                letters[:] = [b if a == "I" else a for a, b in zip(string.letters, letters, strict=True)]
                members.append(string)
                break
        else:
            groups.append((list(string.letters), [string]))
    # A wire that nothing asks about is measured in Z, which needs no rotation.
    return {"".join(letters).replace("I", "Z"): members for letters, members in groups}


@kept
def settings(
    observables: tuple[Observable, ...],
    readout: tuple[tuple[float, float], ...] | None,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Setting, ...]:
    """The measurements that give all observables, each string from one of them.

    Args:
        observables: all on the same wires.
        readout: errors to put into the outcomes' worth, so that exact probabilities give what would be read.
        dtype: real type of the values.
        device: of the values.
    """
    strings = [string for observable in observables for string, _ in observable.terms]
    return tuple(
        Setting(basis, outcome_values(observables, set(members), readout).to(dtype=dtype, device=device))
        for basis, members in measurement_bases(strings).items()
    )


def outcome_values(
    observables: Sequence[Observable],
    measured: set[PauliString],
    readout: tuple[tuple[float, float], ...] | None = None,
) -> Tensor:
    """What each outcome is worth to each observable, counting only some of the strings.

    Returns:
        `M x 2**n` float64: sums over these strings of coefficient times product over the string's wires of +1 or -1,
        or of the linear form that readout errors make of it.
    """
    factors = bit_signs(observables[0].n_wires)
    if readout is not None:
        forms = torch.tensor([linear_form(pair) for pair in readout], dtype=factors.dtype)
        factors = factors * forms[:, :1] + forms[:, 1:]
    values = torch.zeros(len(observables), factors.shape[1], dtype=factors.dtype)
    for row, observable in zip(values, observables, strict=True):
        for string, coefficient in observable.terms:
            if string in measured:
                row += coefficient * factors[list(string.support)].prod(0)
    return values


def bit_signs(n_wires: int) -> Tensor:
    """`n x 2**n` float64: +1 where the bit of a wire is 0 in a basis state's index, else -1."""
    shifts = torch.arange(n_wires - 1, -1, -1).unsqueeze(1)
    return (1 - 2 * ((torch.arange(2**n_wires) >> shifts) & 1)).double()
