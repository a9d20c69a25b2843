"""Can a circuit be trained at all? The spread of its gradients over random initial angles.

On a *barren plateau* (McClean et al. 2018, arXiv:1803.11173) the gradient of an expectation value is zero on average
and its variance shrinks like `2**-n`: beyond some dozen qubits a gradient step cannot be told from noise. Circuits as
random as a unitary 2-design sit there; shallow or structured ones need not. So the variance is reported beside the
value that a 2-design would have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from darts_hpo.errors import GenotypeError
from quantum.circuit import Angle, Circuit, Input, Weight

Loss = Callable[[Tensor], Tensor]
"""Angles `[P]` to a real scalar, differentiable; or, if it can, angles `[N, P]` to `[N]`, row by row."""

FULL_PERIOD = 4.0 * math.pi
"""A period of every gate of the pool: rotations under control return to themselves after two turns."""


@dataclass(frozen=True)
class GradientVariance:
    """How much the gradient of a loss varies over random angles.

    Args:
        per_weight: variance of the partial derivative with respect to every angle, `[P]`, float64, at least 0.
        n_samples: random points that it was estimated from.
    """

    per_weight: Tensor
    n_samples: int

    @property
    def mean(self) -> float:
        """The mean over the angles; NaN for a circuit without any."""
        return float(self.per_weight.mean())

    def facts(self, reference: float) -> dict[str, float | int | list[float]]:
        """Plain numbers for a report.

        Args:
            reference: what a 2-design would have (:func:`two_design_variance`).

        Returns:
            ``per_weight``, ``mean``, ``n_samples``, ``two_design`` (the reference) and ``ratio``, mean over reference:
            about 1 is a barren plateau, much more is trainable, much less is an angle that hardly matters.
        """
        return {
            "per_weight": self.per_weight.tolist(),
            "mean": self.mean,
            "n_samples": self.n_samples,
            "two_design": reference,
            "ratio": self.mean / reference if reference > 0 else math.nan,
        }


def gradient_variance(
    loss: Loss,
    n_weights: int,
    *,
    n_samples: int = 200,
    points_at_once: int | None = None,
    generator: torch.Generator | None = None,
    period: float = FULL_PERIOD,
    dtype: torch.dtype = torch.float64,
) -> GradientVariance:
    """The variance of every partial derivative over angles drawn uniformly from a period.

    The estimate's own relative standard error is about `sqrt(2 / n_samples)`: a tenth at the default.

    Args:
        loss: angles to a scalar; any engine will do.
        n_weights: number of angles `P`.
        n_samples: random points, at least 2. Each costs one forward and one backward pass.
        points_at_once: how many points the loss is given in one call, as `[N, P]`. None gives it one at a time, as
            `[P]`. The result is the same.
        generator: where the angles come from, on the CPU.
        period: the angles are uniform in `[0, period)` radians.
        dtype: of the angles that the loss is given.

    Raises:
        ValueError: fewer than two samples, or fewer than one point at once.
    """
    if n_samples < 2:
        raise ValueError(f"A variance needs n_samples of at least 2, not {n_samples}.")
    if points_at_once is not None and points_at_once < 1:
        raise ValueError(f"points_at_once must be at least 1, not {points_at_once}.")
    if n_weights == 0:
        return GradientVariance(torch.zeros(0, dtype=torch.float64), n_samples)
    points = torch.rand(n_samples, n_weights, generator=generator, dtype=torch.float64) * period
    gradients = []
    # The loss of a point does not depend on the others, so the gradient of the sum is that of every point.
    for point in points.to(dtype).split(points_at_once) if points_at_once else points.to(dtype):
        angles = point.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(angles).sum(), angles, materialize_grads=True)
        gradients.append(gradient.double().reshape(-1, n_weights).cpu())
    return GradientVariance(torch.cat(gradients).var(dim=0), n_samples)


def two_design_variance(n_wires: int, observable: Mapping[str, float]) -> float:
    """The variance that one rotation's gradient has if the circuit before and after it is a 2-design.

    For a rotation `exp(-i t/2 G)` with `G**2 = 1` and `Tr G = 0`, a pure initial state and `O = sum_j c_j P_j`, the
    second moments of the Haar measure give, with `d = 2**n` and without the identity's term,

        `Var = sum_j c_j**2 * d**2 / (2 (d**2 - 1) (d + 1))`, about `sum_j c_j**2 / 2**(n + 1)`.

    McClean et al. (2018) give it for large `d`; this is exact. For a rotation under control it is half as much.

    Args:
        n_wires: number of qubits.
        observable: Pauli strings and their coefficients, for example `{"ZZI": 0.5}`.
    """
    d = 2**n_wires
    norm = sum(c * c for string, c in observable.items() if set(string) != {"I"})
    return norm * d**2 / (2.0 * (d**2 - 1) * (d + 1))


def expectation_loss(circuit: Circuit, observable: Mapping[str, float], inputs: Sequence[float] = ()) -> Loss:
    """The expectation value of a sum of Pauli strings, by plain simulation in complex128, for one point or many.

    Made for few wires and one sample; a fast engine can stand in for it in :func:`gradient_variance`.

    Args:
        circuit: what is simulated.
        observable: strings over I, X, Y, Z, one letter per wire, wire 0 first, and their coefficients.
        inputs: the features of the sample; with ``amplitude_input`` also the initial state, at most `2**n` amplitudes,
            normalised here.

    Raises:
        GenotypeError: a string has another length or letter, or the features do not fit.
    """
    n = circuit.n_wires
    for string in observable:
        if len(string) != n or not set(string) <= set("IXYZ"):
            raise GenotypeError(
                f"The observable {string!r} does not fit {n} wires: expected {n} letters of I, X, Y, Z."
            )
    initial = _initial_state(circuit, inputs)

    def loss(weights: Tensor) -> Tensor:
        points = weights.double().reshape(math.prod(weights.shape[:-1]), weights.shape[-1])
        state = initial.expand(len(points), *initial.shape)
        for operation in circuit.operations:
            angles = _angles(operation.angles, points, inputs)
            state = _apply(operation.spec.matrix(angles), state, operation.wires)
        total = points.new_zeros(len(points))
        for string, coefficient in observable.items():
            image = state
            for wire, letter in enumerate(string):
                if letter != "I":
                    image = _apply(_PAULI[letter], image, (wire,))
            total = total + coefficient * (state.conj() * image).flatten(1).sum(1).real
        return total.reshape(weights.shape[:-1])

    return loss


_PAULI = {
    "X": torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128),
    "Y": torch.tensor([[0, -1j], [1j, 0]], dtype=torch.complex128),
    "Z": torch.tensor([[1, 0], [0, -1]], dtype=torch.complex128),
}


def _initial_state(circuit: Circuit, inputs: Sequence[float]) -> Tensor:
    n = circuit.n_wires
    features = 1 + max((a.index for o in circuit.operations for a in o.angles if isinstance(a, Input)), default=-1)
    if len(inputs) < features:
        raise GenotypeError(f"The circuit reads {features} features; the sample has {len(inputs)}.")
    state = torch.zeros(2**n, dtype=torch.complex128)
    if not circuit.amplitude_input:
        state[0] = 1.0
        return state.reshape([2] * n)
    amplitudes = torch.as_tensor([float(value) for value in inputs], dtype=torch.float64)
    if not 0 < len(amplitudes) <= 2**n or not float(amplitudes.norm()) > 0:
        raise GenotypeError(
            f"The circuit starts from its input: expected 1 to {2**n} amplitudes, not all zero; "
            f"the sample has {len(amplitudes)}."
        )
    state[: len(amplitudes)] = (amplitudes / amplitudes.norm()).to(torch.complex128)
    return state.reshape([2] * n)


def _angles(sources: Sequence[Angle], points: Tensor, inputs: Sequence[float]) -> Tensor:
    """The angles of an operation for every point, `[N, parameters]`."""
    columns = []
    for source in sources:
        if isinstance(source, Weight):
            columns.append(points[:, source.index])
        else:
            value = float(inputs[source.index]) * source.scale if isinstance(source, Input) else source
            columns.append(points.new_full((len(points),), value))
    return torch.stack(columns, dim=-1) if columns else points.new_zeros(1, 0)


def _apply(matrix: Tensor, state: Tensor, wires: Sequence[int]) -> Tensor:
    """A gate, the same for every point or one per point, on some wires of states `[N, 2, ..., 2]`."""
    places, front = [wire + 1 for wire in wires], list(range(1, len(wires) + 1))
    moved = state.movedim(places, front)
    applied = matrix @ moved.reshape(len(state), 2 ** len(wires), -1)
    return applied.reshape(moved.shape).movedim(front, places)
