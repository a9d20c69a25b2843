"""Which qubits of a device carry the wires of a circuit."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

from darts_hpo.errors import ConfigError, DataError, unknown_name
from quantum.noise.device import Device

TOPOLOGIES = ("chain", "ring", "all", "device")
"""What :func:`best_layout` knows. ``all`` and ``device`` are laid out as a chain; other couplings come as a gift."""

# Partial layouts kept per length: those of eight wires on the largest shipped device all fit.
_WIDTH = 20_000
# A SWAP is three native gates, and the qubits go there and back.
_NATIVE_PER_HOP = 6
# Sums of the same numbers in another order differ by less; below it, layouts count as equal.
_DIGITS = 12


def best_layout(device: Device, n_wires: int, topology: str = "chain") -> tuple[int, ...]:
    """The qubits of least total error for wires of which neighbours are joined by gates.

    The total is `-ln` of the probability that nothing fails when every qubit has one pulse and is measured, and
    every pair of neighbouring wires has one gate that is native where the pair is coupled, and is routed elsewhere.
    In a ring the last wire and the first are neighbours too.

    Layouts in which every wire is coupled to the next are preferred. Where the device has none (no chain of five on
    five qubits in the shape of a T), each wire's qubit is coupled to that of some earlier wire.

    Partial layouts grow by one qubit at a time. One is dropped when even a lower bound of the cheapest continuation
    exceeds a complete layout that is known. The answer is exact while at most 20,000 partial layouts of a length
    remain; beyond that, those of the least bound are kept. Equal layouts are told apart by their numbers, so the
    answer is always the same.

    Args:
        device: its usable qubits and pairs are considered, the others avoided.
        n_wires: at least 1.
        topology: ``chain`` or ``ring``; ``all`` and ``device`` are laid out as a chain.

    Returns:
        The qubit of every wire.

    Raises:
        ConfigError: the topology is unknown, or so many working qubits are not connected.
        DataError: they are not because the calibration lacks error rates; the message names the first.
    """
    if topology not in TOPOLOGIES:
        raise ConfigError(unknown_name("topology", topology, TOPOLOGIES))
    if n_wires < 1:
        raise ConfigError(f"A layout needs at least one wire, not {n_wires}.")
    closed = topology == "ring" and n_wires > 2
    best = _CoupledSearch(device, n_wires, closed).best() or _RoutedSearch(device, n_wires, closed).best()
    if best is None:
        missing = device.first_missing()
        if missing is not None and n_wires <= device.n_qubits:
            raise DataError(missing)
        raise ConfigError(
            f"{device.name} has no {n_wires} connected qubits that work: of {device.n_qubits} qubits "
            f"{len(device.usable_qubits)} do, and of {len(device.pairs)} pairs {len(device.usable_pairs)}. "
            "Choose another device or fewer wires."
        )
    return best


class _Search(ABC):
    """Layouts grown by one qubit at a time."""

    def __init__(self, device: Device, n_wires: int, closed: bool) -> None:
        self.device, self.n_wires, self.closed = device, n_wires, closed
        self.qubit_cost = {
            qubit: -math.log1p(-device.rate(qubit, "error"))
            - math.log1p(-(device.rate(qubit, "read_1_given_0") + device.rate(qubit, "read_0_given_1")) / 2)
            for qubit in device.usable_qubits
        }

    @abstractmethod
    def extensions(self, path: tuple[int, ...]) -> Iterable[tuple[int, float]]:
        """Qubits that the next wire may take, with the cost of the gate that joins it to the last wire."""

    @abstractmethod
    def bound(self, steps: int, before: int, qubit: int) -> float:
        """At most the cost of any so many further wires after the last two; infinite only where there are none."""

    def best(self) -> tuple[int, ...] | None:
        """The layout of least cost; None where there is none."""
        greedy = self._run(1, math.inf)
        found = self._run(_WIDTH, math.inf if greedy is None else greedy[0]) or greedy
        return None if found is None else found[1]

    def _run(self, width: int, limit: float) -> tuple[float, tuple[int, ...]] | None:
        """Cost and qubits of the best layout that costs no more than the limit."""
        partial: list[tuple[float, float, tuple[int, ...]]] = [(c, c, (q,)) for q, c in self.qubit_cost.items()]
        for length in range(2, self.n_wires + 1):
            longer = []
            for _, cost, path in partial:
                for qubit, pair_cost in self.extensions(path):
                    total = cost + pair_cost + self.qubit_cost[qubit]
                    bound = round(total + self.bound(self.n_wires - length, path[-1], qubit), _DIGITS)
                    if bound <= limit and bound < math.inf:
                        longer.append((bound, total, (*path, qubit)))
            if len(longer) > width:
                longer = sorted(longer, key=lambda entry: (entry[0], entry[2]))[:width]
            partial = longer
        complete = [(round(cost + self._closing(path), _DIGITS), path) for _, cost, path in partial]
        return min(complete, default=None)

    def _closing(self, path: tuple[int, ...]) -> float:
        return _routed_cost(self.device, path[-1], path[0]) if self.closed else 0.0


class _CoupledSearch(_Search):
    """Every wire is coupled to the next."""

    def __init__(self, device: Device, n_wires: int, closed: bool) -> None:
        super().__init__(device, n_wires, closed)
        self._bounds: dict[tuple[int, int, int], float] = {}

    def extensions(self, path: tuple[int, ...]) -> Iterable[tuple[int, float]]:
        """Partners of the last wire's qubit."""
        return [entry for entry in self.device.neighbours[path[-1]].items() if entry[0] not in path]

    def bound(self, steps: int, before: int, qubit: int) -> float:
        """The cheapest walk that never turns straight back: layouts are such walks that visit nothing twice."""
        if steps == 0:
            return 0.0
        key = (steps, before, qubit)
        if key not in self._bounds:
            self._bounds[key] = min(
                (
                    cost + self.qubit_cost[partner] + self.bound(steps - 1, qubit, partner)
                    for partner, cost in self.device.neighbours[qubit].items()
                    if partner != before
                ),
                default=math.inf,
            )
        return self._bounds[key]


class _RoutedSearch(_Search):
    """Every wire's qubit is coupled to that of some earlier wire; what the gates need is routed."""

    def extensions(self, path: tuple[int, ...]) -> Iterable[tuple[int, float]]:
        """Partners of all qubits that are taken."""
        partners = {partner for qubit in path for partner in self.device.neighbours[qubit]}
        return [(qubit, _routed_cost(self.device, path[-1], qubit)) for qubit in sorted(partners - set(path))]

    def bound(self, steps: int, before: int, qubit: int) -> float:
        """The cheapest qubit and the cheapest pair, so many times."""
        del before, qubit
        return steps * (min(self.qubit_cost.values()) + min(self.device.usable_pairs.values()))


def _routed_cost(device: Device, first: int, second: int) -> float:
    return sum(cost for _, cost in routed_gates(device, first, second, 1))


def routed_gates(device: Device, first: int, second: int, count: int) -> list[tuple[tuple[int, int], float]]:
    """Native two-qubit gates that a logical gate on two qubits takes, in order of time.

    Qubits that are not coupled are swapped along :meth:`Device.route` until they are neighbours, three native gates
    a SWAP, and back afterwards, so that every wire stays on its qubit. They may meet on any pair of the route; they
    meet on the worst one, which is then passed by `count` gates and not by six.

    Args:
        device: the machine.
        first: qubit of the first wire.
        second: qubit of the second wire.
        count: native gates of the logical gate itself.

    Returns:
        For every native gate its pair, oriented from the first wire to the second, and `-ln(1 - error)`.

    Raises:
        ConfigError: no usable pairs connect the qubits.
        DataError: the calibration lacks the error of their gate.
    """
    route = device.route(first, second)
    hops = [((a, b), device.neighbours[a][b]) for a, b in itertools.pairwise(route)]
    # Of equal ones, that of the largest numbers: the same for both orders of the qubits.
    meeting = max(hops, key=lambda hop: (hop[1], sorted(hop[0])))
    there = [hop for hop in hops if hop is not meeting for _ in range(_NATIVE_PER_HOP // 2)]
    return [*there, *[meeting] * count, *reversed(there)]
