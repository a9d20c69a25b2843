"""Recovery of a unitary from what it does to states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError, unknown_name
from quantum.tasks.constant import Batches, StateBatch
from quantum.tasks.designs import MOST_WIRES, two_design
from quantum.tasks.preparation import FidelityTask
from quantum.tasks.splits import PARTS
from quantum.tasks.states import haar_states

_MOST_BASIS_WIRES = 10
_INPUTS = ("random", "basis")


class UnitaryRecovery(FidelityTask):
    """Finds a circuit that does to states what a given unitary does.

    With ``inputs: random`` the train, arch and val splits are different random states, and the test split is a state
    2-design: its ``fidelity`` is the *exact* average gate fidelity with the unitary, which does not see a global
    phase. With ``inputs: basis`` all splits are the `2**n` basis states, `|x>` to `U|x>`; then a circuit that gives
    every image a phase of its own counts as equal, which is what the preparation of states asks for.

    Args:
        unitary: `2**n x 2**n`; see :mod:`quantum.tasks.unitaries`.
        inputs: ``random`` or ``basis``.
        states: random states in each of train, arch and val.
        primary: metric that selections maximize.
        evaluations: the network's other passes that ``primary`` or a sweep's objective may name.
        steps_per_epoch: training steps in an epoch, each on all states of a split.
        precision: ``float32`` or ``float64``.

    Raises:
        ConfigError: the matrix is not unitary or for too many wires, or another value is invalid.
    """

    def __init__(
        self,
        unitary: Tensor,
        inputs: str = "random",
        states: int = 32,
        primary: str = "fidelity",
        evaluations: Sequence[str] = (),
        steps_per_epoch: int = 20,
        precision: str = "float32",
    ) -> None:
        n_wires = _wires_of(unitary)
        if inputs not in _INPUTS:
            raise ConfigError(unknown_name("task.inputs", inputs, _INPUTS))
        most = MOST_WIRES if inputs == "random" else _MOST_BASIS_WIRES
        if n_wires > most:
            raise ConfigError(f"task.unitary acts on {n_wires} wires; with inputs={inputs} there may be up to {most}.")
        if states < 1:
            raise ConfigError(f"task.states={states}: expected at least 1.")
        super().__init__(n_wires, primary, evaluations, steps_per_epoch, precision)
        self.unitary = unitary.to(torch.complex128)
        self._inputs, self._states = inputs, states

    def batches(self, seed: int) -> Batches:
        """States and their images."""
        if self._inputs == "basis":
            return dict.fromkeys(PARTS, self._batch(torch.eye(2**self.n_wires, dtype=torch.complex128)))
        drawn = {
            part: self._batch(haar_states(self._states, self.n_wires, [seed, place]))
            for place, part in enumerate(PARTS[:-1])
        }
        return {**drawn, "test": self._batch(two_design(self.n_wires))}

    def _batch(self, states: Tensor) -> StateBatch:
        return StateBatch(states.to(self.complex_dtype), (states @ self.unitary.T).to(self.complex_dtype))

    def network_arguments(self) -> Mapping[str, Any]:
        """Numbers of amplitudes and wires, and that the state itself is the output."""
        return {"n_inputs": 2**self.n_wires, "n_wires": self.n_wires, "measurement": "state"}

    def deployment(self) -> Mapping[str, Any]:
        """The unitary, row by row."""
        unitary = {"real": self.unitary.real.tolist(), "imaginary": self.unitary.imag.tolist()}
        return {**super().deployment(), "preprocessing": {"unitary": unitary, "input": "2**n amplitudes"}}


def _wires_of(unitary: Tensor) -> int:
    size = unitary.shape[0] if unitary.ndim else 0
    n_wires = (size - 1).bit_length()
    if unitary.ndim != 2 or unitary.shape[1] != size or size < 2 or size != 2**n_wires:
        raise ConfigError(f"task.unitary has shape {list(unitary.shape)}: expected 2**n x 2**n.")
    matrix = unitary.to(torch.complex128)
    if float((matrix @ matrix.mH - torch.eye(size)).abs().max()) > 1e-5:
        raise ConfigError("task.unitary is no unitary matrix: its conjugate transpose is not its inverse.")
    return n_wires
