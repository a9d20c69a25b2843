"""What a quantum gate is, and the open registry that finds one by its name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darts_hpo.errors import SpaceError, nearest_names
from quantum.gates.pauli import MatrixOf, transfer_of
from quantum.gates.series import TrigonometricSeries

_CHECKED_ANGLES = 5
_TOLERANCE = 1e-9
_registry: dict[str, QuantumGate] = {}


@dataclass(frozen=True)
class QuantumGate:
    """A gate: its matrix as a function of its angles, and what the rest of the package needs to know of it.

    The first wire of a gate is the most significant bit of its matrix's index; in a controlled gate it is the control.

    Args:
        name: the name in search spaces and circuits, for example ``"CNOT"``.
        n_wires: number of qubits it acts on, at least 1.
        n_parameters: number of its angles, at least 0.
        matrix: angles `[..., P]` in radians to the unitary, complex `[..., d, d]` with `d = 2**n_wires`;
            complex64 for float32 angles, complex128 for float64. Without parameters, angles `[..., 0]` give the leading
            shape, the precision and the device.
        transfer: angles `[..., P]` to the Pauli-transfer matrix `T_ij = Tr(P_i U P_j U^dagger) / d`, real
            `[..., d*d, d*d]`, Paulis in the order I X Y Z, the first wire most significant.
            :func:`~quantum.gates.pauli.transfer_of` makes one from any matrix.
        qasm: the name in OpenQASM 2: that of ``qelib1.inc`` where it has the gate, else the one to define.
        native_two_qubit: gates of the CX, CZ or ECR kind that the gate takes on hardware.
        native_pulses: SX and X pulses that the gate takes besides, RZ being free, on hardware with CX.
        series: what ``matrix`` and ``transfer`` are, where they are a trigonometric series; the fast engines then
            compute the gate together with others. None otherwise.
    """

    name: str
    n_wires: int
    n_parameters: int
    matrix: MatrixOf
    transfer: MatrixOf
    qasm: str
    native_two_qubit: int
    native_pulses: int
    series: TrigonometricSeries | None = None

    @classmethod
    def of(
        cls, name: str, series: TrigonometricSeries, qasm: str, native_two_qubit: int, native_pulses: int
    ) -> QuantumGate:
        """A gate from its series, which says the number of wires and of angles, and gives both forms.

        Args:
            name: see :class:`QuantumGate`, as of the other arguments.
            series: of the gate's matrix.
            qasm: name in OpenQASM 2.
            native_two_qubit: gates on two wires that it takes.
            native_pulses: pulses that it takes besides.
        """
        n_wires = series.size.bit_length() - 1
        forms = series.matrix, series.transfer
        return cls(name, n_wires, series.n_parameters, *forms, qasm, native_two_qubit, native_pulses, series)


def gate_names() -> tuple[str, ...]:
    """The names of all registered gates, in order of registration."""
    return tuple(_registry)


def gate_named(name: str) -> QuantumGate:
    """The registered gate of that name.

    Raises:
        SpaceError: there is none; the message gives the nearest names.
    """
    try:
        return _registry[name]
    except KeyError:
        raise SpaceError(_unknown(name)) from None


def register(gate: QuantumGate) -> QuantumGate:
    """Add a gate, and give it back.

    Its matrix and its transfer form are tried at random angles.

    Raises:
        SpaceError: the name is taken or empty, a number is out of range, or a form has another shape or precision than
            it should, is not unitary, or does not agree with the other form or with the series.
    """
    if not gate.name:
        raise SpaceError("A gate needs a name; it was given an empty one.")
    if gate.name in _registry:
        raise SpaceError(f"There is a gate {gate.name!r} already. Register yours under another name.")
    if gate.n_wires < 1:
        raise SpaceError(f"The gate {gate.name!r} has n_wires={gate.n_wires}; expected at least 1.")
    for field in ("n_parameters", "native_two_qubit", "native_pulses"):
        if getattr(gate, field) < 0:
            raise SpaceError(f"The gate {gate.name!r} has {field}={getattr(gate, field)}; expected at least 0.")
    _check_forms(gate)
    _registry[gate.name] = gate
    return gate


def _unknown(name: str) -> str:
    """The message for a name that nobody has registered; gates are also recognised by case and by OpenQASM name."""
    by_spelling: dict[str, str] = {}
    for gate in _registry.values():
        by_spelling.setdefault(gate.qasm.casefold(), gate.name)
    by_spelling.update({known.casefold(): known for known in _registry})
    spelling = name.casefold()
    close = [spelling] if spelling in by_spelling else nearest_names(spelling, by_spelling)
    names = dict.fromkeys(by_spelling[found] for found in close)
    hint = f" Did you mean {' or '.join(repr(found) for found in names)}?" if names else ""
    return f"Unknown gate: {name!r}.{hint} Valid: {', '.join(sorted(_registry))}."


def _check_forms(gate: QuantumGate) -> None:
    size = 2**gate.n_wires
    generator = torch.Generator().manual_seed(0)
    angles = 6.0 * torch.rand(_CHECKED_ANGLES, gate.n_parameters, dtype=torch.float64, generator=generator) - 3.0
    for real, complex_ in ((torch.float64, torch.complex128), (torch.float32, torch.complex64)):
        given = angles.to(real)
        _check_form(gate, "matrix", gate.matrix(given), (_CHECKED_ANGLES, size, size), complex_)
        _check_form(gate, "transfer", gate.transfer(given), (_CHECKED_ANGLES, size**2, size**2), real)
    matrix = gate.matrix(angles)
    error = float((matrix @ matrix.mH - torch.eye(size, dtype=matrix.dtype)).abs().max())
    if not error < _TOLERANCE:
        raise SpaceError(
            f"The matrix of the gate {gate.name!r} is not unitary: U U^dagger differs from 1 by {error:.1e} "
            f"at angles {[round(value, 3) for value in angles[0].tolist()]} and others."
        )
    _check_series(gate, matrix, angles)
    error = float((gate.transfer(angles) - transfer_of(gate.matrix)(angles)).abs().max())
    if not error < _TOLERANCE:
        raise SpaceError(
            f"The transfer form of the gate {gate.name!r} differs from its matrix by {error:.1e}. "
            f"Give transfer=transfer_of(matrix) to have it computed."
        )


def _check_series(gate: QuantumGate, matrix: Tensor, angles: Tensor) -> None:
    series = gate.series
    if series is None:
        return
    if (series.size, series.n_parameters) != (matrix.shape[-1], gate.n_parameters):
        raise SpaceError(f"The series of the gate {gate.name!r} is for another number of wires or of angles.")
    error = float((series.matrix(angles) - matrix).abs().max())
    if not error < _TOLERANCE:
        raise SpaceError(
            f"The series of the gate {gate.name!r} differs from its matrix by {error:.1e}. Give series=None where the "
            "matrix is no trigonometric series."
        )


def _check_form(gate: QuantumGate, form: str, value: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if tuple(value.shape) != shape:
        raise SpaceError(
            f"The {form} of the gate {gate.name!r} has the shape {list(value.shape)} for {_CHECKED_ANGLES} sets of "
            f"{gate.n_parameters} angles; expected {list(shape)}."
        )
    if value.dtype != dtype:
        raise SpaceError(f"The {form} of the gate {gate.name!r} is {value.dtype}; expected {dtype} for such angles.")
