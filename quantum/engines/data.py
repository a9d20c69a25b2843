"""Where data enter a circuit: encodings as product states, or as operations on a state, one per sample."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError
from quantum.circuit import Input, Operation
from quantum.gates import QuantumGate, gate_named
from quantum.program import Encoding

Form = Callable[[QuantumGate, Tensor], Tensor]
Following = Callable[[str, tuple[int, ...]], Tensor | None]
"""What follows a gate on some wires, `D x D`, or None: noise."""


@dataclass(frozen=True, eq=False)
class _Column:
    """Operations of one gate on different wires, applied at once. Columns are equal if they are the same object.

    Args:
        gate: its name.
        wires: of the operations, all one-wire.
        features: position of the feature of every angle; 0 where the angle is a constant.
        scales: what the feature is multiplied with; 0 where the angle is a constant.
        constants: what is added.
    """

    gate: str
    wires: tuple[int, ...]
    features: tuple[tuple[int, ...], ...]
    scales: tuple[tuple[float, ...], ...]
    constants: tuple[tuple[float, ...], ...]


def amplitudes(inputs: Tensor, n_wires: int, dtype: torch.dtype) -> Tensor:
    """Samples as normalised states (amplitude encoding).

    Args:
        inputs: `B x F`, real or complex, `F` at most `2**n_wires`; the rest is padded with zeros.
        n_wires: `n`.
        dtype: complex.

    Returns:
        `2**n x B`.

    Raises:
        ConfigError: too many features, or a sample of zeros, which is no state.
    """
    if inputs.shape[1] > 2**n_wires:
        raise ConfigError(f"Amplitude encoding holds {2**n_wires} features on {n_wires} wires, not {inputs.shape[1]}.")
    norms = inputs.abs().square().sum(dim=1, keepdim=True).sqrt()
    if bool((norms == 0).any()):
        raise ConfigError("A sample is all zeros; amplitude encoding cannot normalise it.")
    state = (inputs / norms).to(dtype)
    return torch.nn.functional.pad(state, (0, 2**n_wires - inputs.shape[1])).T


def local_matrices(
    encoding: Encoding, inputs: Tensor, form: Form, following: Following | None = None
) -> tuple[tuple[int, ...], Tensor]:
    """The matrix that an encoding of one-wire operations is on every wire it touches.

    Args:
        encoding: without operations on several wires.
        inputs: `B x F`.
        form: of a gate, from angles `... x n_parameters`.
        following: noise.

    Returns:
        The wires, and `n_touched x d x d x B`.
    """
    columns, touched = _columns(encoding)
    total: Tensor | None = None
    for column in columns:
        matrices = _column_matrices(column, inputs, form)
        if following is not None:
            matrices = _followed(matrices, [following(column.gate, (wire,)) for wire in column.wires])
        everywhere = column.wires == touched
        if total is None:
            if everywhere:
                total = matrices
                continue
            dim = matrices.shape[1]
            identity = torch.eye(dim, dtype=matrices.dtype, device=matrices.device)
            total = identity[None, :, :, None].expand(len(touched), dim, dim, len(inputs))
        if everywhere:
            total = torch.einsum("wijb,wjkb->wikb", matrices, total)
        else:
            rows = [touched.index(wire) for wire in column.wires]
            changed = torch.einsum("wijb,wjkb->wikb", matrices, total[rows])
            total = total.index_copy(0, torch.tensor(rows, device=changed.device), changed)
    assert total is not None  # an encoding without operations is None and never comes here
    return touched, total


def apply_encoding(
    state: Tensor,
    encoding: Encoding,
    inputs: Tensor,
    n_wires: int,
    local: int,
    form: Form,
    following: Following | None = None,
) -> Tensor:
    """The state of every sample after an encoding's operations.

    Args:
        state: `local**n_wires x B`.
        encoding: not an amplitude encoding.
        inputs: `B x F`.
        n_wires: of the state.
        local: dimension of a wire.
        form: of a gate.
        following: noise.
    """
    if all(len(operation.wires) == 1 for operation in encoding.operations):
        touched, matrices = local_matrices(encoding, inputs, form, following)
        for wire, matrix in zip(touched, matrices, strict=True):
            shaped = state.reshape(local**wire, local, -1, state.shape[-1])
            state = torch.einsum("ijb,ljrb->lirb", matrix, shaped).reshape(state.shape)
        return state
    for operation in encoding.operations:  # operations on several wires come one by one
        matrix = form(gate_named(operation.gate), _angles(operation, inputs))
        noise = following(operation.gate, operation.wires) if following is not None else None
        if noise is not None:
            matrix = noise.to(matrix) @ matrix
        k, batch = len(operation.wires), state.shape[-1]
        axes = state.reshape([local] * n_wires + [batch]).movedim(operation.wires, tuple(range(k)))
        moved = torch.einsum("bij,jrb->irb", matrix, axes.reshape(local**k, -1, batch)).reshape(axes.shape)
        state = moved.movedim(tuple(range(k)), operation.wires).reshape(state.shape)
    return state


def product_state(vectors: Tensor) -> Tensor:
    """The joint state of wires that are not entangled.

    Args:
        vectors: `n x d x B`, one state per wire.

    Returns:
        `d**n x B`.
    """
    states = list(vectors.unbind())
    while len(states) > 1:  # neighbours first: one after the other would touch twice as many numbers
        pairs = zip(states[0::2], states[1::2], strict=False)
        joined = [(first[:, None, :] * second[None, :, :]).flatten(0, 1) for first, second in pairs]
        states = joined + states[2 * len(joined) :]
    return states[0]


def on_all_wires(touched: tuple[int, ...], vectors: Tensor, ground: Tensor, n_wires: int) -> Tensor:
    """States of all wires: those that an encoding touches, and the ground state on the others.

    Args:
        touched: wires, ascending.
        vectors: their states, `n_touched x d x B`.
        ground: `d`.
        n_wires: `n`.

    Returns:
        `n x d x B`.
    """
    if len(touched) == n_wires:
        return vectors
    everywhere = ground[None, :, None].expand(n_wires, -1, vectors.shape[-1])
    return everywhere.index_copy(0, torch.tensor(touched, device=vectors.device), vectors)


class EncodedInputs:
    """Keeps the encoded states of a batch while the batch lives.

    An encoding has no trained parameter, and one batch is run several times: by the steps of a bilevel rule, by
    several draws of gates.
    """

    def __init__(self) -> None:
        # By identity: tensors that are equal in value are other batches.
        self._batches: dict[int, tuple[weakref.ref[Tensor], int, dict[object, Tensor]]] = {}

    def get(self, inputs: Tensor, key: object, make: Callable[[], Tensor]) -> Tensor:
        """The state under a key, made where it is not known or the batch was changed in place."""
        if inputs.requires_grad or inputs.is_inference():  # the latter do not tell whether they were changed
            return make()
        version = inputs._version
        kept = self._batches.get(id(inputs))
        if kept is None or kept[1] != version:
            kept = self._batches[id(inputs)] = (weakref.ref(inputs, self._forgetting(id(inputs))), version, {})
        states = kept[2]
        if key not in states:
            # A tensor made in inference mode could not be used in training afterwards.
            with torch.inference_mode(False), torch.no_grad():
                states[key] = make()
        return states[key]

    def _forgetting(self, identity: int) -> Callable[[object], None]:
        """What forgets a batch; it does not keep its keeper alive."""
        keeper = weakref.ref(self)

        def forget(_: object) -> None:
            alive = keeper()
            if alive is not None:
                alive._batches.pop(identity, None)

        return forget

    def __reduce__(self) -> tuple[type[EncodedInputs], tuple[()]]:
        """Copies start empty: what is kept belongs to tensors of this process."""
        return EncodedInputs, ()


@lru_cache(maxsize=256)
def _columns(encoding: Encoding) -> tuple[tuple[_Column, ...], tuple[int, ...]]:
    """Operations in order, those of one gate at the same depth together, and the wires that are touched."""
    depth: dict[int, int] = {}
    layers: dict[tuple[int, str], list[Operation]] = {}
    for operation in encoding.operations:
        (wire,) = operation.wires
        depth[wire] = depth.get(wire, 0) + 1
        layers.setdefault((depth[wire], operation.gate), []).append(operation)
    columns = []
    for (_, gate), operations in sorted(layers.items(), key=lambda item: item[0][0]):
        rows = [[_linear(angle) for angle in operation.angles] for operation in operations]
        columns.append(
            _Column(
                gate,
                tuple(operation.wires[0] for operation in operations),
                tuple(tuple(feature for feature, _, _ in row) for row in rows),
                tuple(tuple(scale for _, scale, _ in row) for row in rows),
                tuple(tuple(constant for _, _, constant in row) for row in rows),
            )
        )
    return tuple(columns), tuple(sorted(depth))


def _linear(angle: object) -> tuple[int, float, float]:
    """Feature, scale and constant of an angle."""
    if isinstance(angle, Input):
        return angle.index, angle.scale, 0.0
    assert isinstance(angle, int | float)  # nothing of an encoding is trained
    return 0, 0.0, float(angle)


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # what is made in inference mode could not be used in training
def _column_tables(column: _Column, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Features of a column, flat, its scales and constants, `n_operations x n_parameters`."""
    return (
        torch.tensor(column.features, device=device).flatten(),
        torch.tensor(column.scales, dtype=dtype, device=device),
        torch.tensor(column.constants, dtype=dtype, device=device),
    )


def _column_matrices(column: _Column, inputs: Tensor, form: Form) -> Tensor:
    """`n_operations x d x d x B`."""
    n = len(column.wires)
    if not column.features[0]:
        matrices = form(gate_named(column.gate), inputs.new_zeros(n, 1, 0))
        return matrices.permute(0, 2, 3, 1).expand(-1, -1, -1, len(inputs))
    features, scales, constants = _column_tables(column, inputs.dtype, inputs.device)
    if not any(map(any, column.scales)):  # constants only
        matrices = form(gate_named(column.gate), constants)
        return matrices.unsqueeze(-1).expand(-1, -1, -1, len(inputs))
    read = inputs.index_select(1, features).view(len(inputs), *constants.shape)
    return form(gate_named(column.gate), torch.addcmul(constants, read, scales)).permute(1, 2, 3, 0)


def _followed(matrices: Tensor, noise: list[Tensor | None]) -> Tensor:
    """`n_operations x d x d x B`, each followed by its noise."""
    if all(factor is None for factor in noise):
        return matrices
    identity = torch.eye(matrices.shape[1])
    factors = torch.stack([(identity if factor is None else factor).to(matrices) for factor in noise])
    return torch.einsum("wij,wjkb->wikb", factors, matrices)


def _angles(operation: Operation, inputs: Tensor) -> Tensor:
    """`B x n_parameters`."""
    columns = []
    for angle in operation.angles:
        feature, scale, constant = _linear(angle)
        columns.append(inputs[:, feature] * scale + constant if scale else inputs.new_full((len(inputs),), constant))
    return torch.stack(columns, dim=1) if columns else inputs.new_zeros(len(inputs), 0)
