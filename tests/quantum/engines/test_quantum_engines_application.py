"""Matrices on some wires: values, first and second gradients; and long mixtures in float32."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from quantum.engines import StatevectorEngine
from quantum.engines.application import apply, outer_product
from quantum.engines.differentiation import apply_all
from quantum.program import Program, Slot

N = 3
WIRES = [(0,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)]
DTYPES = [torch.float64, torch.complex128]


def drawn(*shape: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, dtype=dtype, generator=generator).requires_grad_()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wires", WIRES)
def test_a_matrix_acts_on_its_wires_alone(wires: tuple[int, ...], dtype: torch.dtype) -> None:
    state, matrix = (drawn(size, last, dtype=dtype) for size, last in ((8, 2), (2 ** len(wires),) * 2))
    letters = "abc"
    new = "".join(letter.upper() if wire in wires else letter for wire, letter in enumerate(letters))
    rows = "".join(letters[wire] for wire in wires)
    expected = torch.einsum(
        f"{rows.upper()}{rows},abcz->{new}z",
        matrix.reshape([2] * (2 * len(wires))),
        state.reshape(2, 2, 2, 2),
    ).reshape(state.shape)
    torch.testing.assert_close(apply(state, matrix, wires, N, 2), expected)
    gradient = drawn(8, 2, dtype=dtype).detach()
    (of_matrix,) = torch.autograd.grad(expected, matrix, gradient.conj())
    torch.testing.assert_close(outer_product(gradient, state.detach(), wires, N, 2), of_matrix.conj())


@pytest.mark.parametrize("dtype", DTYPES)
def test_chains_can_be_differentiated_twice(dtype: torch.dtype) -> None:
    windows = ((0, 1), (0, 2), (1,))
    state = drawn(8, 1, dtype=dtype)
    matrices = [drawn(2 ** len(wires), 2 ** len(wires), dtype=dtype) for wires in windows]

    def chain(state: Tensor, *matrices: Tensor) -> Tensor:
        return apply_all(state, *matrices, windows=windows, n_wires=N, local=2)

    assert gradcheck(chain, (state, *matrices), fast_mode=True)
    assert gradgradcheck(chain, (state, *matrices), fast_mode=True)
    fixed = [matrices[0].detach(), *matrices[1:]]  # what wants no gradient gets none
    torch.autograd.grad(chain(state.detach(), *fixed).abs().sum(), fixed[1:])


def test_long_mixtures_stay_within_single_precision() -> None:
    """Even mixtures of I with X and with Z are projectors in turn; 300 of them leave 2**-150 of the state's length."""
    program = Program(1, (Slot((0,), ("RY", "H")), *[Slot((0,), ("I", "X")), Slot((0,), ("I", "Z"))] * 150))
    found = {}
    for dtype in (torch.float32, torch.float64):
        angles = torch.tensor([0.7], dtype=dtype, requires_grad=True)
        weights = torch.cat([torch.tensor([0.9, 0.1]), torch.full((600,), 0.5)]).to(dtype).requires_grad_()
        state = StatevectorEngine().run(program, angles, weights)
        found[dtype] = [state.detach(), *torch.autograd.grad(state.real.sum(), [angles, weights])]
    torch.testing.assert_close(found[torch.float64][0].real, torch.tensor([[1.0], [0.0]], dtype=torch.float64))
    for single, double in zip(found[torch.float32], found[torch.float64], strict=True):
        torch.testing.assert_close(single, double.to(single.dtype), atol=1e-5, rtol=1e-3)
