"""From angles and mixture weights to one matrix per slot, all slots of a program at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from quantum.gates import QuantumGate, gate_named
from quantum.program import Slot


@dataclass(frozen=True)
class Group:
    """All candidates of one gate, among slots of one width.

    Args:
        gate: its name.
        wires: the wires of every candidate's slot.
        entries: positions of the candidates in the mixture.
        slots: positions of their slots among those of the same width.
        parameters: positions of their angles in the program's parameters, `n x n_parameters`.
    """

    gate: str
    wires: tuple[tuple[int, ...], ...]
    entries: tuple[int, ...]
    slots: tuple[int, ...]
    parameters: tuple[tuple[int, ...], ...]


class SlotAssembly:
    """Builds the matrices of a program's slots of one width.

    Args:
        slots: of the program, in order.
        width: wires of the slots that are built.
    """

    def __init__(self, slots: Sequence[Slot], width: int) -> None:
        self.width = width
        self.n_slots = sum(len(slot.wires) == width for slot in slots)
        groups: dict[str, list[tuple[tuple[int, ...], int, int, tuple[int, ...]]]] = {}
        entry = offset = position = 0
        for slot in slots:
            for name in slot.options:
                count = gate_named(name).n_parameters
                if len(slot.wires) == width:
                    angles = tuple(range(offset, offset + count))
                    groups.setdefault(name, []).append((slot.wires, entry, position, angles))
                entry += 1
                offset += count
            position += len(slot.wires) == width
        self.groups = tuple(Group(name, *zip(*rows, strict=True)) for name, rows in groups.items())
        self.mixed = any(len(slot.options) > 1 for slot in slots if len(slot.wires) == width)
        order = [position for group in self.groups for position in group.slots]
        self._slot_of_row = torch.tensor(order, dtype=torch.int64)
        self._entry_of_row = torch.tensor([e for group in self.groups for e in group.entries], dtype=torch.int64)
        self._row_of_slot = torch.argsort(self._slot_of_row, stable=True)
        self._constants: dict[tuple[str, int, torch.dtype, torch.device], Tensor] = {}
        self._counts = [len(group.entries) * len(group.parameters[0]) for group in self.groups]
        read = [position for group in self.groups for row in group.parameters for position in row]
        self._parameters = torch.tensor(read, dtype=torch.int64)

    def __call__(
        self,
        parameters: Tensor,
        mixture: Tensor | None,
        local: int,
        form: Callable[[QuantumGate, Tensor], Tensor],
        noise: Callable[[Group], Tensor | None] | None = None,
    ) -> Tensor:
        """One matrix per slot.

        Args:
            parameters: all angles of the program.
            mixture: a weight per candidate of the program, slot after slot; None where every slot has one candidate.
            local: dimension of a wire, 2 or 4.
            form: the form of a gate, from its angles `n x n_parameters`.
            noise: what follows the candidates of a group, `n x D x D`, or None where nothing does.

        Returns:
            `n_slots x D x D`, where `D` is `local**width`.
        """
        dim = local**self.width
        rows = []
        # One gather for all gates: it is what costs time where there are few wires, not the arithmetic.
        read = parameters.index_select(0, self._parameters.to(parameters.device)).split(self._counts)
        for group, values in zip(self.groups, read, strict=True):
            if group.parameters[0]:
                angles = values.reshape(len(group.entries), len(group.parameters[0]))
                matrices = form(gate_named(group.gate), angles)
            else:
                matrices = self._constant(group.gate, parameters, local, form).expand(len(group.entries), dim, dim)
            following = noise(group) if noise is not None else None
            rows.append(matrices if following is None else following @ matrices)
        stacked = torch.cat(rows)
        if not self.mixed:
            return stacked.index_select(0, self._row_of_slot.to(stacked.device)) if len(rows) > 1 else stacked
        assert mixture is not None
        weights = mixture.index_select(0, self._entry_of_row.to(mixture.device))
        # Weights are real: to mix complex matrices as pairs of real numbers spares conjugates in the backward pass.
        numbers = (torch.view_as_real(stacked) if stacked.is_complex() else stacked).flatten(1)
        total = torch.zeros(self.n_slots, numbers.shape[1], dtype=numbers.dtype, device=numbers.device)
        total = total.index_add(0, self._slot_of_row.to(total.device), weights.to(numbers)[:, None] * numbers)
        if stacked.is_complex():
            return torch.view_as_complex(total.unflatten(1, (dim, dim, 2)))
        return total.unflatten(1, (dim, dim))

    def _constant(self, name: str, like: Tensor, local: int, form: Callable[[QuantumGate, Tensor], Tensor]) -> Tensor:
        """The form of a gate without angles, which is kept; the identity on as many wires as needed."""
        key = (name, local, like.dtype, like.device)
        if key not in self._constants:
            gate = gate_named(name)
            # A tensor made in inference mode could not be used in training afterwards.
            with torch.inference_mode(False), torch.no_grad():
                matrix = form(gate, torch.zeros(0, dtype=like.dtype, device=like.device))
                if gate.n_wires != self.width:
                    matrix = torch.eye(local**self.width, dtype=matrix.dtype, device=matrix.device)
            self._constants[key] = matrix
        return self._constants[key]


@lru_cache(maxsize=256)
def slot_assembly(slots: tuple[Slot, ...], width: int) -> SlotAssembly:
    """The assembly of some slots; it is kept."""
    return SlotAssembly(slots, width)
