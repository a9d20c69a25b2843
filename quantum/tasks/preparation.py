"""Preparation of a state from |0...0>."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from darts_hpo.errors import ConfigError
from quantum.measurements import fidelity
from quantum.tasks.constant import Batches, ConstantTask, StateBatch


class FidelityTask(ConstantTask):
    """A task whose outputs are states that shall equal given pure ones.

    Metrics: ``fidelity``, the mean of `<target| rho |target>` over the split, at most 1, and ``infidelity``,
    one minus it.

    Args:
        n_wires: qubits of the target states.
        primary: metric that selections maximize.
        evaluations: the network's other passes that ``primary`` or a sweep's objective may name.
        steps_per_epoch: training steps in an epoch.
        precision: ``float32`` or ``float64``.
    """

    def __init__(
        self,
        n_wires: int,
        primary: str = "fidelity",
        evaluations: Sequence[str] = (),
        steps_per_epoch: int = 20,
        precision: str = "float32",
    ) -> None:
        super().__init__(("fidelity", "infidelity"), primary, evaluations, steps_per_epoch, precision)
        self.n_wires = n_wires

    def loss(
        self, network: nn.Module, outputs: Tensor, batch: StateBatch, memo: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """One minus the mean fidelity; outputs are amplitudes `B x 2**n` or Pauli vectors `B x 4**n`."""
        del network, memo
        return {"loss": 1 - self._fidelity(outputs, batch).mean()}

    def scores(self, outputs: Tensor, batch: StateBatch) -> dict[str, Tensor]:
        """The fidelity of every state."""
        return {"fidelity": self._fidelity(outputs, batch)}

    def _fidelity(self, outputs: Tensor, batch: StateBatch) -> Tensor:
        return fidelity(outputs.transpose(0, 1), batch.targets, self.n_wires)

    def summary(self, means: Mapping[str, float]) -> dict[str, float]:
        """The fidelity, and what it lacks."""
        return {"fidelity": means["fidelity"], "infidelity": 1 - means["fidelity"]}


class StatePreparation(FidelityTask):
    """Prepares a given state from |0...0>.

    Args:
        target: `2**n` amplitudes, normalized; see :mod:`quantum.tasks.states`.
        primary: metric that selections maximize.
        evaluations: the network's other passes that ``primary`` or a sweep's objective may name.
        steps_per_epoch: training steps in an epoch.
        precision: ``float32`` or ``float64``.

    Raises:
        ConfigError: the target is no normalized state, or another value is invalid.
    """

    def __init__(
        self,
        target: Tensor,
        primary: str = "fidelity",
        evaluations: Sequence[str] = (),
        steps_per_epoch: int = 20,
        precision: str = "float32",
    ) -> None:
        n_wires = (target.numel() - 1).bit_length()
        if target.ndim != 1 or target.numel() < 2 or target.numel() != 2**n_wires:
            raise ConfigError(f"task.target has shape {list(target.shape)}: expected 2**n amplitudes.")
        if abs(float(torch.linalg.vector_norm(target)) - 1) > 1e-5:
            raise ConfigError("task.target is not normalized; quantum.tasks.states.amplitudes normalizes.")
        super().__init__(n_wires, primary, evaluations, steps_per_epoch, precision)
        self.target = target.to(torch.complex128)

    def batches(self, seed: int) -> Batches:
        """One run of the circuit from |0...0>, with the target."""
        del seed
        return self.from_zero(self.target[None])

    def network_arguments(self) -> Mapping[str, Any]:
        """The number of wires, and that the state itself is the output."""
        return {"n_inputs": 0, "n_wires": self.n_wires, "measurement": "state"}

    def deployment(self) -> Mapping[str, Any]:
        """The target's amplitudes."""
        target = {"real": self.target.real.tolist(), "imaginary": self.target.imag.tolist()}
        return {**super().deployment(), "preprocessing": {"target": target}}
