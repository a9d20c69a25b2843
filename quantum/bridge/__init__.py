"""The bridge to TorchQuantum: circuits run by it, and circuits handed over to it as modules.

TorchQuantum is imported when one of these functions is called, not before.
"""

from __future__ import annotations

from quantum.bridge.availability import require_torchquantum
from quantum.bridge.modules import to_torchquantum
from quantum.bridge.simulation import apply_circuit, apply_operation, run_circuit

__all__ = ["apply_circuit", "apply_operation", "require_torchquantum", "run_circuit", "to_torchquantum"]
