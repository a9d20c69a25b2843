"""PennyLane's ``lightning.qubit`` in complex64 with adjoint differentiation. It takes the samples one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pennylane as qml

from benchmarks.quantum.cases import Case, Numbers, Step
from benchmarks.quantum.contenders.pennylane import training_step


def prepare(case: Case, numbers: Numbers) -> Callable[[], Step]:
    """The training step of a ``circuit``."""
    device = qml.device("lightning.qubit", wires=case.n_wires, c_dtype=np.complex64)
    return training_step(device, "adjoint", case, numbers)
