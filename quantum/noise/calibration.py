"""Calibration snapshots of real machines, read as the plain JSON files they are.

The package qiskit-ibm-runtime ships them for its simulated backends: one folder per machine with ``conf_<name>.json``
(qubits, coupling map, native gates) and ``props_<name>.json`` (relaxation times, errors, durations). They are read
without importing the package, without an account and without a network.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from darts_hpo.errors import ConfigError, DataError, MissingDependencyError, unknown_name
from quantum.noise.device import Device, PairCalibration, QubitCalibration

# In order of preference: older machines know no SX, but their U2 is one pulse too.
_PULSES = ("sx", "u2", "x")
_TWO_QUBIT = ("cx", "cz", "ecr")
_NANOSECONDS = {"s": 1e9, "ms": 1e6, "us": 1e3, "\u00b5s": 1e3, "\u03bcs": 1e3, "ns": 1.0}


def device_names() -> tuple[str, ...]:
    """Short names of the machines whose snapshots are installed, in alphabetical order.

    Raises:
        MissingDependencyError: qiskit-ibm-runtime is not installed.
    """
    return tuple(sorted(_shipped()))


def load_device(device: str | Path) -> Device:
    """A machine by name, or from files of one's own.

    Args:
        device: a short name such as ``manila`` (``fake_manila``, ``ibmq_manila`` and ``FakeManilaV2`` mean the same),
            a folder with one ``conf_*.json`` and one ``props_*.json``, or the path of a ``props_*.json`` that has
            its ``conf_*.json`` beside it.

    Raises:
        ConfigError: no machine has that name.
        DataError: a file is absent, no JSON, or lacks what describes a device.
        MissingDependencyError: a name was given and qiskit-ibm-runtime is not installed.
    """
    path = Path(device)
    if _is_own(path):
        return _read(*_own_files(path.expanduser()))
    shipped = _shipped()
    name = _short(path.name)
    if name not in shipped:
        raise ConfigError(unknown_name("device", str(device), shipped))
    folder = shipped[name]
    return _read(name, folder / f"conf_{name}.json", folder / f"props_{name}.json")


def device_reference(device: str | Path) -> str:
    """What finds the same device again from any folder: its name, or the absolute path of files of one's own.

    Args:
        device: as :func:`load_device` takes it.
    """
    path = Path(device)
    return str(path.expanduser().resolve()) if _is_own(path) else str(device)


def _is_own(path: Path) -> bool:
    # A bare name may also be a folder here, but one without a calibration does not hide a machine of that name.
    return path.suffix == ".json" or len(path.parts) > 1 or any(path.glob("props_*.json"))


def _shipped() -> dict[str, Path]:
    spec = importlib.util.find_spec("qiskit_ibm_runtime")  # locates the package, does not import it
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            "Devices by name come with qiskit-ibm-runtime, which is not installed. "
            "Type: pip install qiskit-ibm-runtime, or give the folder of a device's conf_*.json and props_*.json."
        )
    backends = Path(spec.origin).parent / "fake_provider" / "backends"
    return {file.parent.name: file.parent for file in backends.glob("*/props_*.json")}


def _short(name: str) -> str:
    """``fake_manila``, ``ibmq_manila``, ``FakeManilaV2`` and ``manila`` to ``manila``."""
    return re.sub(r"^(fake|ibmq|ibm)_?|_?v\d+$", "", name.lower())


def _own_files(path: Path) -> tuple[str, Path, Path]:
    if not path.exists():
        raise DataError(f"{path}: there is no such calibration; expected a folder with conf_*.json and props_*.json.")
    if path.is_dir():
        found = sorted(path.glob("props_*.json"))
        if len(found) != 1:
            raise DataError(
                f"{path}: {len(found)} files are named props_*.json; expected one. Give its own path instead."
            )
        path = found[0]
    if not path.name.startswith("props_"):
        raise DataError(f"{path}: expected a file named props_*.json, or the folder that holds it.")
    name = path.stem.removeprefix("props_")
    configuration = path.with_name(f"conf_{name}.json")
    if not configuration.exists():
        raise DataError(f"{path}: {configuration.name} is not beside it; it holds the coupling map and native gates.")
    return name, configuration, path


def _read(name: str, configuration_file: Path, properties_file: Path) -> Device:
    configuration, properties = _json(configuration_file), _json(properties_file)
    n_qubits = _entry(configuration, "n_qubits", configuration_file)
    coupling = configuration.get("coupling_map") or []
    if not coupling and n_qubits > 1:
        raise DataError(f"{configuration_file}: there is no coupling_map; expected a list of pairs of qubits.")
    try:
        gates = _gates(_entry(properties, "gates", properties_file), properties_file)
        tables = [_values(entries, properties_file) for entries in _entry(properties, "qubits", properties_file)]
        if len(tables) != n_qubits:
            raise DataError(f"{properties_file}: it describes {len(tables)} qubits, but the device has {n_qubits}.")
        directions = tuple((int(first), int(second)) for first, second in coupling)
        return Device(
            name=name,
            qubits=tuple(_qubit(number, table, gates) for number, table in enumerate(tables)),
            pairs=_pairs(directions, gates),
            directions=directions,
            basis_gates=tuple(_entry(configuration, "basis_gates", configuration_file)),
            date=str(properties.get("last_update_date", "")),
            source=str(properties_file),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{properties_file}: it is malformed: {error!r}.") from None


_Gates = Mapping[tuple[str, tuple[int, ...]], Mapping[str, float]]


def _gates(entries: Iterable[Mapping[str, Any]], file: Path) -> _Gates:
    return {(gate["gate"], tuple(gate["qubits"])): _values(gate["parameters"], file) for gate in entries}


def _qubit(number: int, table: Mapping[str, float], gates: _Gates) -> QubitCalibration:
    pulse = next((gates[gate, (number,)] for gate in _PULSES if (gate, (number,)) in gates), {})
    readout = table.get("readout_error")  # the mean of the two, on files that do not tell them apart
    return QubitCalibration(
        error=pulse.get("gate_error"),
        duration=pulse.get("gate_length"),
        t1=table.get("T1"),
        t2=table.get("T2"),
        read_1_given_0=table.get("prob_meas1_prep0", readout),
        read_0_given_1=table.get("prob_meas0_prep1", readout),
    )


def _pairs(directions: Iterable[tuple[int, int]], gates: _Gates) -> dict[tuple[int, int], PairCalibration]:
    """For every coupled pair the best native gate in either direction; without any, one whose rates are unknown."""
    pairs: dict[tuple[int, int], PairCalibration] = {}
    for first, second in sorted({(min(pair), max(pair)) for pair in directions}):
        offered = [
            PairCalibration(gate, table.get("gate_error"), table.get("gate_length"))
            for gate in _TWO_QUBIT
            for pair in ((first, second), (second, first))
            if (table := gates.get((gate, pair))) is not None
        ]
        known = [c for c in offered if c.error is not None]
        unknown = [*offered, PairCalibration("two-qubit gate", None, None)][0]
        pairs[first, second] = min(known, key=_error_then_duration, default=unknown)
    return pairs


def _error_then_duration(pair: PairCalibration) -> tuple[float, float]:
    return (
        float("inf") if pair.error is None else pair.error,
        float("inf") if pair.duration is None else pair.duration,
    )


def _values(parameters: Iterable[Mapping[str, Any]], file: Path) -> dict[str, float]:
    """Names to numbers, times in nanoseconds; what is null, or NaN, is left out."""
    values: dict[str, float] = {}
    for parameter in parameters:
        value, unit = parameter.get("value"), parameter.get("unit", "")
        if value is None or value != value:
            continue
        if parameter["name"] in ("T1", "T2", "gate_length"):
            if unit not in _NANOSECONDS:
                raise DataError(
                    f"{file}: {parameter['name']} has the unit {unit!r}; expected {', '.join(_NANOSECONDS)}."
                )
            value *= _NANOSECONDS[unit]
        values[parameter["name"]] = float(value)
    return values


def _json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: it cannot be read as JSON: {error}.") from None
    if not isinstance(data, dict):
        raise DataError(f"{file}: expected a JSON object.")
    return data


def _entry(data: Mapping[str, Any], key: str, file: Path) -> Any:
    if key not in data:
        raise DataError(f"{file}: the entry {key!r} is missing.")
    return data[key]
