"""OpenQASM 2: what nearly every toolkit reads. All angles are numbers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from darts_hpo.errors import ExportError
from quantum.circuit import Angle, Circuit, Input, Weight
from quantum.export.spelling import OPENQASM2
from quantum.export.text import checked_inputs, checked_weights, inputs_read, number, program


def to_qasm2(
    circuit: Circuit,
    weights: Sequence[float] | Tensor,
    inputs: Sequence[float] | Tensor | None = None,
    *,
    measure: bool = False,
) -> str:
    """The circuit in OpenQASM 2 (Cross et al. 2017, arXiv:1707.03429), equal to it up to a global phase.

    Wire `i` is ``q[i]``. Tools that count basis states from the last qubit (Qiskit) give the amplitudes in another
    order. Gates that the original ``qelib1.inc`` lacks are defined in the text, so any reader loads it. A circuit with
    ``amplitude_input`` is written without the preparation of its initial state, and the text says so.

    Args:
        circuit: what to write.
        weights: `n_weights` angles in radians; written with all their digits.
        inputs: one sample, needed where the circuit reads data: this version of the language has no variables.
        measure: end with a measurement of every wire, wire `i` into ``c[i]``.

    Raises:
        ExportError: the numbers do not fit or are not finite, data are needed and missing, or a gate has no
            OpenQASM name.
    """
    bound = checked_weights(circuit, weights)
    if inputs is None and inputs_read(circuit):
        raise ExportError(
            f"OpenQASM 2 has no variables, and the circuit reads {len(inputs_read(circuit))} features: pass a sample "
            "as inputs, or write OpenQASM 3 (to_qasm3), which declares them."
        )
    sample = [] if inputs is None else checked_inputs(circuit, inputs)
    read = inputs_read(circuit)
    remarks = []
    if read:
        values = ", ".join(f"x_{feature} = {number(sample[feature])}" for feature in read)
        remarks = [f"// The features are bound to one sample: {values}."]

    def angle(source: Angle) -> str:
        if isinstance(source, Weight):
            return number(bound[source.index])
        if isinstance(source, Input):
            return number(sample[source.index] * source.scale)
        return number(source)

    n = circuit.n_wires
    return program(
        circuit,
        OPENQASM2,
        angle,
        declarations=[f"qreg q[{n}];", *([f"creg c[{n}];"] if measure else [])],
        remarks=remarks,
        measurement=[f"measure q[{wire}] -> c[{wire}];" for wire in range(n)] if measure else [],
    )
