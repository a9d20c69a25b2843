"""How the gates of the pool are said in OpenQASM: a library's name, or a definition that is written into the text.

Both versions of the language come with a small library of gates (``qelib1.inc``, ``stdgates.inc``). Tools ship larger
ones that differ from each other, in names and in the relative phase of ``cu3``, so only the gates of the original
``qelib1.inc`` (Cross et al. 2017, arXiv:1707.03429) are taken for granted. Every other gate is defined in the text
from these, under a name of its own that no tool's library has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from darts_hpo.errors import ExportError, unknown_name
from quantum.gates import QuantumGate

PREFIX = "darts_"
"""Start of the names of defined gates. A library that has the bare name, perhaps otherwise, is not contradicted."""

Library = Mapping[str, tuple[int, int]]
"""Gates that a language's standard library has: name to numbers of parameters and of qubits."""

QELIB1: Library = {
    **dict.fromkeys(("id", "x", "y", "z", "h", "s", "sdg", "t", "tdg"), (0, 1)),
    **dict.fromkeys(("u1", "rx", "ry", "rz"), (1, 1)),
    "u2": (2, 1),
    "u3": (3, 1),
    **dict.fromkeys(("cx", "cy", "cz", "ch"), (0, 2)),
    **dict.fromkeys(("crz", "cu1"), (1, 2)),
    "ccx": (0, 3),
}
"""The gates of the original ``qelib1.inc``, without ``cu3``: its relative phase differs between tools."""

STDGATES: Library = {
    **{name: shape for name, shape in QELIB1.items() if name != "cu1"},
    "sx": (0, 1),
    "p": (1, 1),
    "swap": (0, 2),
    **dict.fromkeys(("cp", "crx", "cry"), (1, 2)),
    "cswap": (0, 3),
}
"""The gates of OpenQASM 3's ``stdgates.inc``, without ``cu``: its relative phase differs between revisions."""

_IDENTIFIER = re.compile(r"[a-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Definition:
    """A gate written out in OpenQASM, in words that versions 2 and 3 share.

    Args:
        name: what the text calls it; best with a prefix that no library uses.
        parameters: names of the angles, in the order of the gate's, which must be alphabetical too: Qiskit's importer
            of OpenQASM 3 (0.6.0) binds the angles of a defined gate in alphabetical order.
        wires: names of the qubits, in the order of the gate's.
        body: statements without semicolons. They use the gates of :data:`QELIB1` only. A phase of the whole gate is
            free, a relative phase between its wires is not.

    Raises:
        ExportError: a name is not an OpenQASM identifier, or the parameters are not in alphabetical order.
    """

    name: str
    parameters: tuple[str, ...]
    wires: tuple[str, ...]
    body: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in (self.name, *self.parameters, *self.wires):
            if not _IDENTIFIER.fullmatch(name):
                raise ExportError(
                    f"{name!r} is no OpenQASM name: expected a small letter, then letters, digits or underscores."
                )

        if list(self.parameters) != sorted(self.parameters):
            raise ExportError(
                f"The parameters of {self.name}, {', '.join(self.parameters)}, are not in alphabetical order, which "
                f"some readers assume. Rename them, for example {', '.join('abcdefgh'[: len(self.parameters)])}."
            )

    @property
    def text(self) -> str:
        """The definition as one line."""
        angles = f"({', '.join(self.parameters)})" if self.parameters else ""
        statements = " ".join(f"{statement};" for statement in self.body)
        return f"gate {self.name}{angles} {', '.join(self.wires)} {{ {statements} }}"


_definitions: dict[str, Definition] = {}


def define(gate: str, definition: Definition) -> None:
    """Say how a gate is written where the language's library lacks it; an earlier definition is replaced.

    Args:
        gate: name of a gate in :mod:`quantum.gates`.
        definition: with as many parameters and wires as the gate.
    """
    _definitions[gate] = definition


def _define(gate: str, parameters: str, wires: str, *body: str) -> None:
    define(gate, Definition(PREFIX + gate.lower(), tuple(parameters.split()), tuple(wires.split()), body))


_define("SX", "", "a", "sdg a", "h a", "sdg a")
_define("Rot", "alpha beta gamma", "a", "rz(alpha) a", "ry(beta) a", "rz(gamma) a")
_define("SWAP", "", "a b", "cx a, b", "cx b, a", "cx a, b")
_define("iSWAP", "", "a b", "s a", "s b", "h a", "cx a, b", "cx b, a", "h b")
_define("CRX", "theta", "c t", "h t", "crz(theta) c, t", "h t")
_define("CRY", "theta", "c t", "ry(theta/2) t", "cx c, t", "ry(-theta/2) t", "cx c, t")
# The first line is the phase (phi + lambda)/2 of U3(theta, phi, lambda), which under control turns the control.
_define(
    "CU3",
    "alpha beta gamma",
    "c t",
    "u1((gamma+beta)/2) c",
    "u1((gamma-beta)/2) t",
    "cx c, t",
    "u3(-alpha/2, 0, -(beta+gamma)/2) t",
    "cx c, t",
    "u3(alpha/2, beta, 0) t",
)
_define("RZZ", "theta", "a b", "cx a, b", "rz(theta) b", "cx a, b")
_define("RXX", "theta", "a b", "h a", "h b", "cx a, b", "rz(theta) b", "cx a, b", "h a", "h b")
_define(
    "RYY",
    "theta",
    "a b",
    *("rx(pi/2) a", "rx(pi/2) b", "cx a, b", "rz(theta) b", "cx a, b", "rx(-pi/2) a", "rx(-pi/2) b"),
)
_define("RZX", "theta", "a b", "h b", "cx a, b", "rz(theta) b", "cx a, b", "h b")


@dataclass(frozen=True)
class Dialect:
    """A version of OpenQASM, as far as the names of gates go.

    Args:
        version: as in the text's first line.
        include: name of the standard library.
        library: what it has.
        spelling: gates of the pool whose name in this library is not their ``qasm`` name.
    """

    version: str
    include: str
    library: Library
    spelling: Mapping[str, str]

    def call(self, gate: QuantumGate) -> tuple[str, Definition | None]:
        """The name to write for a gate, and the definition that must stand before it, if any.

        Raises:
            ExportError: the library lacks the gate and nobody has defined it, or the numbers do not fit.
        """
        name = self.spelling.get(gate.name, gate.qasm)
        shape = (gate.n_parameters, gate.n_wires)
        if self.library.get(name) == shape:
            return name, None
        definition = _definitions.get(gate.name)
        if definition is not None:
            if (len(definition.parameters), len(definition.wires)) != shape:
                raise ExportError(
                    f"The OpenQASM definition {definition.text!r} does not fit {gate.name}, which has "
                    f"{gate.n_parameters} angles and {gate.n_wires} wires."
                )
            return definition.name, definition
        remedy = (
            f"Register {gate.name} with such a qasm name, or call quantum.export.spelling.define({gate.name!r}, ...)."
        )
        if not name:
            raise ExportError(f"The gate {gate.name} has no OpenQASM name, so the circuit cannot be written. {remedy}")
        if name in self.library:
            parameters, wires = self.library[name]
            raise ExportError(
                f"The gate {gate.name} ({gate.n_parameters} angles, {gate.n_wires} wires) has the OpenQASM name "
                f"{name!r}, which takes {parameters} angles and {wires} wires. {remedy}"
            )
        raise ExportError(
            f"{unknown_name(f'OpenQASM name of the gate {gate.name} in {self.include}', name, self.library)} {remedy}"
        )

    def calls(self, gates: Sequence[QuantumGate]) -> tuple[dict[str, str], list[Definition]]:
        """The names for several gates, and the definitions they need, each once, in order of first use.

        Raises:
            ExportError: see :meth:`call`.
        """
        names: dict[str, str] = {}
        definitions: dict[str, Definition] = {}
        for gate in gates:
            if gate.name not in names:
                names[gate.name], definition = self.call(gate)
                if definition is not None:
                    definitions[definition.name] = definition
        return names, list(definitions.values())


OPENQASM2 = Dialect("2.0", "qelib1.inc", QELIB1, {"P": "u1", "U3": "u3", "I": "id"})
OPENQASM3 = Dialect("3.0", "stdgates.inc", STDGATES, {"P": "p", "U3": "u3", "I": "id"})
