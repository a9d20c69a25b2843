"""The fast engine for pure states: fused matrices on amplitudes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from darts_hpo.errors import SpaceError
from quantum.engines.data import amplitudes, local_matrices, on_all_wires, product_state
from quantum.engines.fused import FusedEngine, Memory
from quantum.engines.room import require_memory
from quantum.gates import QuantumGate
from quantum.program import Encoding


class StatevectorEngine(FusedEngine):
    """Amplitudes of pure states, `2**n x B`, complex.

    A mixture of gates is a linear combination of unitaries, and the final state is normalised: physically a circuit
    that succeeds with some probability, with interference between candidates that the discretized circuit will not
    have. At one-hot weights it is exact.

    Args:
        window: most wires whose gates are folded into one matrix.
        memory: see :class:`~quantum.engines.fused.FusedEngine`.
    """

    name = "statevector"
    local = 2
    mixes_channels = False

    def __init__(self, window: int = 4, memory: Memory = "store") -> None:
        super().__init__(window, memory)

    def form(self, gate: QuantumGate, angles: Tensor) -> Tensor:
        """The gate's unitary matrix, complex."""
        return gate.matrix(angles)

    def ground(self, n_wires: int, batch: int, like: Tensor) -> Tensor:
        """|0...0>: the first amplitude is one."""
        state = torch.zeros(2**n_wires, batch, dtype=_complex(like.dtype), device=like.device)
        state[0] = 1.0
        return state

    def encoded(self, encoding: Encoding, inputs: Tensor, n_wires: int, like: Tensor) -> Tensor:
        """An encoding of one-wire operations makes a product state, without touching `2**n` amplitudes twice."""
        dtype = _complex(like.dtype)
        if encoding.amplitude:
            return amplitudes(inputs.to(like.device), n_wires, dtype)
        inputs = inputs.to(like)
        if any(len(operation.wires) > 1 for operation in encoding.operations):
            return super().encoded(encoding, inputs, n_wires, like)
        touched, matrices = local_matrices(encoding, inputs, self.form)
        ground = torch.tensor([1.0, 0.0], dtype=dtype, device=like.device)
        return product_state(on_all_wires(touched, matrices[:, :, 0], ground, n_wires))

    def finish(self, state: Tensor, mixed: bool) -> Tensor:
        """Normalised where gates were mixed."""
        if not mixed:
            return state
        normalised: Tensor = _Normalised.apply(state)
        return normalised

    def require_room(self, n_wires: int, batch: int, like: Tensor) -> None:
        """Refuse a state that does not fit in memory.

        Raises:
            SpaceError: states the bytes.
        """
        if n_wires > 40:  # before the number of bytes becomes astronomical
            raise SpaceError(f"{n_wires} wires: a state of 2**{n_wires} amplitudes fits in no memory.")
        itemsize = torch.empty(0, dtype=_complex(like.dtype)).element_size()
        require_memory(2**n_wires * batch * itemsize, f"A batch of {batch} states of {n_wires} wires", like.device)


class _Normalised(torch.autograd.Function):
    """States `2**n x B` of norm 1.

    As real numbers, for a complex absolute value is computed by a slow hypot, a complex division likewise; and with a
    backward pass that reads the state twice, where autograd's would read it six times.
    """

    @staticmethod
    def forward(ctx: Any, state: Tensor) -> Tensor:
        numbers = _numbers(state)
        scale = _scale(numbers)
        ctx.save_for_backward(state, scale)
        return torch.view_as_complex((numbers * scale).unflatten(1, (-1, 2)))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        state, scale = ctx.saved_tensors
        numbers, gradient = _numbers(state), _numbers(gradients[0])
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated
            scale = _scale(numbers)
        along = _by_sample(numbers * gradient) * scale.square()
        across = torch.addcmul(gradient, numbers, along, value=-1) * scale
        return torch.view_as_complex(across.unflatten(1, (-1, 2)))


def _numbers(state: Tensor) -> Tensor:
    """`2**n x 2B`, real and imaginary parts side by side."""
    return torch.view_as_real(state.resolve_conj()).flatten(1)


def _scale(numbers: Tensor) -> Tensor:
    """One over the norm of every sample, twice."""
    return _by_sample(numbers.square()).clamp_min(torch.finfo(numbers.dtype).tiny).rsqrt()


def _by_sample(numbers: Tensor) -> Tensor:
    """Sums over a state's real and imaginary parts, `2**n x 2B` to `2B`, each sum twice."""
    return numbers.sum(0).view(-1, 2).sum(1).repeat_interleave(2)


def _complex(real: torch.dtype) -> torch.dtype:
    return torch.complex128 if real == torch.float64 else torch.complex64
