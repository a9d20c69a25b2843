"""Data encodings by name: how a sample's features become gates, or the initial state itself.

Most of TorchQuantum's names follow one scheme: one rotation after another over the wires, every rotation with the next
feature. `4x4_ryzxy`, for example, turns four wires by RY with the features 0 to 3, by RZ with 4 to 7, by RX with 8 to
11 and by RY with 12 to 15. They are built from that scheme here, and the few irregular ones by a rule of their own.

Besides them there are the angle encodings, which take any number of features, `amplitude` and `none`. Use
:func:`register_encoder` to add another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from typing import TypeAlias

from darts_hpo.errors import SpaceError, unknown_name
from quantum.circuit import Input, Operation
from quantum.program import Encoding

BuildEncoding: TypeAlias = Callable[[int, int, float], Encoding | None]
"""Wires, features and the scale (radians per unit of a feature) to an encoding.

It raises :class:`~darts_hpo.errors.SpaceError` with one sentence when it cannot take so many wires or features.
The encoding's name is filled in from the registry.
"""

_REGISTRY: dict[str, BuildEncoding] = {}


def register_encoder(name: str, build: BuildEncoding) -> None:
    """Adds an encoding under a name that :func:`encoder` and the configuration accept.

    Args:
        name: what users type.
        build: the encoding for given wires, features and scale.

    Raises:
        SpaceError: the name is taken.
    """
    if name in _REGISTRY:
        raise SpaceError(f"An encoder named {name!r} is registered already; choose another name.")
    _REGISTRY[name] = build


def encoder_names() -> tuple[str, ...]:
    """All registered names, in the order of registration."""
    return tuple(_REGISTRY)


def encoders_that_fit(n_wires: int, n_inputs: int) -> tuple[str, ...]:
    """Names of the encoders that take exactly so many features on so many wires (or on some of these wires).

    Args:
        n_wires: number of qubits.
        n_inputs: number of features. With features to encode, `none` is not listed.
    """
    names = []
    for name, build in _REGISTRY.items():
        try:
            encoding = build(n_wires, n_inputs, 1.0)
        except SpaceError:
            continue
        if encoding is not None or n_inputs == 0:
            names.append(name)
    return tuple(names)


def encoder(name: str, n_wires: int, n_inputs: int, scale: float = 1.0) -> Encoding | None:
    """The encoding of a name for given wires and features.

    Args:
        name: one of :func:`encoder_names`.
        n_wires: number of qubits. TorchQuantum's encoders leave the wires beyond their own alone.
        n_inputs: number of features of a sample; none is ever dropped.
        scale: radians per unit of a feature. It means nothing to `amplitude`, which normalises the sample.

    Returns:
        The encoding, or None for `none`.

    Raises:
        SpaceError: the name is unknown, the encoder cannot take so many wires or features, or the scale is not finite.
    """
    if name not in _REGISTRY:
        raise SpaceError(unknown_name("encoder", name, _REGISTRY))
    if n_wires < 1:
        raise SpaceError(f"An encoder needs at least one wire, not {n_wires}.")
    if n_inputs < 0:
        raise SpaceError(f"An encoder cannot take {n_inputs} features; expected 0 or more.")
    if not math.isfinite(scale):
        raise SpaceError(f"The scale of encoder {name!r} is {scale}; expected a finite number of radians per unit.")
    try:
        encoding = _REGISTRY[name](n_wires, n_inputs, scale)
    except SpaceError as error:
        fitting = ", ".join(encoders_that_fit(n_wires, n_inputs)) or "(none)"
        raise SpaceError(
            f"Encoder {name!r} does not fit: {error} "
            f"Encoders that fit {_counted(n_inputs, 'feature')} on {_counted(n_wires, 'wire')}: {fitting}."
        ) from None
    return None if encoding is None else replace(encoding, name=name)


# -- Rotations, one after another over the wires ----------------------------------------------------------------------


def _rotations(gates: Sequence[str], n_wires: int, n_inputs: int, scale: float) -> tuple[Operation, ...]:
    """Feature `i` turns wire `i mod n_wires`; each pass over the wires takes the next gate, cyclically."""
    passes = islice(cycle(gates), math.ceil(n_inputs / n_wires))
    places = ((gate, wire) for gate in passes for wire in range(n_wires))
    return tuple(
        Operation(gate, (wire,), (Input(feature, scale),))
        for feature, (gate, wire) in zip(range(n_inputs), places, strict=False)
    )


def _angle(gates: Sequence[str], first: Sequence[str], n_wires: int, n_inputs: int, scale: float) -> Encoding:
    """Any number of features, after fixed gates on every wire."""
    if n_inputs == 0:
        raise SpaceError("it encodes at least one feature, and the data has none.")
    fixed = tuple(Operation(gate, (wire,)) for gate in first for wire in range(n_wires))
    return Encoding("", fixed + _rotations(gates, n_wires, n_inputs, scale))


def _amplitude(n_wires: int, n_inputs: int, scale: float) -> Encoding:
    """The sample is the initial state; fewer features than amplitudes are padded with zeros by the engines."""
    if n_inputs == 0:
        raise SpaceError("it encodes at least one feature, and the data has none.")
    if n_inputs > 2**n_wires:
        raise SpaceError(
            f"{_counted(n_wires, 'wire')} hold {2**n_wires} amplitudes, fewer than {n_inputs} features; "
            f"use {math.ceil(math.log2(n_inputs))} wires or more."
        )
    return Encoding("", amplitude=True)


def _none(n_wires: int, n_inputs: int, scale: float) -> None:
    """No encoding: the place where data could enter stays empty."""


# The angles that RY, or any single axis, gives a wire twice only add up: with more features than wires prefer the
# encodings whose axis alternates. RZ on |0> is a mere phase, so `angle_rz` is for re-uploading and `angle_h_rz` for a
# start.
_ANGLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "angle": (("RY",), ()),
    "angle_rx": (("RX",), ()),
    "angle_ry": (("RY",), ()),
    "angle_rz": (("RZ",), ()),
    "angle_h_rz": (("RZ",), ("H",)),
    "angle_ryz": (("RY", "RZ"), ()),
    "angle_ryzx": (("RY", "RZ", "RX"), ()),
}

for _name, (_gates, _first) in _ANGLES.items():
    register_encoder(_name, partial(_angle, _gates, _first))
register_encoder("amplitude", _amplitude)
register_encoder("none", _none)


# -- TorchQuantum's names ---------------------------------------------------------------------------------------------


def _of_fixed_size(
    operations: Callable[[float], tuple[Operation, ...]],
    own_wires: int,
    own_inputs: int,
    n_wires: int,
    n_inputs: int,
    scale: float,
) -> Encoding:
    """An encoding of exactly `own_inputs` features on the first `own_wires` wires."""
    if n_wires < own_wires or n_inputs != own_inputs:
        raise SpaceError(
            f"it takes exactly {_counted(own_inputs, 'feature')} on at least {_counted(own_wires, 'wire')}; "
            f"there are {_counted(n_inputs, 'feature')} and {_counted(n_wires, 'wire')}."
        )
    return Encoding("", operations(scale))


def _u3_rx(hadamards: bool, scale: float) -> tuple[Operation, ...]:
    """Per wire U3 with three features, then RX with one. TorchQuantum puts the Hadamards after wire 0 is encoded."""
    operations: list[Operation] = []
    for wire in range(4):
        angles = tuple(Input(4 * wire + place, scale) for place in range(4))
        operations += [Operation("U3", (wire,), angles[:3]), Operation("RX", (wire,), angles[3:])]
        if hadamards and wire == 0:
            operations += [Operation("H", (other,)) for other in range(4)]
    return tuple(operations)


def _rz_sx(scale: float) -> tuple[Operation, ...]:
    """Every RZ with a feature is followed by the square root of X: both are native on IBM's devices."""
    return tuple(
        operation
        for rotation in _rotations(("RZ",), 4, 16, scale)
        for operation in (rotation, Operation("SX", rotation.wires))
    )


_ROTATIONS: dict[str, tuple[int, int, str]] = {
    # name: wires, features, axes of the successive passes over the wires (repeated as needed)
    "1x1_ry": (1, 1, "y"),
    "2x1_ryry": (2, 2, "y"),
    "2x8_rxryrzrxryrzrxry": (2, 16, "xyz"),
    "2x8_ryzxyzxyz": (2, 16, "yzx"),
    "3x1_ryryry": (3, 3, "y"),
    "3x1_rxrxrx": (3, 3, "x"),
    "4_ry": (4, 4, "y"),
    "4x4_ryzxy": (4, 16, "yzx"),
    "8x2_ry": (8, 16, "y"),
    "8x2_ryz": (8, 16, "yz"),
    "10_ry": (10, 10, "y"),
    "10_ryzx": (4, 10, "yzx"),
    "15_ryrz": (15, 16, "yz"),
    "16_ry": (16, 16, "y"),
    "16x1_ry": (16, 16, "y"),
    "25_ry": (25, 25, "y"),
    "25_ryrz": (21, 25, "yz"),
    "6x6_ryzxy": (10, 36, "yzx"),
    "6x6_ryrz": (21, 36, "yz"),
    "6x6_ryrzrx": (16, 36, "yzx"),
    "8x8_ryzxyzxy": (10, 64, "yzx"),
    "10x10_ryzxyzxyzxy": (10, 100, "yzx"),
}

for _name, (_wires, _inputs, _axes) in _ROTATIONS.items():
    _turns = partial(_rotations, [f"R{axis.upper()}" for axis in _axes], _wires, _inputs)
    register_encoder(_name, partial(_of_fixed_size, _turns, _wires, _inputs))
register_encoder("4x4_u3rx", partial(_of_fixed_size, partial(_u3_rx, False), 4, 16))
register_encoder("4x4_u3_h_rx", partial(_of_fixed_size, partial(_u3_rx, True), 4, 16))
register_encoder("4x4_rzsx", partial(_of_fixed_size, _rz_sx, 4, 16))


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
