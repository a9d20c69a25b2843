"""A circuit's files, and the way back from one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from darts_hpo.errors import DartsHPOError, ExportError
from darts_hpo.runs.files import write_json, write_text
from quantum.circuit import Circuit
from quantum.drawing import draw
from quantum.export.qasm2 import to_qasm2
from quantum.export.qasm3 import to_qasm3
from quantum.export.text import checked_weights, inputs_read

FORMAT = "darts-hpo circuit"
"""What ``circuit.json`` says it is."""


def write_circuit_files(
    folder: Path,
    circuit: Circuit,
    weights: Sequence[float] | Tensor,
    facts: Mapping[str, Any],
    *,
    inputs: Sequence[float] | Tensor | None = None,
) -> dict[str, str]:
    """Write the circuit as JSON, OpenQASM 2 and 3, and a drawing; each file whole or not at all.

    All texts are made before the first is written, so a circuit that cannot be said in OpenQASM leaves the folder as
    it was.

    Args:
        folder: where to; it is created.
        circuit: what to write.
        weights: `n_weights` angles in radians.
        facts: anything plain to keep beside the circuit: scores, the task, the measurement.
        inputs: one sample. Where the circuit reads data, OpenQASM 2, which has no variables, is written for this
            sample, and not at all without one. The other files keep the data symbolic.

    Returns:
        File names in the folder by kind: ``json`` (circuit.json), ``qasm2`` (circuit.qasm), ``qasm3``
        (circuit_qasm3.qasm) and ``drawing`` (circuit.svg). ``qasm2`` is absent as said above.

    Raises:
        ExportError: the weights do not fit or are not finite, or a gate has no OpenQASM name.
        RunDirectoryError: the system refuses to write.
    """
    values = checked_weights(circuit, weights)
    texts = {"qasm3": ("circuit_qasm3.qasm", to_qasm3(circuit, values))}
    if inputs is not None or not inputs_read(circuit):
        texts["qasm2"] = ("circuit.qasm", to_qasm2(circuit, values, inputs))
    texts["drawing"] = ("circuit.svg", draw(circuit, values))

    write_json(
        folder / "circuit.json",
        {"format": FORMAT, "circuit": circuit.to_json(), "weights": values, "facts": dict(facts)},
    )
    for name, text in texts.values():
        write_text(folder / name, text)
    return {"json": "circuit.json", **{kind: name for kind, (name, _) in sorted(texts.items())}}


def load_circuit(path: Path) -> tuple[Circuit, list[float]]:
    """The circuit and weights of a ``circuit.json``, exactly as they were written.

    Raises:
        ExportError: the file cannot be read, is no circuit of ours, or is damaged.
    """
    remedy = "Pass a circuit.json that an export wrote, or export the circuit again."
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror or error}. {remedy}") from None
    except ValueError as error:
        raise ExportError(f"{path} is not valid JSON: {error}. {remedy}") from None
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise ExportError(f'{path} holds no circuit: it lacks the entry "format": "{FORMAT}". {remedy}')
    circuit_data, weights = data.get("circuit"), data.get("weights")
    if not isinstance(circuit_data, Mapping) or not isinstance(weights, list):
        raise ExportError(f"{path} lacks its circuit or its weights. {remedy}")
    try:
        circuit = Circuit.from_json(circuit_data)
        return circuit, checked_weights(circuit, [float(weight) for weight in weights])
    except (DartsHPOError, TypeError, ValueError) as error:
        raise ExportError(f"{path} is damaged: {error} {remedy}") from None
