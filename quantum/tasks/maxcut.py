"""The maximum cut of a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from darts_hpo.errors import ConfigError
from quantum.tasks.constant import Batches, ConstantTask, StateBatch
from quantum.tasks.graphs import Graph


class MaxCut(ConstantTask):
    """Maximizes the expected cut of a graph, one wire per node.

    Metrics: ``approximation_ratio``, the *expected* cut (not the best one sampled) over the maximum cut by
    enumeration, at most 1; and ``cut``, the expected cut.

    Args:
        graph: with a cut of positive weight.
        primary: metric that selections maximize.
        evaluations: the network's other passes that ``primary`` or a sweep's objective may name.
        steps_per_epoch: training steps in an epoch.
        precision: ``float32`` or ``float64``.

    Raises:
        ConfigError: no cut has a positive weight, or another value is invalid.
    """

    def __init__(
        self,
        graph: Graph,
        primary: str = "approximation_ratio",
        evaluations: Sequence[str] = (),
        steps_per_epoch: int = 20,
        precision: str = "float32",
    ) -> None:
        super().__init__(("approximation_ratio", "cut"), primary, evaluations, steps_per_epoch, precision)
        self.graph = graph
        self.maximum_cut = float(graph.cuts().max())
        if self.maximum_cut <= 0:
            raise ConfigError("No cut of the graph has a positive weight, so there is nothing to approximate.")

    def batches(self, seed: int) -> Batches:
        """One run of the circuit from |0...0>."""
        del seed
        return self.from_zero()

    def network_arguments(self) -> Mapping[str, Any]:
        """The number of wires, and the cut as what is measured."""
        return {"n_inputs": 0, "n_wires": self.graph.n_nodes, "measurement": self.graph.hamiltonian()}

    def loss(
        self, network: nn.Module, outputs: Tensor, batch: StateBatch, memo: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Minus the approximation ratio, so that learning rates do not depend on the weights' unit."""
        del network, batch, memo
        return {"loss": -outputs[:, 0].mean() / self.maximum_cut}

    def scores(self, outputs: Tensor, batch: StateBatch) -> dict[str, Tensor]:
        """The expected cut; outputs are `B x 1`."""
        del batch
        return {"cut": outputs[:, 0]}

    def summary(self, means: Mapping[str, float]) -> dict[str, float]:
        """The ratio and the cut."""
        return {"approximation_ratio": means["cut"] / self.maximum_cut, "cut": means["cut"]}

    def deployment(self) -> Mapping[str, Any]:
        """The graph and its maximum cut."""
        edges = [list(edge) for edge in self.graph.edges]
        return {**super().deployment(), "preprocessing": {"edges": edges, "maximum_cut": self.maximum_cut}}
