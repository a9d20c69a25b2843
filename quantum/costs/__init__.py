"""What circuits cost: two-qubit gates, depth, the chance of an error; for search, penalties and tables.

The number of angles is :class:`darts_hpo.costs.Parameters`.
"""

from quantum.costs.base import CircuitCost, circuit_of
from quantum.costs.depth import CircuitDepth, DeviceDepth
from quantum.costs.success import LogInfidelity, SuccessProbability
from quantum.costs.two_qubit import NativeTwoQubitGates, TwoQubitGates

__all__ = [
    "CircuitCost",
    "CircuitDepth",
    "DeviceDepth",
    "LogInfidelity",
    "NativeTwoQubitGates",
    "SuccessProbability",
    "TwoQubitGates",
    "circuit_of",
]
