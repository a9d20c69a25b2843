"""A running average of a network's weights, which usually predicts better than the weights themselves."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a network's floating-point state, BatchNorm statistics included.

    The decay grows with the number of updates, `decay * (1 - exp(-updates / tau))`, so that the average
    forgets the first, useless weights (YOLO's ramp). The average reaches back `1 / (1 - decay)` updates; a
    training much shorter than a few ``tau`` is hardly averaged, see :func:`ramp_for`.

    Args:
        network: the network to follow. Its copy, :attr:`network`, is in evaluation mode and needs no
            gradients.
        decay: limit of the decay, in [0, 1).
        tau: updates over which the decay ramps up, above 0.
    """

    def __init__(self, network: nn.Module, decay: float = 0.9999, tau: float = 2000.0) -> None:
        self.decay, self.tau = decay, tau
        self.updates = 0
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        """The averaged network."""

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the network's present state; to be called after every optimizer step."""
        self.updates += 1
        weight = 1 - self.decay * (1 - math.exp(-self.updates / self.tau))
        current = network.state_dict()
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for name, average in self.network.state_dict().items():
            if average.is_floating_point():
                averages.append(average)
                values.append(current[name])
            else:
                average.copy_(current[name])  # counters
        torch._foreach_lerp_(averages, values, weight)

    def state_dict(self) -> dict[str, Any]:
        """Plain containers and tensors."""
        return {"updates": self.updates, "network": dict(self.network.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state_dict`."""
        self.updates = int(state["updates"])
        self.network.load_state_dict(state["network"])


def ramp_for(total_steps: int, longest: float = 2000.0, share: float = 0.2) -> float:
    """The ``tau`` of :class:`WeightAverage` for a training of a given length.

    Args:
        total_steps: optimizer steps of the training.
        longest: the published value, kept for trainings of 10,000 steps and more.
        share: of the training that one ``tau`` takes otherwise.
    """
    return max(min(longest, share * total_steps), 1.0)
