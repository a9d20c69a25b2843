"""How a circuit becomes a few matrix products: gates folded into windows of neighbouring wires.

A plan is made once for a sequence of one- and two-wire slots; it knows no numbers. The numbers, one matrix per slot,
go through it in a handful of batched products that do not depend on the size of the data batch
(:mod:`~quantum.engines.building`). One plan serves every local dimension: 2 for amplitudes, 4 for Pauli vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from torch import Tensor

from quantum.engines.building import Building, Factor, Recipe, build


@dataclass(frozen=True)
class Placed:
    """A slot's matrix on its wires.

    Args:
        index: position among the matrices for so many wires.
        wires: one or two.
    """

    index: int
    wires: tuple[int, ...]


@dataclass(frozen=True)
class _Member:
    """A two-wire matrix with the one-wire matrices that are folded into it; or those of a wire without any.

    Args:
        wires: ascending.
        slots: in order of time.
    """

    wires: tuple[int, ...]
    slots: tuple[Placed, ...]


@dataclass(eq=False)
class _Block:
    """Members that become one matrix on a window of wires."""

    wires: tuple[int, ...]
    members: list[_Member] = field(default_factory=list)

    def span(self, wires: Sequence[int]) -> tuple[int, ...]:
        union = sorted({*self.wires, *wires})
        return tuple(range(union[0], union[-1] + 1))

    @property
    def factors(self) -> tuple[Factor, ...]:
        slots = (slot for member in self.members for slot in member.slots)
        return tuple(Factor(slot.index, tuple(self.wires.index(wire) for wire in slot.wires)) for slot in slots)


class FusionPlan:
    """A plan for slots in order of time.

    Args:
        n_wires: of the circuit.
        slots: one- and two-wire matrices; the two kinds are numbered apart.
        window: most wires of a window, at least 2.

    Attributes:
        windows: the wires of every window, in the order of application.
    """

    def __init__(self, n_wires: int, slots: Sequence[Placed], window: int) -> None:
        self.n_wires = n_wires
        blocks = _windows(_fold(slots), window)
        self.windows: tuple[tuple[int, ...], ...] = tuple(block.wires for block in blocks)
        sizes = sorted({len(block.wires) for block in blocks})
        alike = [[block for block in blocks if len(block.wires) == size] for size in sizes]
        built = [block for those in alike for block in those]
        self._building = Building(
            tuple(
                Recipe(size, tuple(block.factors for block in those)) for size, those in zip(sizes, alike, strict=True)
            ),
            tuple(built.index(block) for block in blocks),
        )

    def matrices(self, single: Tensor, double: Tensor) -> Sequence[Tensor]:
        """The matrix of every window.

        Args:
            single: one-wire matrices, `n x d x d`.
            double: two-wire matrices, `n x d*d x d*d`.

        Returns:
            One `d**m x d**m` matrix per window of `m` wires, in the order of :attr:`windows`.
        """
        return build(self._building, single, double)


@lru_cache(maxsize=256)
def fusion_plan(n_wires: int, slots: tuple[Placed, ...], window: int) -> FusionPlan:
    """The plan of some slots; plans are kept."""
    return FusionPlan(n_wires, slots, window)


def _fold(slots: Sequence[Placed]) -> list[_Member]:
    """Attach every one-wire matrix to the next pair on its wire, else to the last one.

    Returns:
        The pairs in order of time, and behind them the wires without pairs, which touch nothing else.
    """
    pairs: list[list[Placed]] = []
    waiting: dict[int, list[Placed]] = {}
    last: dict[int, list[Placed]] = {}
    for slot in slots:
        if len(slot.wires) == 1:
            waiting.setdefault(slot.wires[0], []).append(slot)
            continue
        pairs.append([*(single for wire in slot.wires for single in waiting.pop(wire, ())), slot])
        last |= dict.fromkeys(slot.wires, pairs[-1])
    lone = []
    for wire in sorted(waiting):
        if wire in last:
            last[wire].extend(waiting[wire])
        else:
            lone.append(waiting[wire])
    return [_Member(tuple(sorted({wire for slot in m for wire in slot.wires})), tuple(m)) for m in (*pairs, *lone)]


def _windows(members: Sequence[_Member], window: int) -> list[_Block]:
    """Greedy windows in an order that respects time.

    A member joins the first window, not earlier than the last one that shares a wire with it, whose span of wires
    stays small enough. A window takes every set of wires once: layers of a regular circuit then make windows of the
    same number of factors, and none is filled up when they are built together.
    """
    blocks: list[_Block] = []
    for member in members:
        earliest = max((i for i, block in enumerate(blocks) if set(block.wires) & set(member.wires)), default=0)
        for block in blocks[earliest:]:
            span = block.span(member.wires)
            contiguous = len(block.wires) == block.wires[-1] - block.wires[0] + 1
            fits = len(span) <= window and contiguous
            inside = set(member.wires) <= set(block.wires)
            if (fits or inside) and all(other.wires != member.wires for other in block.members):
                block.wires = block.wires if inside else span
                block.members.append(member)
                break
        else:
            wires = member.wires
            if wires[-1] - wires[0] < window:
                wires = tuple(range(wires[0], wires[-1] + 1))
            blocks.append(_Block(wires, [member]))
    return blocks
