"""Weighted graphs and their maximum cuts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from darts_hpo.errors import ConfigError
from quantum.tasks.hamiltonians import pauli_string

MOST_NODES = 20
"""Nodes up to which all cuts are enumerated: half a million."""

Edge: TypeAlias = tuple[int, int, float]
"""Two nodes and the weight between them."""


@dataclass(frozen=True)
class Graph:
    """Nodes counted from 0, and weighted edges.

    Args:
        n_nodes: from 2 to :data:`MOST_NODES`.
        edges: each given once.

    Raises:
        ConfigError: an edge is malformed, joins a node to itself, is given twice or leaves the graph.
    """

    n_nodes: int
    edges: tuple[Edge, ...]

    def __post_init__(self) -> None:
        if not 2 <= self.n_nodes <= MOST_NODES:
            raise ConfigError(
                f"A graph of {self.n_nodes} nodes: expected 2 to {MOST_NODES}, all of whose cuts can be tried."
            )
        if not self.edges:
            raise ConfigError(
                "A graph needs edges, for example edges=[[0,1],[1,2,0.5]]: two nodes and, if not 1, a weight."
            )
        seen: set[frozenset[int]] = set()
        for first, second, weight in self.edges:
            if not (0 <= first < self.n_nodes and 0 <= second < self.n_nodes) or first == second:
                raise ConfigError(
                    f"The edge [{first}, {second}]: expected two different nodes out of 0 to {self.n_nodes - 1}."
                )
            if not math.isfinite(weight):
                raise ConfigError(f"The edge [{first}, {second}] has the weight {weight}: expected a finite number.")
            if frozenset((first, second)) in seen:
                raise ConfigError(f"The edge [{first}, {second}] is given twice; add the weights.")
            seen.add(frozenset((first, second)))

    def cuts(self) -> np.ndarray:
        """Weight of the edges cut by every division of the nodes.

        Returns:
            `2**n_nodes` numbers. The bit of node 0 is the most significant one of the index.
        """
        states = np.arange(2**self.n_nodes)
        total = np.zeros(len(states))
        for first, second, weight in self.edges:
            sides = (states >> (self.n_nodes - 1 - first)) ^ (states >> (self.n_nodes - 1 - second))
            total += weight * (sides & 1)
        return total

    def hamiltonian(self) -> dict[str, float]:
        """The cut as an observable, `sum w_ij (1 - Z_i Z_j) / 2`; its largest eigenvalue is the maximum cut."""
        terms = {"I" * self.n_nodes: sum(weight for *_, weight in self.edges) / 2}
        for first, second, weight in self.edges:
            terms[pauli_string(self.n_nodes, (first, second), "Z")] = -weight / 2
        return terms


def from_edges(edges: Sequence[Sequence[float]], n_nodes: int | None = None) -> Graph:
    """A graph of edges as they are written in a configuration.

    Args:
        edges: two nodes each and, if not 1, a weight: ``[[0, 1], [1, 2, 0.5]]``.
        n_nodes: number of nodes; None counts to the last one that has an edge.

    Raises:
        ConfigError: an edge is malformed.
    """
    made: list[Edge] = []
    for edge in edges:
        if len(edge) not in (2, 3) or any(int(node) != node for node in edge[:2]):
            raise ConfigError(f"The edge {list(edge)}: expected two nodes and, if not 1, a weight, as in [0, 1, 0.5].")
        made.append((int(edge[0]), int(edge[1]), float(edge[2]) if len(edge) == 3 else 1.0))
    last = max((node for first, second, _ in made for node in (first, second)), default=-1)
    return Graph(last + 1 if n_nodes is None else n_nodes, tuple(made))


def ring(n_nodes: int) -> Graph:
    """A cycle with unit weights; its maximum cut is `n_nodes`, less one where that is odd."""
    if n_nodes < 3:
        raise ConfigError(f"n_nodes={n_nodes}: a ring has at least 3 nodes.")
    return Graph(n_nodes, tuple((node, (node + 1) % n_nodes, 1.0) for node in range(n_nodes)))


def prism() -> Graph:
    """The triangular prism: 6 nodes of degree 3, two triangles joined node by node; maximum cut 7 of 9 edges."""
    triangles = [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)]
    rungs = [(0, 3), (1, 4), (2, 5)]
    return Graph(6, tuple((first, second, 1.0) for first, second in triangles + rungs))
