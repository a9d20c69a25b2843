"""How a circuit becomes a few matrix products: gates folded into windows of neighbouring wires.

A plan is made once for a sequence of one- and two-wire slots; it knows no numbers. The numbers, one matrix per slot,
go through it in a handful of batched products that do not depend on the size of the data batch. One plan serves every
local dimension: 2 for amplitudes, 4 for Pauli vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from quantum.engines.differentiation import apply_all


@dataclass(frozen=True)
class Placed:
    """A slot's matrix on its wires.

    Args:
        index: position among the matrices for so many wires.
        wires: one or two.
    """

    index: int
    wires: tuple[int, ...]


@dataclass
class _Pair:
    """A two-wire matrix with the one-wire matrices that are folded into it, by side and in order of time."""

    index: int
    wires: tuple[int, int]
    before: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    after: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))


@dataclass
class _Block:
    """Folded matrices that become one matrix on a window of wires."""

    wires: tuple[int, ...]
    members: list[Placed] = field(default_factory=list)

    def span(self, wires: Sequence[int]) -> tuple[int, ...]:
        union = sorted({*self.wires, *wires})
        return tuple(range(union[0], union[-1] + 1))


@dataclass(frozen=True)
class _Recipe:
    """Windows that are built alike, so in one go.

    Args:
        size: wires of the window.
        steps: for each member its wires within the window.
        sources: for each member the folded matrices, one per window.
        blocks: the windows' positions in the order of application.
    """

    size: int
    steps: tuple[tuple[int, ...], ...]
    sources: tuple[tuple[int, ...], ...]
    blocks: tuple[int, ...]


@dataclass(frozen=True)
class _Folding:
    """Index tables of the folding.

    Args:
        chains: positions of one-wire matrices, `n_chains x length`, in order of time, filled up with -1, the identity.
        pairs: positions of the two-wire matrices that are kept, in order.
        before: for each pair the chains on its two wires that precede it, `n_pairs x 2`; -1 for none. Where chains
            have one matrix, its position stands for the chain's, here and below.
        after: likewise those that follow it.
        flipped: pairs given as (high wire, low wire).
        singles: chains on wires without any pair.
    """

    chains: tuple[tuple[int, ...], ...]
    pairs: tuple[int, ...]
    before: tuple[tuple[int, int], ...]
    after: tuple[tuple[int, int], ...]
    flipped: tuple[int, ...]
    singles: tuple[int, ...]


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
        self._tables: dict[tuple[str, torch.device], Tensor] = {}
        pairs, singles = _fold(slots)
        chains: dict[tuple[int, ...], int] = {}

        def chain(members: list[int]) -> int:
            return chains.setdefault(tuple(members), len(chains)) if members else -1

        before = tuple((chain(pair.before[0]), chain(pair.before[1])) for pair in pairs)
        after = tuple((chain(pair.after[0]), chain(pair.after[1])) for pair in pairs)
        lone_wires = tuple(chain(members) for members in singles.values())
        length = max((len(members) for members in chains), default=0)
        padded = tuple(members + (-1,) * (length - len(members)) for members in chains)
        if length == 1:  # then nothing needs to be multiplied: a chain goes by the position of its only matrix
            alone = [members[0] for members in chains] + [-1]
            before, after = (tuple((alone[a], alone[b]) for a, b in rows) for rows in (before, after))
            lone_wires = tuple(alone[c] for c in lone_wires)
        flipped = tuple(i for i, pair in enumerate(pairs) if pair.wires[0] > pair.wires[1])
        self._folding = _Folding(padded, tuple(p.index for p in pairs), before, after, flipped, lone_wires)
        folded = [Placed(i, tuple(sorted(pair.wires))) for i, pair in enumerate(pairs)]
        members = folded + [
            Placed(i, (wire,)) for i, wire in enumerate(singles)
        ]  # lone wires touch nothing else: their place in time does not matter
        blocks = _windows(members, window)
        self.windows: tuple[tuple[int, ...], ...] = tuple(block.wires for block in blocks)
        self._recipes = _recipes(blocks)

    # -- numbers --------------------------------------------------------------------------------------------------

    def matrices(self, single: Tensor, double: Tensor) -> list[Tensor]:
        """The matrix of every window.

        Args:
            single: one-wire matrices, `n x d x d`.
            double: two-wire matrices, `n x d*d x d*d`.

        Returns:
            One `d**m x d**m` matrix per window of `m` wires, in the order of :attr:`windows`.
        """
        local = single.shape[-1]
        chains = self._chains(single)
        pairs = self._pairs(double, chains, local)
        found: list[Tensor | None] = [None] * len(self.windows)
        for number, recipe in enumerate(self._recipes):
            built = self._build(number, recipe, pairs, chains, local)
            for place, matrix in zip(recipe.blocks, built.unbind(0), strict=True):
                found[place] = matrix
        return [matrix for matrix in found if matrix is not None]

    def _chains(self, single: Tensor) -> Tensor | None:
        """The products of one-wire matrices, and the identity last."""
        folding = self._folding
        if not folding.chains:
            return None
        identity = torch.eye(single.shape[-1], dtype=single.dtype, device=single.device)
        padded = torch.cat([single, identity.unsqueeze(0)])
        length = len(folding.chains[0])
        if length == 1:
            return padded
        chains = tuple(tuple(m if m >= 0 else len(single) for m in chain) for chain in folding.chains)
        table = self._table(f"chains of {len(single)}", chains, single.device)
        steps = padded.index_select(0, table.T.flatten()).unflatten(0, (length, -1))
        total = steps[0]
        for step in steps[1:]:
            total = step @ total
        return torch.cat([total, identity.unsqueeze(0)])

    def _pairs(self, double: Tensor, chains: Tensor | None, local: int) -> Tensor:
        folding = self._folding
        pairs = double
        if folding.pairs != tuple(range(len(double))):
            pairs = double.index_select(0, self._table("pairs", folding.pairs, double.device))
        if chains is not None and folding.pairs:
            before, after = self._sides("before", folding.before, chains), self._sides("after", folding.after, chains)
            steps = [*before, ((0, 1), pairs), *after]
            identity = torch.eye(local**2, dtype=pairs.dtype, device=pairs.device).expand(pairs.shape)
            windows = tuple(wires for wires, _ in steps)
            pairs = apply_all(identity, *(m for _, m in steps), windows=windows, n_wires=2, local=local)
        if folding.flipped:
            n = len(folding.pairs)
            turned = pairs.reshape(n, local, local, local, local).permute(0, 2, 1, 4, 3).reshape(pairs.shape)
            if len(folding.flipped) == n:
                return turned
            mask = self._table("flipped", tuple(i in folding.flipped for i in range(n)), double.device)
            pairs = torch.where(mask[:, None, None], turned, pairs)
        return pairs

    def _sides(
        self, name: str, rows: tuple[tuple[int, int], ...], chains: Tensor
    ) -> list[tuple[tuple[int, ...], Tensor]]:
        """For each pair the matrices on its two wires; nothing where no pair has any."""
        if all(c < 0 for row in rows for c in row):
            return []
        identity = len(chains) - 1
        positions = tuple(row[side] if row[side] >= 0 else identity for side in (0, 1) for row in rows)
        table = self._table(f"{name} of {identity}", positions, chains.device)
        first, second = chains.index_select(0, table).split(len(rows))
        return [((0,), first), ((1,), second)]

    def _build(self, number: int, recipe: _Recipe, pairs: Tensor, chains: Tensor | None, local: int) -> Tensor:
        """Window matrices of one recipe, `n_windows x D x D`."""
        # All matrices of one width in one gather: a gather for each would cost more than the products.
        gathered: dict[int, Iterator[Tensor]] = {}
        for width, source in ((1, chains), (2, pairs)):
            positions = [
                position if width == 2 else self._folding.singles[position]
                for wires, sources in zip(recipe.steps, recipe.sources, strict=True)
                for position in (sources if len(wires) == width else ())
            ]
            if positions:
                assert source is not None  # a lone wire has a chain
                table = self._table(f"recipe {number}, width {width}", tuple(positions), source.device)
                gathered[width] = iter(source.index_select(0, table).split(len(recipe.blocks)))
        matrices = [next(gathered[len(wires)]) for wires in recipe.steps]
        if len(recipe.steps[0]) == recipe.size:
            total, rest, steps = matrices[0], matrices[1:], recipe.steps[1:]
        else:
            identity = torch.eye(local**recipe.size, dtype=pairs.dtype, device=pairs.device)
            total, rest, steps = identity.expand(len(recipe.blocks), -1, -1), matrices, recipe.steps
        return apply_all(total, *rest, windows=steps, n_wires=recipe.size, local=local) if rest else total

    def _table(self, name: str, values: object, device: torch.device) -> Tensor:
        key = (name, device)
        if key not in self._tables:
            with torch.inference_mode(False):  # a table made in inference mode could not be used in training
                table = torch.tensor(values, device=device)
                self._tables[key] = table if table.numel() else table.long()
        return self._tables[key]


@lru_cache(maxsize=256)
def fusion_plan(n_wires: int, slots: tuple[Placed, ...], window: int) -> FusionPlan:
    """The plan of some slots; plans are kept."""
    return FusionPlan(n_wires, slots, window)


def _fold(slots: Sequence[Placed]) -> tuple[list[_Pair], dict[int, list[int]]]:
    """Attach every one-wire matrix to the next pair on its wire, else to the last one.

    Returns:
        The pairs in order of time, and the one-wire matrices of wires without pairs.
    """
    pairs: list[_Pair] = []
    waiting: dict[int, list[int]] = {}
    for slot in slots:
        if len(slot.wires) == 1:
            waiting.setdefault(slot.wires[0], []).append(slot.index)
            continue
        pair = _Pair(slot.index, (slot.wires[0], slot.wires[1]))
        for side, wire in enumerate(pair.wires):
            pair.before[side].extend(waiting.pop(wire, []))
        pairs.append(pair)
    lone = {}
    for wire in sorted(waiting):
        last = next((pair for pair in reversed(pairs) if wire in pair.wires), None)
        if last is None:
            lone[wire] = waiting[wire]
        else:
            last.after[last.wires.index(wire)].extend(waiting[wire])
    return pairs, lone


def _windows(members: Sequence[Placed], window: int) -> list[_Block]:
    """Greedy windows in an order that respects time.

    A member joins the first window, not earlier than the last one that shares a wire with it, whose span of wires
    stays small enough. A window takes every set of wires once: layers of a regular circuit then make windows that are
    built alike, which is what lets them be built together.
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


def _recipes(blocks: Sequence[_Block]) -> tuple[_Recipe, ...]:
    groups: dict[tuple[int, tuple[tuple[int, ...], ...]], list[int]] = {}
    for place, block in enumerate(blocks):
        steps = tuple(tuple(block.wires.index(wire) for wire in member.wires) for member in block.members)
        groups.setdefault((len(block.wires), steps), []).append(place)
    return tuple(
        _Recipe(
            size,
            steps,
            tuple(tuple(blocks[place].members[step].index for place in places) for step in range(len(steps))),
            tuple(places),
        )
        for (size, steps), places in groups.items()
    )
