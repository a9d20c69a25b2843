"""How a circuit becomes a few matrix products: gates folded into windows of neighbouring wires.

A plan is made once for a sequence of one- and two-wire slots; it knows no numbers. The numbers, one matrix per slot,
go through it in a handful of batched products that do not depend on the size of the data batch
(:mod:`~quantum.engines.building`). One plan serves every local dimension: 2 for amplitudes, 4 for Pauli vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from quantum.engines.building import Building, Factor, Recipe, build

_MOST_FACTORS = 16
"""Of a window."""


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
class _Window:
    """Slots that become one matrix.

    Args:
        wires: ascending.
        slots: in order of time, on these wires alone.
    """

    wires: tuple[int, ...]
    slots: tuple[Placed, ...]

    @property
    def factors(self) -> tuple[Factor, ...]:
        """The slots within the window."""
        return tuple(Factor(slot.index, tuple(map(self.wires.index, slot.wires))) for slot in self.slots)


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
        windows = _windows(n_wires, slots, window)
        self.windows: tuple[tuple[int, ...], ...] = tuple(each.wires for each in windows)
        by_size = [
            [each for each in windows if len(each.wires) == size] for size in sorted({len(w) for w in self.windows})
        ]
        built = {id(each): place for place, each in enumerate(each for those in by_size for each in those)}
        recipes = (Recipe(len(those[0].wires), tuple(each.factors for each in those)) for those in by_size)
        self._building = Building(tuple(recipes), tuple(built[id(each)] for each in windows))

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


def _windows(n_wires: int, slots: Sequence[Placed], window: int) -> list[_Window]:
    """Windows in an order that respects time, few of them.

    Again and again every window takes all slots that it can, those that wait for nothing outside; the one that takes
    most for its cost comes next. In layers of a chain it takes a triangle of gates, reaching into later layers.
    """
    waiting = _Waiting(n_wires, slots)
    neighbours = [tuple(range(low, low + m)) for m in range(1, window + 1) for low in range(n_wires - m + 1)]
    found: list[_Window] = []
    while waiting.count:
        far = {wires for wires in waiting.first_wires() if wires[-1] - wires[0] >= window}
        tries = ((wires, waiting.takeable(wires)) for wires in (*neighbours, *sorted(far)))
        best = max((_Window(wires, taken) for wires, taken in tries if taken), key=_worth)
        waiting.take(best.slots)
        found.append(best)
    return found


def _worth(window: _Window) -> float:
    """What a window spares for what it costs.

    A window costs a pass over the states, and arithmetic that doubles with every wire (measured on matrices of 2 to 64
    rows). A matrix on one wire finds a place in some window anyway.
    """
    spared = sum(1.0 if len(slot.wires) == 2 else 0.25 for slot in window.slots)
    return spared / (0.6 + 2 ** len(window.wires) / 40)


class _Waiting:
    """Slots that no window has taken yet, by wire and in order of time."""

    def __init__(self, n_wires: int, slots: Sequence[Placed]) -> None:
        self._queues: list[list[Placed]] = [[] for _ in range(n_wires)]
        for slot in slots:
            for wire in slot.wires:
                self._queues[wire].append(slot)
        self._taken = [0] * n_wires
        self.count = len(slots)

    def first_wires(self) -> set[tuple[int, ...]]:
        """The wires, ascending, of the slots that are first on one of them."""
        firsts = (queue[taken] for queue, taken in zip(self._queues, self._taken, strict=True) if taken < len(queue))
        return {tuple(sorted(slot.wires)) for slot in firsts}

    def takeable(self, wires: tuple[int, ...]) -> tuple[Placed, ...]:
        """The slots that a window on these wires can take, in order of time.

        Not too many: all windows of a size are filled up to the longest one.
        """
        places = {wire: self._taken[wire] for wire in wires}
        found: list[Placed] = []
        more = True
        while more:
            more = False
            for wire in wires:
                while len(found) < _MOST_FACTORS and places[wire] < len(self._queues[wire]):
                    slot = self._queues[wire][places[wire]]
                    if not all(other in places and self._next(other, places[other]) is slot for other in slot.wires):
                        break
                    found.append(slot)
                    more = True
                    for other in slot.wires:
                        places[other] += 1
        return tuple(found)

    def _next(self, wire: int, place: int) -> Placed | None:
        queue = self._queues[wire]
        return queue[place] if place < len(queue) else None

    def take(self, slots: Sequence[Placed]) -> None:
        """Strike slots off."""
        for slot in slots:
            for wire in slot.wires:
                self._taken[wire] += 1
        self.count -= len(slots)
