"""From angles and mixture weights to one matrix per slot, all slots of a program at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quantum.engines.data import Following, Form
from quantum.engines.precision import in_full_precision
from quantum.gates import TrigonometricSeries, gate_named
from quantum.gates.constants import require_precision
from quantum.gates.series import Waves
from quantum.program import Slot

_WIDTHS = (1, 2)
_EMPTY_PAIR = TrigonometricSeries.constant(torch.eye(4))


@dataclass(frozen=True)
class _Candidate:
    """A candidate gate of a slot.

    Args:
        gate: its name.
        wires: of the slot.
        row: of the slot, those on one wire first.
        entry: its position in the mixture.
        angles: positions of its angles in the program's parameters.
    """

    gate: str
    wires: tuple[int, ...]
    row: int
    entry: int
    angles: tuple[int, ...]


@dataclass(frozen=True)
class _Column:
    """The candidates of one gate, among slots of one width, at most one of each slot.

    Args:
        gate: its name, of a gate in :attr:`~quantum.gates.QuantumGate.series`.
        width: wires of the slots.
        candidates: any number.
    """

    gate: str
    width: int
    candidates: tuple[_Candidate, ...]

    def waves(self, local: int) -> Waves:
        """Those of the gate, or of the identity on more wires."""
        gate = gate_named(self.gate)
        series = gate.series if gate.n_wires == self.width else _EMPTY_PAIR
        assert series is not None
        return series.matrix_waves if local == 2 else series.transfer_waves


@dataclass(frozen=True)
class _Tables:
    """The numbers of an assembly in one precision, on one device.

    ``P`` angles and ``G`` weights are read for every one of ``n`` slots, whether it has the gate or not, and make ``K``
    waves, those of gates on one wire first.

    Args:
        sizes: `n`, and how many of the slots are on one wire; these come first.
        on_one: waves of gates on one wire.
        angles: positions in the parameters, `n * P`.
        entries: positions in the mixture with a zero behind it, `n * G`.
        frequencies: `P x K`.
        offsets: `K`.
        spread: which gate a wave belongs to, `G x K`.
        present: which slot has a wave's gate, `n x K`.
        values: by width, what the waves are multiplied with: `K' x N` of its `K'` waves, and `n' x K' x N` where every
            slot has noise of its own.
    """

    sizes: tuple[int, int]
    on_one: int
    angles: Tensor
    entries: Tensor
    frequencies: Tensor
    offsets: Tensor
    spread: Tensor
    present: Tensor
    values: tuple[Tensor, Tensor]

    @property
    def parts(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Rows and waves of slots on one wire, and on two."""
        n, single = self.sizes
        k = len(self.offsets)
        return (slice(0, single), slice(0, self.on_one)), (slice(single, n), slice(self.on_one, k))


class SlotAssembly:
    """Builds the matrices of a program's slots.

    Args:
        slots: of the program, in order.

    Attributes:
        counts: how many slots are on one wire, and on two.
        mixed: whether any has several candidates.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.counts = [sum(len(slot.wires) == width for slot in slots) for width in _WIDTHS]
        self.mixed = any(len(slot.options) > 1 for slot in slots)
        self._candidates: list[_Candidate] = []
        rows = [0, self.counts[0]]
        entry = offset = 0
        for slot in slots:
            width = len(slot.wires)
            for name in slot.options:
                count = gate_named(name).n_parameters
                angles = tuple(range(offset, offset + count))
                self._candidates.append(_Candidate(name, slot.wires, rows[width - 1], entry, angles))
                entry, offset = entry + 1, offset + count
            rows[width - 1] += 1
        self._n_entries = entry
        self._others = [c for c in self._candidates if gate_named(c.gate).series is None]
        self._tables: dict[tuple[int, Following | None, torch.dtype, torch.device], _Tables] = {}

    def __call__(
        self,
        parameters: Tensor,
        mixture: Tensor | None,
        local: int,
        form: Form,
        noise: Following | None = None,
        *,
        unit: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """One matrix per slot.

        Args:
            parameters: all angles of the program.
            mixture: a weight per candidate of the program, slot after slot; None where every slot has one candidate.
            local: dimension of a wire: 2 for unitary matrices, 4 for Pauli-transfer matrices.
            form: the form of a gate, from its angles `n x n_parameters`.
            noise: what follows a gate.
            unit: scale every matrix to the Frobenius norm of a unitary one, by a factor that counts as a constant.

        Returns:
            `n x D x D` of the slots on one wire and of those on two, where `D` is `local` and `local**2`.
        """
        tables = self._tables_of(local, noise, parameters)
        weights = None
        if mixture is not None:
            weights = torch.cat([mixture.to(parameters), parameters.new_zeros(1)])
        others = self._without_series(parameters, weights, local, form, noise) if self._others else (None, None)
        single, double = _Assembled.apply(parameters, weights, *others, tables, local, unit)
        return single, double

    def _without_series(
        self, parameters: Tensor, weights: Tensor | None, local: int, form: Form, noise: Following | None
    ) -> tuple[Tensor, Tensor]:
        """What candidates that are no trigonometric series contribute to the matrices, gate after gate."""
        totals = [
            parameters.new_zeros(count, _n_numbers(local, width))
            for count, width in zip(self.counts, _WIDTHS, strict=True)
        ]
        by_gate: dict[str, list[_Candidate]] = {}
        for candidate in self._others:
            by_gate.setdefault(candidate.gate, []).append(candidate)
        for name, candidates in by_gate.items():
            gate = gate_named(name)
            device = parameters.device
            angles = parameters[torch.tensor([c.angles for c in candidates], dtype=torch.int64, device=device)]
            matrices = form(gate, angles)
            if noise is not None:
                identity = torch.eye(matrices.shape[-1]).to(matrices)
                factors = [noise(name, c.wires) for c in candidates]
                matrices = torch.stack([identity if f is None else f.to(matrices) for f in factors]) @ matrices
            numbers = _numbers_of(matrices)
            if weights is not None:
                numbers = weights[torch.tensor([c.entry for c in candidates], device=device), None] * numbers
            first = self.counts[0] if gate.n_wires == 2 else 0
            rows = torch.tensor([c.row - first for c in candidates], device=device)
            totals[gate.n_wires - 1] = totals[gate.n_wires - 1].index_add(0, rows, numbers)
        return totals[0], totals[1]

    # -- tables ---------------------------------------------------------------------------------------------------

    def _tables_of(self, local: int, noise: Following | None, like: Tensor) -> _Tables:
        require_precision(like)
        key = (local, noise, like.dtype, like.device)
        if key not in self._tables:
            # A table made in inference mode could not be used in training.
            with torch.inference_mode(False), torch.no_grad():
                self._tables[key] = self._make_tables(local, noise, like)
        return self._tables[key]

    def _make_tables(self, local: int, noise: Following | None, like: Tensor) -> _Tables:
        columns = _columns(self._candidates)
        n = sum(self.counts)
        angles = torch.zeros(n, sum(len(column.waves(local).frequencies) for column in columns), dtype=torch.int64)
        entries = torch.full((n, len(columns)), self._n_entries)
        n_waves = [sum(len(c.waves(local).offsets) for c in columns if c.width == width) for width in _WIDTHS]
        spread, present = torch.zeros(len(columns), sum(n_waves)), torch.zeros(n, sum(n_waves))
        read = wave = 0
        for position, column in enumerate(columns):
            waves = column.waves(local)
            until = wave + len(waves.offsets)
            spread[position, wave:until] = 1.0
            for candidate in column.candidates:
                angles[candidate.row, read : read + len(candidate.angles)] = torch.tensor(candidate.angles)
                entries[candidate.row, position] = candidate.entry
                present[candidate.row, wave:until] = 1.0
            read, wave = read + len(waves.frequencies), until
        frequencies = torch.block_diag(torch.zeros(0, 0), *(column.waves(local).frequencies for column in columns))
        offsets = torch.cat([torch.zeros(0), *(column.waves(local).offsets for column in columns)])
        values = [self._values([c for c in columns if c.width == width], width, local, noise) for width in _WIDTHS]
        frequencies, offsets, spread, present, single, double = (
            table.to(like.device, like.dtype, copy=True) for table in (frequencies, offsets, spread, present, *values)
        )
        return _Tables(
            (n, self.counts[0]),
            n_waves[0],
            angles.flatten().to(like.device),
            entries.flatten().to(like.device),
            frequencies,
            offsets,
            spread,
            present,
            (single, double),
        )

    def _values(self, columns: Sequence[_Column], width: int, local: int, noise: Following | None) -> Tensor:
        table = torch.cat(
            [torch.zeros(0, _n_numbers(local, width)), *(column.waves(local).table for column in columns)]
        )
        if noise is None:
            return table
        # Noise is one more linear map behind each candidate, so it goes into the table and costs nothing at any step.
        first, dim = self.counts[0] if width == 2 else 0, local**width
        noisy = table.expand(self.counts[width - 1], *table.shape).clone()
        start = 0
        for column in columns:
            waves = column.waves(local)
            until = start + len(waves.offsets)
            for candidate in column.candidates:
                factor = noise(candidate.gate, candidate.wires)
                if factor is not None:
                    followed = factor.to(waves.table) @ waves.table.unflatten(1, (dim, dim))
                    noisy[candidate.row - first, start:until] = followed.flatten(1)
            start = until
        return noisy


class _Assembled(torch.autograd.Function):
    """One node for all slots: autograd's bookkeeping for each operation would take longer than the arithmetic."""

    @staticmethod
    def forward(
        ctx: Any,
        parameters: Tensor,
        weights: Tensor | None,
        single: Tensor | None,
        double: Tensor | None,
        tables: _Tables,
        local: int,
        unit: bool,
    ) -> tuple[Tensor, Tensor]:
        steps = _assemble(parameters, weights, (single, double), tables, unit)
        kept = steps.phases, steps.waves, steps.factors, *steps.scales
        ctx.save_for_backward(parameters, weights, single, double, *kept)
        ctx.how = tables, local, unit
        return _matrices(steps.numbers, local)

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        parameters, weights, single, double, phases, waves, factors, *scales = ctx.saved_tensors
        tables, local, unit = ctx.how
        wanted = ctx.needs_input_grad[:4]
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated
            # Views: the last two depend on the first two, and what comes that way autograd will add by itself.
            angles = parameters.view_as(parameters)
            rest = [None if tensor is None else tensor.view_as(tensor) for tensor in (weights, single, double)]
            found = _matrices(_assemble(angles, rest[0], rest[1:], tables, unit).numbers, local)
            inputs = zip((angles, *rest), wanted, strict=True)
            taken = [tensor for tensor, want in inputs if want and tensor is not None]
            each = iter(torch.autograd.grad(found, taken, gradients, create_graph=True))
            return *(next(each) if want else None for want in wanted), None, None, None
        gradients = tuple(_numbers_of(gradient) for gradient in gradients)
        if unit:
            gradients = tuple(g * scale for g, scale in zip(gradients, scales, strict=True))
        by_wave = torch.zeros_like(waves)
        for part, gradient, table in zip(tables.parts, gradients, tables.values, strict=True):
            by_wave[part] = gradient @ table.mT if table.dim() == 2 else (table @ gradient.unsqueeze(-1)).squeeze(-1)
        of_parameters = of_weights = None
        if wanted[0]:
            by_angle = (by_wave * factors * phases.cos()) @ tables.frequencies.mT
            of_parameters = torch.zeros_like(parameters).index_add_(0, tables.angles, by_angle.flatten())
        if wanted[1]:
            by_weight = (by_wave * waves) @ tables.spread.mT
            of_weights = torch.zeros_like(weights).index_add_(0, tables.entries, by_weight.flatten())
        of_others = (gradient if want else None for gradient, want in zip(gradients, wanted[2:], strict=True))
        return of_parameters, of_weights, *of_others, None, None, None


@dataclass(frozen=True)
class _Steps:
    """What comes on the way to the matrices.

    Args:
        phases: `n x K`.
        waves: their sines.
        factors: the weights of the waves.
        numbers: of the matrices, by width.
        scales: what these were multiplied with, if with anything.
    """

    phases: Tensor
    waves: Tensor
    factors: Tensor
    numbers: tuple[Tensor, Tensor]
    scales: tuple[Tensor, ...]


def _assemble(
    parameters: Tensor, weights: Tensor | None, others: Sequence[Tensor | None], tables: _Tables, unit: bool
) -> _Steps:
    n = tables.sizes[0]
    read = parameters.index_select(0, tables.angles).view(n, len(tables.frequencies))
    phases = torch.addmm(tables.offsets, read, tables.frequencies)
    waves = phases.sin()
    if weights is None:
        factors = tables.present
    else:
        factors = weights.index_select(0, tables.entries).view(n, len(tables.spread)) @ tables.spread
    amplitudes = waves * factors
    found, scales = [], []
    for part, table, other in zip(tables.parts, tables.values, others, strict=True):
        those = amplitudes[part]
        numbers = those @ table if table.dim() == 2 else (those.unsqueeze(1) @ table).squeeze(1)
        if other is not None:
            numbers = numbers + other
        if unit:
            # A complex matrix of D x D is 2 D^2 numbers; those of a unitary one have the square D.
            square = numbers.detach().square().sum(1, keepdim=True) / (numbers.shape[1] / 2) ** 0.5
            scales.append(square.clamp_min(torch.finfo(square.dtype).tiny).rsqrt())
            numbers = numbers * scales[-1]
        found.append(numbers)
    return _Steps(phases, waves, factors, (found[0], found[1]), tuple(scales))


def _columns(candidates: Iterable[_Candidate]) -> list[_Column]:
    """Candidates that are a trigonometric series by gate, those on one wire first; a slot has each once."""
    columns: dict[tuple[int, str, int], list[_Candidate]] = {}
    seen: Counter[tuple[int, str]] = Counter()
    for candidate in candidates:
        if gate_named(candidate.gate).series is None:
            continue
        place = candidate.row, candidate.gate
        columns.setdefault((len(candidate.wires), candidate.gate, seen[place]), []).append(candidate)
        seen[place] += 1
    return [_Column(gate, width, tuple(columns[width, gate, n])) for width, gate, n in sorted(columns)]


def _n_numbers(local: int, width: int) -> int:
    """Real numbers of a matrix."""
    return int(local ** (2 * width)) * (2 if local == 2 else 1)


def _numbers_of(matrices: Tensor) -> Tensor:
    """Matrices as rows of real numbers."""
    return (torch.view_as_real(matrices.resolve_conj()) if matrices.is_complex() else matrices).flatten(1)


def _matrices(numbers: tuple[Tensor, Tensor], local: int) -> tuple[Tensor, Tensor]:
    """Rows of real numbers as matrices on one wire, and on two."""
    single, double = numbers
    if local == 2:
        parts = single.unflatten(1, (2, 2, 2)), double.unflatten(1, (4, 4, 2))
        return torch.view_as_complex(parts[0]), torch.view_as_complex(parts[1])
    return single.unflatten(1, (local, local)), double.unflatten(1, (local**2, local**2))
