"""Engines: simulators of programs, behind one interface."""

from quantum.engines.base import Engine
from quantum.engines.channel import ChannelEngine
from quantum.engines.choice import PURE_STATE_ENGINES, pure_state_engine
from quantum.engines.statevector import StatevectorEngine
from quantum.engines.torchquantum import TorchQuantumEngine

__all__ = [
    "PURE_STATE_ENGINES",
    "ChannelEngine",
    "Engine",
    "StatevectorEngine",
    "TorchQuantumEngine",
    "pure_state_engine",
]
