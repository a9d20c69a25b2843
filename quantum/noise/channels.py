"""Noise channels as Pauli-transfer matrices.

A channel `E` on `k` qubits is the real matrix `T_ij = Tr(P_i E(P_j)) / 2**k`, float64, with the Pauli strings in the
order I X Y Z (two wires: index `4 * a + b`). Channels that follow each other multiply, the later one on the left;
channels side by side are a Kronecker product. A channel preserves the trace exactly when its first row is
`1, 0, ..., 0`.

The definitions are those of Nielsen and Chuang, *Quantum Computation and Quantum Information*, chapter 8, and the
parameters mean what they mean in Qiskit Aer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError
from quantum.gates import pauli_basis


def kraus_channel(operators: Tensor) -> Tensor:
    """The channel `rho -> sum_k K_k rho K_k^dagger`.

    Args:
        operators: `K x d x d`, complex or real, with `sum_k K_k^dagger K_k = 1` and `d` a power of two.

    Returns:
        `d**2 x d**2`, float64.

    Raises:
        ConfigError: the shape is another, or the operators do not preserve the trace to 1e-6.
    """
    dimension = operators.shape[-1]
    n_wires = dimension.bit_length() - 1
    if operators.ndim != 3 or operators.shape[1] != dimension or dimension != 2**n_wires or n_wires < 1:
        raise ConfigError(f"Kraus operators need the shape K x d x d with d a power of two, not {[*operators.shape]}.")
    kraus = operators.to(torch.complex128)
    total = torch.einsum("kji,kjl->il", kraus.conj(), kraus)
    deviation = float((total - torch.eye(dimension)).abs().max())
    if deviation > 1e-6:
        raise ConfigError(
            f"The Kraus operators' sum of K^dagger K differs from 1 by {deviation:.2g}; expected a channel."
        )
    paulis = pauli_basis(n_wires)
    images = torch.einsum("kab,jbc,kdc->jad", kraus, paulis, kraus.conj())
    return torch.einsum("iab,jba->ij", paulis, images).real / dimension


def depolarizing(probability: float, n_wires: int = 1) -> Tensor:
    """`rho -> (1 - p) rho + p 1 / 2**n`: all Pauli strings but the identity shrink by `1 - p`.

    Args:
        probability: `p`, 0 to `4**n / (4**n - 1)`, the largest that is still a channel.
        n_wires: `n`.

    Raises:
        ConfigError: the probability is out of range.
    """
    largest = 4**n_wires / (4**n_wires - 1)
    if not 0 <= probability <= largest:
        raise ConfigError(
            f"The depolarizing probability {probability} on {n_wires} qubits is out of range: "
            f"expected 0 to {largest:.6g}."
        )
    shrink = torch.full((4**n_wires,), 1.0 - probability, dtype=torch.float64)
    shrink[0] = 1.0
    return torch.diag(shrink)


def amplitude_damping(gamma: float) -> Tensor:
    """Decay from 1 to 0 with probability `gamma`: `x, y` shrink by `sqrt(1 - gamma)`, `z' = (1 - gamma) z + gamma`.

    Args:
        gamma: 0 to 1.

    Raises:
        ConfigError: it is out of range.
    """
    _require_probability("amplitude damping", gamma)
    return _relaxation(math.sqrt(1.0 - gamma), 1.0 - gamma, gamma)


def phase_damping(gamma: float) -> Tensor:
    """Loss of phase without loss of energy: `x, y` shrink by `sqrt(1 - gamma)`.

    Args:
        gamma: 0 to 1; the probability to learn that the qubit is 1, as in Qiskit Aer.

    Raises:
        ConfigError: it is out of range.
    """
    _require_probability("phase damping", gamma)
    return _relaxation(math.sqrt(1.0 - gamma), 1.0, 0.0)


def bit_flip(probability: float) -> Tensor:
    """X with a probability of 0 to 1: `y, z` shrink by `1 - 2 p`.

    Raises:
        ConfigError: the probability is out of range.
    """
    _require_probability("bit flip", probability)
    shrink = 1.0 - 2.0 * probability
    return torch.diag(torch.tensor([1.0, 1.0, shrink, shrink], dtype=torch.float64))


def phase_flip(probability: float) -> Tensor:
    """Z with a probability of 0 to 1: `x, y` shrink by `1 - 2 p`.

    Raises:
        ConfigError: the probability is out of range.
    """
    _require_probability("phase flip", probability)
    return _relaxation(1.0 - 2.0 * probability, 1.0, 0.0)


def thermal_relaxation(t1: float, t2: float, duration: float, excited_population: float = 0.0) -> Tensor:
    """Relaxation towards thermal equilibrium for some time.

    `x, y` shrink by `exp(-t / T2)`, `z' = exp(-t / T1) z + (1 - exp(-t / T1)) (1 - 2 p1)`.

    Args:
        t1: time constant of the populations, positive, may be infinite.
        t2: time constant of the phase, positive and at most `2 * t1`.
        duration: at least 0, in the unit of `t1` and `t2`.
        excited_population: `p1`, the probability of 1 in equilibrium, 0 to 1.

    Raises:
        ConfigError: a value is out of range.
    """
    if not (t1 > 0 and t2 > 0 and duration >= 0):
        raise ConfigError(f"Relaxation with T1={t1}, T2={t2}, duration={duration}: expected T1, T2 > 0, duration >= 0.")
    if t2 > 2 * t1:
        raise ConfigError(f"Relaxation with T1={t1}, T2={t2} is no channel: expected T2 of at most 2 T1 = {2 * t1}.")
    _require_probability("excited population", excited_population)
    keep = math.exp(-duration / t1)
    return _relaxation(math.exp(-duration / t2), keep, (1.0 - keep) * (1.0 - 2.0 * excited_population))


def choi_matrix(transfer: Tensor) -> Tensor:
    """Choi matrix of a channel, of trace one. The channel is completely positive where no eigenvalue is negative.

    Args:
        transfer: `4**n x 4**n`.

    Returns:
        `sum_ij T_ij P_i (x) P_j^T / 4**n`, `4**n x 4**n` complex128, Hermitian.
    """
    size = transfer.shape[-1]
    paulis = pauli_basis((size.bit_length() - 1) // 2)
    choi = torch.einsum("ij,iab,jdc->acbd", transfer.to(torch.complex128), paulis, paulis) / size
    return choi.reshape(size, size)


def average_gate_fidelity(transfer: Tensor) -> float:
    """Fidelity with the identity, averaged over all pure states.

    `(d F + 1) / (d + 1)` with `F = Tr(T) / d**2` (Nielsen, https://arxiv.org/abs/quant-ph/0205035, equation 3).
    One minus it is what a calibration calls the gate error.

    Args:
        transfer: `d**2 x d**2`.
    """
    size = transfer.shape[-1]
    dimension = math.isqrt(size)
    return (float(transfer.trace()) / dimension + 1.0) / (dimension + 1.0)


def depolarizing_probability(gate_error: float, n_wires: int, other: Tensor | None = None) -> float:
    """Depolarizing probability with which a gate has a given error, together with another channel.

    From `1 - error = (1 - p) F + p / d`, where `F` is the average gate fidelity of the other channel.

    Args:
        gate_error: one minus the average gate fidelity, 0 to `d / (d + 1)`; what exceeds it is taken as that.
        n_wires: of the gate; `d = 2**n`.
        other: channel that acts too, `d**2 x d**2`; None for none.

    Returns:
        `p`; 0 where the other channel alone explains the error or more.
    """
    dimension = 2**n_wires
    fidelity = 1.0 if other is None else average_gate_fidelity(other)
    error = min(gate_error, dimension / (dimension + 1.0))
    probability = dimension * (error - (1.0 - fidelity)) / (dimension * fidelity - 1.0)
    return min(max(probability, 0.0), 4**n_wires / (4**n_wires - 1))


def embed(transfer: Tensor, positions: tuple[int, ...], n_wires: int) -> Tensor:
    """A channel on some wires as a channel on all: the others are left alone.

    Args:
        transfer: `4**k x 4**k`.
        positions: the wires that it acts on, in its own order.
        n_wires: number of all.

    Returns:
        `4**n x 4**n`.
    """
    k = len(positions)
    total = torch.eye(4**n_wires, dtype=transfer.dtype).reshape([4] * n_wires + [4**n_wires])
    total = torch.tensordot(transfer.reshape([4] * (2 * k)), total, dims=(list(range(k, 2 * k)), list(positions)))
    return total.movedim(list(range(k)), list(positions)).reshape(4**n_wires, 4**n_wires)


def _relaxation(phase: float, population: float, shift: float) -> Tensor:
    transfer = torch.diag(torch.tensor([1.0, phase, phase, population], dtype=torch.float64))
    transfer[3, 0] = shift
    return transfer


def _require_probability(what: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"The {what} of {value} is out of range: expected 0 to 1.")
