"""Exact gradients of expectation values from the values themselves, at shifted angles.

Where a circuit runs on hardware or gives sampled values there is nothing to differentiate. But as a function of one
angle of one gate, an expectation value is a finite Fourier series whose frequencies are the differences between the
eigenvalues of that angle's generator. A few values at shifted angles therefore give the derivative exactly
(D. Wierichs et al., General parameter-shift rules for quantum gradients, Quantum 6, 677, 2022). One frequency, as for
RX, takes two terms; two frequencies, as for a controlled rotation, take four.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from darts_hpo.errors import SpaceError
from quantum.circuit import Angle, Circuit, Operation, Weight
from quantum.gates import QuantumGate

Expectations: TypeAlias = Callable[[Circuit, Tensor], Tensor]
"""A circuit and its weights `[n_weights]` to expectation values of any shape, exact or sampled."""

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class ShiftRule:
    """`f'(t) = sum_k c_k (f(t + s_k) - f(t - s_k))`.

    Args:
        shifts: the `s_k`, positive, in radians.
        coefficients: the `c_k`.
    """

    shifts: tuple[float, ...]
    coefficients: tuple[float, ...]

    @property
    def n_terms(self) -> int:
        """Values of `f` that the rule takes."""
        return 2 * len(self.shifts)


@functools.cache
def shift_rule(frequencies: tuple[float, ...]) -> ShiftRule:
    """The rule for functions `a + sum_l (b_l cos(w_l t) + c_l sin(w_l t))`.

    The frequencies `(1,)` give the two-term rule, `(0.5, 1.0)` the four-term rule with shifts of 90 and 270 degrees.

    Args:
        frequencies: the `w_l`, positive and different from each other. None at all is the rule of a constant.

    Raises:
        SpaceError: a frequency is not positive, or two are equal.
    """
    if any(frequency <= 0 for frequency in frequencies) or len(set(frequencies)) != len(frequencies):
        raise SpaceError(f"A shift rule needs frequencies above 0 that differ; it was given {list(frequencies)}.")
    if not frequencies:
        return ShiftRule((), ())
    # Shifts that suit equally spaced frequencies (Wierichs et al., equation 22); only the odd part of f is left in
    # f(t + s) - f(t - s), and the rule must be exact for sin(w_l t) with every w_l.
    count, spacing = len(frequencies), max(frequencies) / len(frequencies)
    shifts = [(2 * k + 1) * math.pi / (2 * count * spacing) for k in range(count)]
    w = torch.tensor(frequencies, dtype=torch.float64)
    sines = 2 * torch.sin(w[:, None] * torch.tensor(shifts, dtype=torch.float64))
    return ShiftRule(tuple(shifts), tuple(torch.linalg.solve(sines, w).tolist()))


@functools.cache
def gate_frequencies(gate: QuantumGate) -> tuple[tuple[float, ...], ...]:
    """The frequencies at which expectation values oscillate in each of a gate's angles.

    For `U(t) = A exp(-i t G) B` they are the differences between eigenvalues of `G`, which are those of
    `i U^dagger dU/dt`. RX has 1; CRX has 1/2 and 1; P, and phi and lambda of U3 and CU3, have 1.

    Args:
        gate: any gate whose matrix is differentiable.

    Returns:
        Ascending frequencies for each parameter.

    Raises:
        SpaceError: an angle does not enter as `exp(-i t G)`, so that no shift rule exists.
    """
    generator = torch.Generator().manual_seed(0)
    angles = torch.rand(gate.n_parameters, dtype=torch.float64, generator=generator)
    result = []
    for position in range(gate.n_parameters):
        moved = angles.clone()
        moved[position] += 1.0
        hermitian = _logarithmic_derivative(gate, angles, position)
        if not torch.allclose(hermitian, _logarithmic_derivative(gate, moved, position), rtol=0, atol=_TOLERANCE):
            raise SpaceError(
                f"Parameter {position} of the gate {gate.name!r} has no parameter-shift rule: its matrix is not of the "
                f"form A exp(-i t G) B in that angle. Use gradients by backpropagation."
            )
        levels = torch.linalg.eigvalsh(hermitian)
        gaps = (levels[:, None] - levels).flatten()
        rounded = {round(gap, 9) for gap in gaps[gaps > _TOLERANCE].tolist()}
        result.append(tuple(sorted(rounded)))
    return tuple(result)


def parameter_shift(circuit: Circuit, weights: Tensor | Sequence[float], expectations: Expectations) -> Tensor:
    """The derivatives of expectation values by every weight of a circuit, by shifting angles.

    A weight that several gates use is shifted in one gate at a time, and the derivatives are added. A constant or a
    feature of the input is never shifted.

    Args:
        circuit: the circuit.
        weights: its `n_weights` angles in radians.
        expectations: called once per term, with a circuit of the same gates in which every trained angle is a weight
            of its own, and with those weights `[W]`. It may simulate, sample, or ask a device.

    Returns:
        `[..., n_weights]`, where `...` is the shape of what `expectations` returns. Exact where the values are;
        unbiased where they are sampled without bias.

    Raises:
        SpaceError: the number of weights is wrong, no weight is there, or a gate has no shift rule.
    """
    values = torch.as_tensor(weights).detach()
    if values.shape != (circuit.n_weights,) or not circuit.n_weights:
        raise SpaceError(
            f"The circuit has {circuit.n_weights} weights, but {list(values.shape)} were given; expected one a weight, "
            f"and at least one."
        )
    separate, origin, rules = _separated(circuit)
    spread = values[origin]
    result: Tensor | None = None
    for place, rule in enumerate(rules):
        for shift, coefficient in zip(rule.shifts, rule.coefficients, strict=True):
            move = torch.zeros_like(spread)
            move[place] = shift
            term = coefficient * (expectations(separate, spread + move) - expectations(separate, spread - move))
            if result is None:
                result = term.new_zeros((*term.shape, circuit.n_weights))
            result[..., origin[place]] += term
    if result is None:
        # No angle has any effect; one value tells the shape.
        unmoved = expectations(separate, spread)
        result = unmoved.new_zeros((*unmoved.shape, circuit.n_weights))
    return result


def n_evaluations(circuit: Circuit) -> int:
    """Circuits that :func:`parameter_shift` has evaluated: what a gradient costs on hardware."""
    return sum(rule.n_terms for rule in _separated(circuit)[2])


def _separated(circuit: Circuit) -> tuple[Circuit, list[int], list[ShiftRule]]:
    """The circuit with a weight for every trained angle; for each, the weight it came from and its rule."""
    operations: list[Operation] = []
    origin: list[int] = []
    rules: list[ShiftRule] = []
    for operation in circuit.operations:
        angles: list[Angle] = []
        for position, angle in enumerate(operation.angles):
            if isinstance(angle, Weight):
                angles.append(Weight(len(origin)))
                origin.append(angle.index)
                rules.append(shift_rule(gate_frequencies(operation.spec)[position]))
            else:
                angles.append(angle)
        operations.append(replace(operation, angles=tuple(angles)))
    return replace(circuit, operations=tuple(operations)), origin, rules


def _logarithmic_derivative(gate: QuantumGate, angles: Tensor, position: int) -> Tensor:
    """`i U^dagger dU/dt` for one of the angles `t`."""

    def parts(t: Tensor) -> Tensor:
        return torch.view_as_real(gate.matrix(torch.cat([angles[:position], t.reshape(1), angles[position + 1 :]])))

    derivative = torch.view_as_complex(torch.autograd.functional.jacobian(parts, angles[position]).contiguous())
    return 1j * gate.matrix(angles).mH @ derivative
