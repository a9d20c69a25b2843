"""This package in float64, beside peers that compute in nothing less."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.quantum.cases import Case, Numbers, Step
from benchmarks.quantum.contenders.ours import circuit


def prepare(case: Case, numbers: Numbers) -> Callable[[], Step]:
    """The training step of a ``circuit``."""
    return circuit(case, numbers, torch.float64)
