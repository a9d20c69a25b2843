"""The numbers of a fusion plan: from matrices of slots to matrices of windows, in one node of autograd.

A gate on some wires of a window is a matrix of the window's size whose entries are the gate's, 0 or 1. So one gather
makes all factors of all windows of a size, wherever in them the gates stand, and a few batched products the windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from quantum.engines.precision import in_full_precision


@dataclass(frozen=True)
class Factor:
    """A slot's matrix in a window.

    Args:
        index: position among the matrices for so many wires.
        wires: where the slot's wires are in the window, in its order; one or two.
    """

    index: int
    wires: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Recipe:
    """Windows of one size.

    Args:
        size: wires of a window.
        windows: the factors of each, in order of time.
    """

    size: int
    windows: tuple[tuple[Factor, ...], ...]

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Where the factors of a window stand: a power of 2 of them, filled up with the identity.

        In bit-reversed order the neighbours in time of the first half stand in the second half, and so do those of
        their products: every level of products is one batched product of two halves.
        """
        order = [0]
        while len(order) < max(map(len, self.windows)):
            order = [2 * place for place in order] + [2 * place + 1 for place in order]
        return tuple(order)

    def table(self, n_single: int, n_double: int, local: int) -> Tensor:
        """Where the entries of all factors are found, `n_factors x n_windows x D x D`, in :attr:`order`.

        Args:
            n_single: one-wire matrices. Their numbers come first,
            n_double: then those of so many two-wire matrices, and last 0 and 1.
            local: dimension of a wire.
        """
        zero = n_single * local**2 + n_double * local**4
        dim = local**self.size
        identity = torch.full((dim, dim), zero).fill_diagonal_(zero + 1)
        table = identity.repeat(len(self.order), len(self.windows), 1, 1)
        for window, factors in enumerate(self.windows):
            for place, factor in enumerate(factors):
                start = factor.index * local**2
                if len(factor.wires) == 2:
                    start = n_single * local**2 + factor.index * local**4
                table[place, window] = _embedded(factor.wires, self.size, local, start, zero)
        return table[list(self.order)]


@dataclass(frozen=True, eq=False)
class Building:
    """How the matrices of windows come from those of slots.

    Args:
        recipes: one per size of windows.
        order: for every window its place among the results of all recipes.
    """

    recipes: tuple[Recipe, ...]
    order: tuple[int, ...]
    _tables: dict[Any, tuple[Tensor, ...]] = field(default_factory=dict)

    def tables(self, n_single: int, n_double: int, local: int, device: torch.device) -> tuple[Tensor, ...]:
        """The recipes' tables, flat; they are kept."""
        key = (n_single, n_double, local, device)
        if key not in self._tables:
            with torch.inference_mode(False):  # a table made in inference mode could not be used in training
                found = (recipe.table(n_single, n_double, local) for recipe in self.recipes)
                self._tables[key] = tuple(table.flatten().to(device) for table in found)
        return self._tables[key]


def build(building: Building, single: Tensor, double: Tensor) -> Sequence[Tensor]:
    """The matrices of all windows.

    Args:
        building: how.
        single: `n x d x d`, one-wire matrices.
        double: `n x d**2 x d**2`, two-wire matrices.

    Returns:
        `d**m x d**m` of each window of `m` wires.
    """
    matrices: tuple[Tensor, ...] = _Build.apply(building, single, double)
    return matrices


class _Build(torch.autograd.Function):
    """One node: autograd's bookkeeping for every gather and product would take longer than these do."""

    @staticmethod
    def forward(ctx: Any, building: Building, single: Tensor, double: Tensor) -> tuple[Tensor, ...]:
        made = _make(building, single, double)
        ctx.building = building
        ctx.save_for_backward(single, double, *(level for levels in made for level in levels[:-1]))
        return _in_order(building, made)

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        single, double, *levels = ctx.saved_tensors
        building: Building = ctx.building
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated
            wanted = ctx.needs_input_grad[1:]
            views = single.view_as(single), double.view_as(double)  # one might depend on the other
            inputs = [tensor for tensor, want in zip(views, wanted, strict=True) if want]
            matrices = _in_order(building, _make(building, *views))
            each = iter(torch.autograd.grad(matrices, inputs, gradients, create_graph=True))
            return None, *(next(each) if want else None for want in wanted)
        by_place = dict(zip(building.order, gradients, strict=True))
        by_number = single.new_zeros(single.numel() + double.numel() + 2)
        tables = building.tables(len(single), len(double), single.shape[-1], single.device)
        place = 0
        for recipe, table in zip(building.recipes, tables, strict=True):
            until = place + len(recipe.windows)
            n_levels = len(recipe.order).bit_length() - 1
            own, levels = levels[:n_levels], levels[n_levels:]
            # All along it is the gradients' conjugate: that needs transposed matrices, no conjugate copies.
            conjugate = torch.stack([by_place[number] for number in range(place, until)]).conj().resolve_conj()
            by_number.index_add_(0, table, _of_factors(conjugate, own).flatten())
            place = until
        of_single, of_double, _ = by_number.conj().split([single.numel(), double.numel(), 2])
        return None, of_single.view(single.shape), of_double.view(double.shape)


def _make(building: Building, single: Tensor, double: Tensor) -> list[list[Tensor]]:
    """For every recipe the factors, then their products with their neighbours in time, and so on.

    Each is `n_factors x n_windows x D x D`, down to one factor.
    """
    local = single.shape[-1]
    tables = building.tables(len(single), len(double), local, single.device)
    numbers = torch.cat([single.flatten(), double.flatten(), single.new_zeros(1), single.new_ones(1)])
    made = []
    for recipe, table in zip(building.recipes, tables, strict=True):
        dim = local**recipe.size
        levels = [numbers.index_select(0, table).view(-1, len(recipe.windows), dim, dim)]
        while len(levels[-1]) > 1:
            first, second = _halves(levels[-1])
            levels.append(torch.bmm(second, first).view(-1, len(recipe.windows), dim, dim))
        made.append(levels)
    return made


def _halves(factors: Tensor) -> tuple[Tensor, Tensor]:
    """The earlier and the later factors of products, `n x D x D` each."""
    first, second = factors.flatten(0, 1).chunk(2)
    return first, second


def _in_order(building: Building, made: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    """The windows' matrices."""
    built = [matrix for levels in made for matrix in levels[-1][0].unbind()]
    return tuple(built[place] for place in building.order)


def _of_factors(conjugate: Tensor, levels: Sequence[Tensor]) -> Tensor:
    """The conjugate of the gradient by the factors, from that by their product; all levels but the product itself."""
    for factors in reversed(levels):
        found = torch.empty_like(factors)
        (first, second), (of_first, of_second) = _halves(factors), _halves(found)
        torch.bmm(second.mT, conjugate, out=of_first)
        torch.bmm(conjugate, first.mT, out=of_second)
        conjugate = found.flatten(0, 1)
    return conjugate


def _embedded(wires: Sequence[int], size: int, local: int, start: int, zero: int) -> Tensor:
    """Where the entries of a matrix on some wires of a window are found: its own from ``start`` on, or at ``zero``."""
    digits = torch.cartesian_prod(*[torch.arange(local)] * size).reshape(-1, size)
    within = torch.zeros(len(digits), dtype=torch.int64)
    for wire in wires:
        within = within * local + digits[:, wire]
    rest = digits[:, [wire for wire in range(size) if wire not in wires]]
    alike = (rest[:, None] == rest[None]).all(-1)
    own = start + within[:, None] * local ** len(wires) + within[None]
    return torch.where(alike, own, zero)
