"""The engine of mixed states: candidates are mixed as channels, and noise is one more factor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError, SpaceError
from quantum.engines.data import Following, amplitudes, local_matrices, on_all_wires, product_state
from quantum.engines.fused import FusedEngine, Memory
from quantum.engines.room import require_memory
from quantum.gates import QuantumGate
from quantum.program import Encoding

if TYPE_CHECKING:
    from quantum.noise import NoiseModel


class ChannelEngine(FusedEngine):
    """Pauli vectors of density matrices, `4**n x B`, real: entry `P` is `tr(P rho)`.

    A slot with candidates `U_k` of weights `p_k` is the mixed-unitary channel
    `rho -> sum_k p_k U_k rho U_k^dagger` (RhoDARTS, https://arxiv.org/abs/2506.03697): convex, trace preserving and,
    where slots are drawn independently, exactly the average over all circuits.

    Args:
        noise: follows every gate; None simulates an ideal device.
        max_wires: refuses more: a Pauli vector squares the size of a state.
        window: most wires whose gates are folded into one matrix.
        memory: see :class:`~quantum.engines.fused.FusedEngine`.

    Raises:
        ConfigError: a value is out of range.
    """

    name = "channel"
    local = 4
    mixes_channels = True

    def __init__(
        self, noise: NoiseModel | None = None, max_wires: int = 6, window: int = 2, memory: Memory = "store"
    ) -> None:
        super().__init__(window, memory)
        if max_wires < 1:
            raise ConfigError(f"max_wires={max_wires}: expected at least 1.")
        self.noise, self.max_wires = noise, max_wires

    def form(self, gate: QuantumGate, angles: Tensor) -> Tensor:
        """The gate's Pauli-transfer matrix, real."""
        return gate.transfer(angles)

    def ground(self, n_wires: int, batch: int, like: Tensor) -> Tensor:
        """|0...0>: on every wire `I` and `Z` are one."""
        wire = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=like.dtype, device=like.device)
        return product_state(wire[None, :, None].expand(n_wires, 4, batch))

    def encoded(self, encoding: Encoding, inputs: Tensor, n_wires: int, like: Tensor) -> Tensor:
        """An encoding of one-wire operations makes a product of Bloch vectors."""
        if encoding.amplitude:
            from quantum.measurements import pauli_vector

            dtype = torch.complex128 if like.dtype == torch.float64 else torch.complex64
            return pauli_vector(amplitudes(inputs.to(like.device), n_wires, dtype))
        inputs = inputs.to(like)
        if any(len(operation.wires) > 1 for operation in encoding.operations):
            return super().encoded(encoding, inputs, n_wires, like)
        touched, matrices = local_matrices(encoding, inputs, self.form, self.following)
        ground = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=like.dtype, device=like.device)
        return product_state(on_all_wires(touched, matrices[:, :, 0] + matrices[:, :, 3], ground, n_wires))

    @property
    def following(self) -> Following | None:
        """The noise after a gate."""
        return None if self.noise is None else self.noise.after

    def require_room(self, n_wires: int, batch: int, like: Tensor) -> None:
        """Refuse too many wires.

        Raises:
            SpaceError: names the limit and the alternative, or the bytes.
        """
        self.require_wires(n_wires)
        size = 4**n_wires * batch * like.element_size()
        require_memory(size, f"A batch of {batch} density matrices of {n_wires} wires", like.device)

    def require_wires(self, n_wires: int) -> None:
        """Refuse a circuit before anything is run.

        Raises:
            SpaceError: names the limit and the alternative.
        """
        if n_wires > self.max_wires:
            raise SpaceError(
                f"The channel engine runs up to {self.max_wires} wires and was given {n_wires}: its states have "
                f"4**{n_wires} numbers. Use supernet.mixing=lcu without noise, which runs on amplitudes, "
                "or raise supernet.channel_max_wires."
            )
