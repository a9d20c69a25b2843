"""What is computed: one training step of two kinds of circuit, with the same numbers for every contender."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

N_LAYERS = 4
ONE_QUBIT = ("I", "RX", "RY", "RZ", "U3")
TWO_QUBIT = ("I", "CNOT", "CZ", "CRX", "CU3")
N_ANGLES = {"I": 0, "RX": 1, "RY": 1, "RZ": 1, "U3": 3, "CNOT": 0, "CZ": 0, "CRX": 1, "CU3": 3, "Rot": 3}


@dataclass(frozen=True)
class Case:
    """One cell of the table.

    ``supercircuit``: RY of feature `i` on wire `i`; then in each of four layers one slot per wire, a mixture of
    :data:`ONE_QUBIT`, and one per pair of neighbouring wires, a mixture of :data:`TWO_QUBIT`; every candidate has
    angles of its own. The state is normalised at the end.

    ``circuit``: the same encoding; then in each of four layers Rot on every wire and CNOT along the chain.

    Both measure Z on every wire.

    Args:
        kind: ``supercircuit`` or ``circuit``.
        n_wires: number of qubits.
        batch: number of samples.
    """

    kind: str
    n_wires: int
    batch: int

    def __str__(self) -> str:
        return f"{self.kind}, {self.n_wires} qubits, batch {self.batch}"

    @property
    def slots(self) -> tuple[tuple[tuple[int, ...], tuple[str, ...]], ...]:
        """Wires and candidates of every slot in order of time; one candidate each in a ``circuit``."""
        searched = self.kind == "supercircuit"
        one, two = (ONE_QUBIT, TWO_QUBIT) if searched else (("Rot",), ("CNOT",))
        layer = [((wire,), one) for wire in range(self.n_wires)]
        pairs = [((wire, wire + 1), two) for wire in range(self.n_wires - 1)]
        return (*layer, *pairs) * N_LAYERS

    @property
    def state_bytes(self) -> int:
        """Of one batch of states in complex64."""
        return 2**self.n_wires * self.batch * 8


@dataclass(frozen=True)
class Numbers:
    """The inputs of a case, float32.

    Args:
        inputs: features in radians, `batch x n_wires`.
        angles: of all candidates, slot after slot.
        mixture: weights of the candidates, `n_slots x 5`, positive with sum 1; of no use to a ``circuit``.
        cotangent: the loss is the sum of the outputs times this, `batch x n_wires`.
    """

    inputs: Tensor
    angles: Tensor
    mixture: Tensor
    cotangent: Tensor

    @classmethod
    def of(cls, case: Case) -> Numbers:
        """Drawn from a fixed seed: equal in every process."""
        generator = torch.Generator().manual_seed(0)
        n_angles = sum(N_ANGLES[name] for _, candidates in case.slots for name in candidates)
        return cls(
            inputs=3.0 * torch.rand(case.batch, case.n_wires, generator=generator),
            angles=6.0 * torch.rand(n_angles, generator=generator),
            # Nearly decided: a hundred even mixtures shorten the state beyond float32, which most cannot bear.
            mixture=(8.0 * torch.rand(len(case.slots), len(ONE_QUBIT), generator=generator)).softmax(-1),
            cotangent=torch.randn(case.batch, case.n_wires, generator=generator) / case.batch,
        )


@dataclass(frozen=True)
class Step:
    """What a training step computes.

    Args:
        outputs: expectations of Z, `batch x n_wires`.
        gradients: by the angles and, of a ``supercircuit``, by the mixture; flattened, in that order.
    """

    outputs: Tensor
    gradients: Tensor

    @classmethod
    def of(cls, outputs: Tensor, *leaves: Tensor) -> Step:
        """From leaf tensors whose gradients have been computed; the gradients are taken away."""
        gradients = []
        for leaf in leaves:
            assert leaf.grad is not None
            gradients.append(leaf.grad.detach().flatten().double())
            leaf.grad = None
        return cls(outputs.detach().double(), torch.cat(gradients))
