"""A quantum computer as its calibration describes it: qubits, coupled pairs, error rates."""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from darts_hpo.errors import ConfigError, DataError

Pair = tuple[int, int]


@dataclass(frozen=True)
class QubitCalibration:
    """What is known of one qubit; None where the calibration does not say.

    Args:
        error: average gate error of one pulse (SX, or U2 on older machines), 0 to 1; 1 marks a broken qubit.
        duration: of the pulse, in nanoseconds.
        t1: relaxation time, in nanoseconds.
        t2: dephasing time, in nanoseconds.
        read_1_given_0: probability to read 1 where the qubit is 0.
        read_0_given_1: probability to read 0 where the qubit is 1.
    """

    error: float | None
    duration: float | None
    t1: float | None
    t2: float | None
    read_1_given_0: float | None
    read_0_given_1: float | None


@dataclass(frozen=True)
class PairCalibration:
    """What is known of the native two-qubit gate on a coupled pair; None where the calibration does not say.

    Args:
        gate: the native gate: ``cx``, ``cz`` or ``ecr``.
        error: average gate error, 0 to 1; 1 marks a broken gate.
        duration: in nanoseconds.
    """

    gate: str
    error: float | None
    duration: float | None


@dataclass(frozen=True)
class Device:
    """Qubits, coupled pairs and their rates at the time of one calibration.

    Pairs are undirected here: a gate against its native direction costs pulses on single qubits, which are a
    hundredth of its error. :attr:`directions` keeps what the machine says.

    Args:
        name: for tables and messages.
        qubits: one per qubit.
        pairs: by the two qubits, the smaller first.
        directions: the pairs in which the native gate is offered, first qubit first; may hold both orders.
        basis_gates: names of the native gates, in OpenQASM's spelling.
        date: of the calibration, ISO 8601.
        source: the file with the rates, for messages.
    """

    name: str
    qubits: tuple[QubitCalibration, ...]
    pairs: Mapping[Pair, PairCalibration]
    directions: tuple[Pair, ...]
    basis_gates: tuple[str, ...]
    date: str = ""
    source: str = ""

    @property
    def n_qubits(self) -> int:
        """Number of qubits, broken ones included."""
        return len(self.qubits)

    # -- rates that must be there ------------------------------------------------------------------------------

    def rate(self, qubit: int, name: str) -> float:
        """A rate of one qubit.

        Args:
            qubit: 0 to `n_qubits - 1`.
            name: a field of :class:`QubitCalibration`.

        Raises:
            DataError: the calibration lacks it; the message names file, qubit and rate.
        """
        value: float | None = getattr(self.qubits[qubit], name)
        if value is None:
            raise DataError(self._missing(f"qubit {qubit}", name))
        return value

    def pair_rate(self, pair: Pair, name: str) -> float:
        """A rate of the native gate on one coupled pair, in either order.

        Args:
            pair: two coupled qubits.
            name: ``error`` or ``duration``.

        Raises:
            DataError: the calibration lacks it; the message names file, qubits and rate.
        """
        calibration = self.pairs[_ordered(pair)]
        value: float | None = getattr(calibration, name)
        if value is None:
            raise DataError(self._missing(f"the {calibration.gate} of qubits {pair[0]} and {pair[1]}", name))
        return value

    def first_missing(self) -> str | None:
        """A message on the first error rate that the calibration lacks; None where it has them all."""
        for qubit, calibration in enumerate(self.qubits):
            for name in ("error", "read_1_given_0", "read_0_given_1"):
                if getattr(calibration, name) is None:
                    return self._missing(f"qubit {qubit}", name)
        for (first, second), pair in self.pairs.items():
            if pair.error is None:
                return self._missing(f"the {pair.gate} of qubits {first} and {second}", "error")
        return None

    def _missing(self, what: str, name: str) -> str:
        remedy = "Add the value to the file, or choose other qubits with layout=[...]"
        if name in ("duration", "t1", "t2"):
            remedy += ", or type relaxation=false"
        return f"{self.source or self.name}: {what} has no {_IN_FILE[name]}. {remedy}."

    # -- what can be used --------------------------------------------------------------------------------------

    @functools.cached_property
    def usable_qubits(self) -> tuple[int, ...]:
        """Qubits whose error rates are known and whose gates and measurements work at all."""
        return tuple(
            number
            for number, q in enumerate(self.qubits)
            if q.error is not None
            and q.error < 1
            and q.read_1_given_0 is not None
            and q.read_0_given_1 is not None
            and q.read_1_given_0 + q.read_0_given_1 < 1
        )

    @functools.cached_property
    def usable_pairs(self) -> Mapping[Pair, float]:
        """Pairs of usable qubits whose gate works, with `-ln(1 - error)` of the gate."""
        qubits = set(self.usable_qubits)
        return {
            pair: -math.log1p(-calibration.error)
            for pair, calibration in sorted(self.pairs.items())
            if calibration.error is not None and calibration.error < 1 and qubits.issuperset(pair)
        }

    @functools.cached_property
    def neighbours(self) -> Mapping[int, Mapping[int, float]]:
        """For every usable qubit its partners in usable pairs, with `-ln(1 - error)` of the gate."""
        table: dict[int, dict[int, float]] = {qubit: {} for qubit in self.usable_qubits}
        for (first, second), cost in self.usable_pairs.items():
            table[first][second] = cost
            table[second][first] = cost
        return table

    @functools.cached_property
    def _routes(self) -> dict[int, dict[int, tuple[int, ...]]]:
        return {}  # filled as routes are asked for

    def route(self, first: int, second: int) -> tuple[int, ...]:
        """The way from one qubit to another over usable pairs: fewest hops, of these the one of least error.

        Returns:
            The qubits passed, both ends included.

        Raises:
            ConfigError: no usable pairs connect them.
            DataError: they are coupled themselves, but the calibration lacks the error of their gate.
        """
        if _ordered((first, second)) in self.pairs:
            self.pair_rate((first, second), "error")
        # From the smaller end, so that both orders go the same way.
        start, end = _ordered((first, second))
        if start not in self._routes:
            self._routes[start] = _shortest_routes(self.neighbours, start)
        if end not in self._routes[start]:
            raise ConfigError(
                f"No working pairs of {self.name} connect the qubits {first} and {second}; "
                "choose others with layout=[...]."
            )
        route = self._routes[start][end]
        return route if first == start else route[::-1]

    def require_layout(self, layout: Sequence[int]) -> tuple[int, ...]:
        """A layout whose qubits exist, are different and work.

        Raises:
            ConfigError: they do not.
            DataError: the calibration lacks an error rate of one of them.
        """
        for qubit in layout:
            if not 0 <= qubit < self.n_qubits:
                raise ConfigError(
                    f"The layout {list(layout)} uses the qubit {qubit}, but {self.name} has {self.n_qubits}: "
                    f"expected 0 to {self.n_qubits - 1}."
                )
            for name in ("error", "read_1_given_0", "read_0_given_1"):
                self.rate(qubit, name)
            if qubit not in self.usable_qubits:
                raise ConfigError(
                    f"The qubit {qubit} of {self.name} was out of order at its calibration; choose another."
                )
        if len(set(layout)) != len(layout):
            raise ConfigError(f"The layout {list(layout)} uses a qubit twice.")
        return tuple(layout)

    def coupled_wires(self, layout: Sequence[int]) -> tuple[Pair, ...]:
        """The pairs of wires, the smaller first, that lie on coupled, working pairs of qubits.

        Args:
            layout: the qubit of every wire.
        """
        return tuple(
            (a, b)
            for a in range(len(layout))
            for b in range(a + 1, len(layout))
            if _ordered((layout[a], layout[b])) in self.usable_pairs
        )


_IN_FILE = {
    "error": "gate_error",
    "duration": "gate_length",
    "t1": "T1",
    "t2": "T2",
    "read_1_given_0": "prob_meas1_prep0 (nor readout_error)",
    "read_0_given_1": "prob_meas0_prep1 (nor readout_error)",
}


def _ordered(pair: Pair) -> Pair:
    return pair if pair[0] <= pair[1] else (pair[1], pair[0])


def _shortest_routes(neighbours: Mapping[int, Mapping[int, float]], start: int) -> dict[int, tuple[int, ...]]:
    """Dijkstra's algorithm; hops come first, then error, then the qubits' numbers, so that the answer is unique."""
    found: dict[int, tuple[int, ...]] = {}
    queue: list[tuple[int, float, tuple[int, ...]]] = [(0, 0.0, (start,))] if start in neighbours else []
    while queue:
        hops, cost, path = heapq.heappop(queue)
        if path[-1] in found:
            continue
        found[path[-1]] = path
        for partner, error in neighbours[path[-1]].items():
            if partner not in found:
                heapq.heappush(queue, (hops + 1, cost + error, (*path, partner)))
    return found
