"""OpenQASM 3: the trained angles as numbers, the data as declared inputs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from quantum.circuit import Angle, Circuit, Input, Weight
from quantum.export.spelling import OPENQASM3
from quantum.export.text import checked_inputs, checked_weights, inputs_read, number, program


def to_qasm3(
    circuit: Circuit,
    weights: Sequence[float] | Tensor,
    inputs: Sequence[float] | Tensor | None = None,
    *,
    measure: bool = False,
) -> str:
    """The circuit in OpenQASM 3 (Cross et al. 2022, arXiv:2104.14722), equal to it up to a global phase.

    Wire `i` is ``q[i]``. Gates that ``stdgates.inc`` lacks are defined in the text. A circuit with
    ``amplitude_input`` is written without the preparation of its initial state, and the text says so.

    Args:
        circuit: what to write.
        weights: `n_weights` angles in radians; written with all their digits.
        inputs: one sample to write as numbers. None declares ``input float[64] x_i;`` for every feature `i` that an
            angle reads; the angle is then the expression ``scale * x_i``.
        measure: end with a measurement of every wire, wire `i` into ``c[i]``.

    Raises:
        ExportError: the numbers do not fit or are not finite, or a gate has no OpenQASM name.
    """
    bound = checked_weights(circuit, weights)
    sample = None if inputs is None else checked_inputs(circuit, inputs)

    def angle(source: Angle) -> str:
        if isinstance(source, Weight):
            return number(bound[source.index])
        if isinstance(source, Input):
            if sample is not None:
                return number(sample[source.index] * source.scale)
            variable = f"x_{source.index}"
            return variable if source.scale == 1.0 else f"{number(source.scale)} * {variable}"
        return number(source)

    n = circuit.n_wires
    variables = [f"input float[64] x_{index};" for index in inputs_read(circuit)] if sample is None else []
    return program(
        circuit,
        OPENQASM3,
        angle,
        declarations=[*variables, f"qubit[{n}] q;", *([f"bit[{n}] c;"] if measure else [])],
        measurement=["c = measure q;"] if measure else [],
    )
