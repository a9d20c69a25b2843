"""The ground-state energy of a Hamiltonian (variational quantum eigensolver)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from quantum.tasks.constant import Batches, ConstantTask, StateBatch
from quantum.tasks.exact import MOST_WIRES, ground_energy
from quantum.tasks.hamiltonians import hamiltonian_of

_MILLI = 1000.0


class GroundState(ConstantTask):
    """Minimizes the expectation of a Hamiltonian.

    Metrics, in the Hamiltonian's unit: ``negative_energy`` (larger is better), ``energy``, and up to 12 wires
    ``error``, the energy above the exact ground state; with ``hartree`` also ``error_mha`` in millihartree, of which
    chemical accuracy allows 1.6.

    Args:
        hamiltonian: Pauli strings and coefficients, ``{ZZ: 1.0, XI: 0.5}``, or the path of a JSON file of them.
        n_wires: number of qubits; needed for strings such as ``Z0 X2`` only.
        hartree: whether the unit is the hartree.
        primary: metric that selections maximize.
        evaluations: the network's other passes that ``primary`` or a sweep's objective may name.
        steps_per_epoch: training steps in an epoch.
        precision: ``float32`` or ``float64``.

    Raises:
        ConfigError: the Hamiltonian or another value is invalid.
        DataError: the file cannot be read.
    """

    def __init__(
        self,
        hamiltonian: Mapping[str, float] | str,
        n_wires: int | None = None,
        hartree: bool = False,
        primary: str = "negative_energy",
        evaluations: Sequence[str] = (),
        steps_per_epoch: int = 20,
        precision: str = "float32",
    ) -> None:
        self.hamiltonian = hamiltonian_of(hamiltonian, n_wires)
        exact = self.hamiltonian.n_wires <= MOST_WIRES
        errors = (("error", "error_mha") if hartree else ("error",)) if exact else ()
        super().__init__(("negative_energy", "energy", *errors), primary, evaluations, steps_per_epoch, precision)
        self.exact_energy: float | None = ground_energy(self.hamiltonian) if exact else None
        self._hartree = hartree

    def batches(self, seed: int) -> Batches:
        """One run of the circuit from |0...0>."""
        del seed
        return self.from_zero()

    def network_arguments(self) -> Mapping[str, Any]:
        """The number of wires, and the Hamiltonian as what is measured."""
        return {"n_inputs": 0, "n_wires": self.hamiltonian.n_wires, "measurement": self.hamiltonian.data}

    def loss(
        self, network: nn.Module, outputs: Tensor, batch: StateBatch, memo: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """The energy; outputs are `B x 1`."""
        del network, batch, memo
        return {"loss": outputs[:, 0].mean()}

    def scores(self, outputs: Tensor, batch: StateBatch) -> dict[str, Tensor]:
        """The energy."""
        del batch
        return {"energy": outputs[:, 0]}

    def summary(self, means: Mapping[str, float]) -> dict[str, float]:
        """Minus the energy, the energy, and how far it is above the exact one."""
        energy = means["energy"]
        metrics = {"negative_energy": -energy}
        if self.exact_energy is not None:  # before the energy: tables show the first ones
            error = energy - self.exact_energy
            metrics |= {"error_mha": _MILLI * error, "error": error} if self._hartree else {"error": error}
        return metrics | {"energy": energy}

    def deployment(self) -> Mapping[str, Any]:
        """The Hamiltonian and its exact ground-state energy, if known."""
        return {
            **super().deployment(),
            "preprocessing": {"hamiltonian": self.hamiltonian.data, "exact_energy": self.exact_energy},
        }
