"""The interface of a cost, and the form of a network in which costs are meant."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from torch import nn


class Cost(ABC):
    """A number that a plain module costs when it runs on one input.

    Subclasses set :attr:`name` and :attr:`unit`, and :attr:`label` where people call it something else. Measuring
    leaves the module as it was: its mode, its buffers and every random generator.
    """

    name: str
    """Key in tables and files, for example ``"latency"``."""
    unit: str
    """Unit of the number, for example ``"ms"``."""
    additive: bool = True
    """Whether the parts of a network cost exactly what the whole does; false for what is timed."""
    decomposes: bool = True
    """Whether the cost of a network is a sum over its parts. False, as for the depth of a circuit: it is measured on
    whole networks only, has no expectation under gates and cannot be penalized."""

    @cached_property
    def label(self) -> str:
        """What tables call it; by default the name and, where that says something else, the unit in brackets.

        >>> from darts_hpo.costs import Latency
        >>> Latency().label
        'Latency (ms)'
        """
        words = self.name.replace("_", " ")
        shown = words[:1].upper() + words[1:]
        return shown if self.unit in ("", self.name, words) else f"{shown} ({self.unit})"

    @abstractmethod
    def measure(self, module: nn.Module, input_shape: tuple[int, ...]) -> float:
        """Cost of a module in evaluation mode.

        Args:
            module: plain module that takes one tensor.
            input_shape: shape of that tensor without the batch, which is one; for example ``(3, 160, 160)``.

        Returns:
            The cost in :attr:`unit`, at least zero.
        """

    def applies_to(self, network: nn.Module) -> bool:
        """Whether the cost means anything for a network; one that does not is left out of the run.

        Args:
            network: deployed reference network of the space.
        """
        del network
        return True

    def conditions(self) -> Mapping[str, Any]:
        """What the numbers hold for, as plain data: machine, threads. Empty where they hold everywhere."""
        return {}


def deployed(network: nn.Module) -> nn.Module:
    """The network as it is shipped: what its ``deploy()`` returns, or itself where it has none.

    ``deploy()`` is for networks whose inference form differs from the training form: fused branches, no
    auxiliary heads. It returns a copy and leaves the network as it is.
    """
    deploy = getattr(network, "deploy", None)
    if deploy is None:
        return network
    copy = deploy()
    assert isinstance(copy, nn.Module)
    return copy
