"""What all costs of circuits share: they read the circuit of what they measure."""

from __future__ import annotations

from torch import nn

from darts_hpo.costs import Cost
from darts_hpo.errors import ConfigError
from quantum.circuit import Circuit


class CircuitCost(Cost):
    """A cost of the ``circuit`` of a module, a :class:`~quantum.circuit.Circuit`."""

    def applies_to(self, network: nn.Module) -> bool:
        """Whether the network has a circuit."""
        return isinstance(getattr(network, "circuit", None), Circuit)


def circuit_of(module: nn.Module) -> Circuit:
    """The circuit of a module.

    Raises:
        ConfigError: it has none.
    """
    circuit = getattr(module, "circuit", None)
    if not isinstance(circuit, Circuit):
        raise ConfigError(
            f"{type(module).__name__} has no circuit, so costs of circuits do not apply to it; "
            "use one of darts_hpo.costs, such as Parameters."
        )
    return circuit
