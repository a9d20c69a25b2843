"""TorchQuantum with the matrices of candidates mixed before they are applied, one product with the state per slot.

The matrices are made for all slots together, by TorchQuantum's own functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.quantum.cases import N_ANGLES, Case, Numbers, Step
from benchmarks.quantum.contenders.torchquantum import encoded, normalise
from quantum.bridge import require_torchquantum


def prepare(case: Case, numbers: Numbers) -> Callable[[], Step]:
    """The training step of a ``supercircuit``."""
    tq: Any = require_torchquantum()
    measure = tq.MeasureAll(tq.PauliZ)
    angles = numbers.angles.clone().requires_grad_()
    mixture = numbers.mixture.clone().requires_grad_()
    slots_of = {width: [i for i, (wires, _) in enumerate(case.slots) if len(wires) == width] for width in (1, 2)}
    tables = {width: list(_candidates(case, width)) for width in slots_of}

    def mixed(width: int) -> Iterator[Tensor]:
        weights = mixture[slots_of[width]]
        total: Tensor | int = 0
        for position, (name, table) in enumerate(tables[width]):
            if name == "I":
                matrices = torch.eye(2**width, dtype=torch.complex64)
            elif name in ("CNOT", "CZ"):
                matrices = getattr(tq, name)().matrix
            elif name == "CU3":  # TorchQuantum's own function makes one matrix at a time
                controlled = tq.functional.u3_matrix(angles[table])
                corner = torch.eye(4, dtype=torch.complex64) * torch.tensor([1, 1, 0, 0])
                matrices = corner + torch.nn.functional.pad(controlled, (2, 0, 2, 0))
            else:
                function = getattr(tq.functional, f"{name.lower()}_matrix")
                matrices = function(angles[table]).reshape(-1, 2**width, 2**width)
            total = total + weights[:, position, None, None] * matrices
        assert isinstance(total, Tensor)
        return iter(total.unbind())

    def step() -> Step:
        device = encoded(case, numbers)
        matrices = {width: mixed(width) for width in slots_of}
        for wires, _ in case.slots:
            tq.functional.qubitunitaryfast(device, list(wires), params=next(matrices[len(wires)]).unsqueeze(0))
        normalise(device)
        outputs = measure(device)
        (outputs * numbers.cotangent).sum().backward()
        return Step.of(outputs, angles, mixture)

    return step


def _candidates(case: Case, width: int) -> Iterator[tuple[str, Tensor]]:
    """The candidates of slots on so many wires, and where their angles are, `n_slots x n_angles`."""
    tables: dict[str, list[list[int]]] = {}
    offset = 0
    for wires, candidates in case.slots:
        for name in candidates:
            if len(wires) == width:
                tables.setdefault(name, []).append(list(range(offset, offset + N_ANGLES[name])))
            offset += N_ANGLES[name]
    for name, rows in tables.items():
        yield name, torch.tensor(rows, dtype=torch.int64)
