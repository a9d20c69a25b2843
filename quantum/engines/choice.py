"""Engines for pure states, by the name that configurations use."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from darts_hpo.errors import ConfigError, unknown_name
from quantum.engines.base import Engine
from quantum.engines.fused import Memory
from quantum.engines.statevector import StatevectorEngine
from quantum.engines.torchquantum import TorchQuantumEngine


def _fused(memory: Memory) -> Engine:
    return StatevectorEngine(memory=memory)


def _torchquantum(memory: Memory) -> Engine:
    if memory != "store":
        raise ConfigError("supernet.engine=torchquantum keeps every state; use supernet.memory=store with it.")
    return TorchQuantumEngine()


PURE_STATE_ENGINES: Mapping[str, Callable[[Memory], Engine]] = {"fused": _fused, "torchquantum": _torchquantum}
"""Makes each engine, given its use of memory."""


def pure_state_engine(name: str, memory: Memory = "store") -> Engine:
    """A new engine.

    Args:
        name: ``fused``, the fast one, or ``torchquantum``, the reference.
        memory: see :class:`~quantum.engines.fused.FusedEngine`.

    Raises:
        ConfigError: the name is unknown, or the engine cannot use memory so.
    """
    if name not in PURE_STATE_ENGINES:
        raise ConfigError(unknown_name("supernet.engine", str(name), PURE_STATE_ENGINES))
    return PURE_STATE_ENGINES[name](memory)
