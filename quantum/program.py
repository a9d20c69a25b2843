"""What an engine runs: slots with candidate gates, and places where data enter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from darts_hpo.errors import SpaceError
from quantum.circuit import Circuit, Input, Operation, Weight
from quantum.gates import gate_named


@dataclass(frozen=True)
class Slot:
    """A place on some wires with one candidate gate or several.

    Every candidate has angles of its own: consecutive entries of the program's parameters, candidate after candidate,
    slot after slot.

    Args:
        wires: one, or two that differ.
        options: names of the candidate gates, all of them for so many wires. A single one in a plain circuit.

    Raises:
        SpaceError: other wires, no option, or one for another number of wires.
    """

    wires: tuple[int, ...]
    options: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.wires) not in (1, 2) or len(set(self.wires)) != len(self.wires):
            raise SpaceError(f"A slot has the wires {list(self.wires)}; engines run gates on one wire or on two.")
        if not self.options:
            raise SpaceError(f"The slot on wires {list(self.wires)} has no candidate gate.")
        for name in self.options:
            expected = gate_named(name).n_wires
            # The identity fits everywhere: it is how a slot stays empty.
            if name != "I" and expected != len(self.wires):
                raise SpaceError(f"{name} acts on {expected} wires, but its slot on {list(self.wires)}.")

    @property
    def n_parameters(self) -> int:
        """Angles of all candidates."""
        return sum(gate_named(name).n_parameters for name in self.options)


@dataclass(frozen=True)
class Encoding:
    """How a sample becomes gates: operations whose angles are features or constants, none trained.

    Args:
        name: of the encoding.
        operations: in order; angles are :class:`~quantum.circuit.Input` or constants.
        amplitude: the initial state is the input itself (amplitude encoding); then there are no operations.
    """

    name: str
    operations: tuple[Operation, ...] = ()
    amplitude: bool = False


@dataclass(frozen=True)
class DataSlot:
    """A place where data enter, with one candidate encoding or several; None is no encoding there.

    Args:
        options: the candidates.
    """

    options: tuple[Encoding | None, ...]


Element: TypeAlias = Slot | DataSlot


@dataclass(frozen=True)
class Program:
    """Elements in order of time on wires that start in |0...0>.

    Args:
        n_wires: number of qubits.
        elements: slots and data slots. Amplitude encodings may stand first only.

    Raises:
        SpaceError: a slot or an encoding uses a wire outside the program, or an amplitude encoding does not come first.
    """

    n_wires: int
    elements: tuple[Element, ...]

    def __post_init__(self) -> None:
        if self.n_wires < 1:
            raise SpaceError(f"A program needs at least one wire, not {self.n_wires}.")
        for slot in self.slots:
            self._require_wires("A slot", slot.wires)
        for encoding in (option for slot in self.data_slots for option in slot.options if option is not None):
            for operation in encoding.operations:
                self._require_wires(f"The encoding {encoding.name!r}", operation.wires)
        for element in self.elements[1:]:
            if isinstance(element, DataSlot) and any(option and option.amplitude for option in element.options):
                raise SpaceError("Amplitude encoding sets the initial state: it can only come first.")

    def _require_wires(self, what: str, wires: tuple[int, ...]) -> None:
        if max(wires) >= self.n_wires or min(wires) < 0:
            raise SpaceError(
                f"{what} uses the wires {list(wires)}, but there are {self.n_wires}: expected 0 to {self.n_wires - 1}."
            )

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The slots in order, data slots left out."""
        return tuple(element for element in self.elements if isinstance(element, Slot))

    @cached_property
    def data_slots(self) -> tuple[DataSlot, ...]:
        """The data slots in order."""
        return tuple(element for element in self.elements if isinstance(element, DataSlot))

    @cached_property
    def n_parameters(self) -> int:
        """Angles of all candidates of all slots."""
        return sum(slot.n_parameters for slot in self.slots)

    def circuit(self, choices: Sequence[int], data_choices: Sequence[int]) -> tuple[Circuit, list[int]]:
        """The plain circuit of one option per slot; identities are left out.

        Args:
            choices: position of the option of every slot.
            data_choices: position of the option of every data slot.

        Returns:
            The circuit, and for each of its weights the position in the program's parameters.
        """
        operations: list[Operation] = []
        kept: list[int] = []
        amplitude = False
        offset, chosen, chosen_data = 0, iter(choices), iter(data_choices)
        for element in self.elements:
            if isinstance(element, DataSlot):
                encoding = element.options[next(chosen_data)]
                if encoding is not None:
                    operations.extend(encoding.operations)
                    amplitude = amplitude or encoding.amplitude
                continue
            position = next(chosen)
            for place, name in enumerate(element.options):
                count = gate_named(name).n_parameters
                if place == position and name != "I":
                    angles = tuple(Weight(len(kept) + i) for i in range(count))
                    kept.extend(range(offset, offset + count))
                    operations.append(Operation(name, element.wires, angles))
                offset += count
        return Circuit(self.n_wires, tuple(operations), amplitude), kept


@dataclass(frozen=True)
class CompiledCircuit:
    """A plain circuit as a program.

    Args:
        program: every slot has one candidate.
        sources: for each of the program's parameters a position in the circuit's weights followed by ``constants``.
        constants: angles in radians that are neither trained nor data.
    """

    program: Program
    sources: tuple[int, ...]
    constants: tuple[float, ...]

    @classmethod
    def of(cls, circuit: Circuit) -> CompiledCircuit:
        """The program of a circuit.

        What is at the beginning, untrained, and on single wires joins the first encoding, so that it becomes a
        product state; later on, neighbouring operations that read data make one data slot.
        """
        elements: list[Element] = []
        if circuit.amplitude_input:
            elements.append(DataSlot((Encoding("amplitude", amplitude=True),)))
        sources: list[int] = []
        constants: list[float] = []
        first = _first_encoding(circuit)
        group: list[Operation] = list(circuit.operations[:first])
        for operation in circuit.operations[first:]:
            if reads_data(operation):
                group.append(operation)
                continue
            _close(elements, group)
            for angle in operation.angles:
                if isinstance(angle, Weight):
                    sources.append(angle.index)
                else:
                    assert isinstance(angle, int | float)  # an operation that reads data is not here
                    sources.append(circuit.n_weights + len(constants))
                    constants.append(float(angle))
            elements.append(Slot(operation.wires, (operation.gate,)))
        _close(elements, group)
        return cls(Program(circuit.n_wires, tuple(elements)), tuple(sources), tuple(constants))


def reads_data(operation: Operation) -> bool:
    """Whether an angle of the operation is a feature of the input."""
    return any(isinstance(angle, Input) for angle in operation.angles)


def _first_encoding(circuit: Circuit) -> int:
    """How many leading operations are one encoding."""
    if circuit.amplitude_input:
        return 0
    last = 0
    for end, operation in enumerate(circuit.operations, start=1):
        if len(operation.wires) > 1 or any(isinstance(angle, Weight) for angle in operation.angles):
            break
        if reads_data(operation):
            last = end
    return last


def _close(elements: list[Element], group: list[Operation]) -> None:
    """Append the gathered operations as a data slot, where there are any, and start anew.

    Operations that read data and have trained angles as well cannot be encodings.
    """
    if not group:
        return
    for operation in group:
        if any(isinstance(angle, Weight) for angle in operation.angles):
            raise SpaceError(
                f"{operation.gate} on {list(operation.wires)} has trained angles and angles from data; "
                "write it as two operations."
            )
    elements.append(DataSlot((Encoding("circuit", tuple(group)),)))
    group.clear()
