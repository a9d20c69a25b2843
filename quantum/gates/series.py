"""Gates as sums of constant matrices with coefficients that depend on the angles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from quantum.gates.constants import Constant
from quantum.gates.pauli import pauli_transfer


class MatrixSeries:
    """`U(angles) = sum_a f_a(angles) C_a` with real functions `f_a` and constant matrices `C_a`.

    A rotation, for example, is `cos(t/2) I - i sin(t/2) G`. The form gives the matrix and the Pauli-transfer matrix,
    for any number of angles at once, each by one product with a table that does not depend on the angles:
    the transfer matrix is quadratic in the coefficients, `T = sum_ab f_a f_b S_ab` with
    `S_ab = Re Tr(P_i C_a P_j C_b^dagger) / d`. For a rotation that is the familiar series in 1, cos t and sin t.

    Args:
        coefficients: angles `[..., P]` to the real `f_a`, `[..., A]`.
        terms: the `C_a`, complex or real tensors `[d, d]` with `d = 2**n`.
    """

    def __init__(self, coefficients: Callable[[Tensor], Tensor], terms: Sequence[Tensor]) -> None:
        stacked = torch.stack([term.to(torch.complex128) for term in terms])
        self._coefficients = coefficients
        self.size = stacked.shape[-1]
        self._matrix_table = Constant(torch.view_as_real(stacked).flatten(1))
        self._transfer_table = Constant(pauli_transfer(stacked[:, None], stacked[None]).flatten(2).flatten(0, 1))

    def matrix(self, angles: Tensor) -> Tensor:
        """The matrices.

        Args:
            angles: `[..., P]` in radians, float32 or float64.

        Returns:
            `[..., d, d]`, complex64 or complex128; a new tensor at every call.
        """
        flat = self._coefficients(angles) @ self._matrix_table.like(angles)
        return torch.view_as_complex(flat.unflatten(-1, (self.size, self.size, 2)))

    def transfer(self, angles: Tensor) -> Tensor:
        """The Pauli-transfer matrices.

        Args:
            angles: `[..., P]` in radians, float32 or float64.

        Returns:
            `[..., d*d, d*d]` in the precision of the angles; a new tensor at every call.
        """
        values = self._coefficients(angles)
        pairs = (values.unsqueeze(-1) * values.unsqueeze(-2)).flatten(-2)
        return (pairs @ self._transfer_table.like(angles)).unflatten(-1, (self.size**2, self.size**2))
