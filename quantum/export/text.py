"""What the two OpenQASM writers share: numbers, the header, and one line per operation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from darts_hpo.errors import ExportError
from quantum.circuit import Angle, Circuit, Input
from quantum.export.spelling import Dialect


def number(value: float) -> str:
    """A finite number such that reading it gives it back exactly, in the strictest grammar: ``1e-05`` is ``1.0e-05``.

    Raises:
        ExportError: the number is not finite.
    """
    if not math.isfinite(value):
        raise ExportError(f"An angle of the circuit is {value}: the trained weights or the inputs are not finite.")
    text = repr(float(value))
    mantissa, exponent, power = text.partition("e")
    return f"{mantissa}.0e{power}" if exponent and "." not in mantissa else text


def checked_weights(circuit: Circuit, weights: Sequence[float] | Tensor) -> list[float]:
    """The weights as plain numbers.

    Args:
        circuit: whose weights they are.
        weights: `n_weights` angles in radians.

    Raises:
        ExportError: another number of weights, or one that is not finite.
    """
    values = _numbers(weights)
    if len(values) != circuit.n_weights:
        raise ExportError(f"The circuit has {circuit.n_weights} weights; it was given {len(values)}.")
    for index, value in enumerate(values):
        if not math.isfinite(value):
            raise ExportError(f"Weight {index} of the circuit is {value}; only finite angles can be exported.")
    return values


def checked_inputs(circuit: Circuit, inputs: Sequence[float] | Tensor) -> list[float]:
    """One sample as plain numbers.

    Args:
        circuit: that reads them.
        inputs: at least as many features as the circuit's angles read; more are allowed.

    Raises:
        ExportError: too few features.
    """
    values = _numbers(inputs)
    expected = max(inputs_read(circuit), default=-1) + 1
    if len(values) < expected:
        raise ExportError(f"The circuit reads {expected} features; the sample has {len(values)}.")
    return values


def _numbers(values: Sequence[float] | Tensor) -> list[float]:
    if isinstance(values, Tensor):
        return values.detach().double().tolist()
    return [float(value) for value in values]


def inputs_read(circuit: Circuit) -> list[int]:
    """Positions of the features that angles of the circuit read, in order and each once."""
    return sorted({a.index for operation in circuit.operations for a in operation.angles if isinstance(a, Input)})


def program(
    circuit: Circuit,
    dialect: Dialect,
    angle: Callable[[Angle], str],
    *,
    declarations: Sequence[str],
    measurement: Sequence[str],
    remarks: Sequence[str] = (),
) -> str:
    """The whole text.

    Args:
        circuit: what is written.
        dialect: in which version's words.
        angle: how an angle is written.
        declarations: lines between the definitions of gates and the first operation; the qubits are called ``q``.
        measurement: lines after the last operation.
        remarks: lines of comment at the top.

    Raises:
        ExportError: a gate has no OpenQASM name.
    """
    names, definitions = dialect.calls([operation.spec for operation in circuit.operations])
    lines = [
        *_header(circuit),
        *remarks,
        f"OPENQASM {dialect.version};",
        f'include "{dialect.include}";',
        *(definition.text for definition in definitions),
        *declarations,
    ]
    for operation in circuit.operations:
        angles = f"({', '.join(angle(a) for a in operation.angles)})" if operation.angles else ""
        lines.append(f"{names[operation.gate]}{angles} {', '.join(f'q[{wire}]' for wire in operation.wires)};")
    return "\n".join([*lines, *measurement]) + "\n"


def _header(circuit: Circuit) -> list[str]:
    lines = [
        "// Written by darts-hpo. Wire i of the circuit is q[i]; wire 0 is the most significant bit of a state's index."
    ]
    if circuit.amplitude_input:
        lines += [
            "// NOT THE WHOLE CIRCUIT: it starts from the sample itself (amplitude encoding), not from |0...0>.",
            f"// Prepare the normalised sample, padded with zeros to {2**circuit.n_wires} amplitudes, before the first "
            "gate. Only what follows is written here.",
        ]
    return lines
