"""What both fast engines share: programs in segments between data slots, each a few matrix products."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from darts_hpo.errors import ConfigError, unknown_name
from quantum.engines.assembly import SlotAssembly
from quantum.engines.base import Engine
from quantum.engines.data import EncodedInputs, Following, apply_encoding
from quantum.engines.differentiation import apply_all, apply_in_chunks, apply_unitaries
from quantum.engines.fusion import FusionPlan, Placed, fusion_plan
from quantum.gates import QuantumGate
from quantum.program import DataSlot, Encoding, Program, Slot

Memory: TypeAlias = Literal["store", "recompute"]
_MEMORY: tuple[Memory, ...] = ("store", "recompute")


@dataclass(frozen=True)
class _Segment:
    """Slots between two data slots.

    Args:
        data: the data slot before them; None at the start of a program without one.
        plan: how the slots are fused; None where there are none.
    """

    data: DataSlot | None
    plan: FusionPlan | None


@dataclass(frozen=True)
class _Layout:
    """What is known of a program before any number.

    Args:
        assembly: makes the slots' matrices.
        segments: in order of time.
    """

    assembly: SlotAssembly
    segments: tuple[_Segment, ...]


class FusedEngine(Engine):
    """Mixes the small matrices of gates before a state is touched, then applies a few large ones.

    Args:
        window: most wires whose gates are folded into one matrix, at least 2.
        memory: ``store`` keeps the state after every window for the backward pass. ``recompute`` computes them again:
            of a circuit without mixtures and noise two states are kept for every place where data enter, at any depth
            between them; else about twice the square root of the number of windows.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(self, window: int, memory: Memory = "store") -> None:
        if window < 2:
            raise ConfigError(f"window={window}: expected at least 2 wires, for gates on two wires must fit.")
        if memory not in _MEMORY:
            raise ConfigError(unknown_name("use of memory", str(memory), _MEMORY))
        self.window, self.memory = window, memory
        self._encoded = EncodedInputs()

    # -- what an engine defines -----------------------------------------------------------------------------------

    @abstractmethod
    def form(self, gate: QuantumGate, angles: Tensor) -> Tensor:
        """The matrix of a gate from angles `... x n_parameters`."""

    @abstractmethod
    def ground(self, n_wires: int, batch: int, like: Tensor) -> Tensor:
        """|0...0>, `local**n_wires x batch`, of the precision and device of some angles."""

    def encoded(self, encoding: Encoding, inputs: Tensor, n_wires: int, like: Tensor) -> Tensor:
        """The state that an encoding makes of |0...0>, `local**n_wires x B`; engines override it where it is simple."""
        ground = self.ground(n_wires, len(inputs), like)
        return apply_encoding(ground, encoding, inputs, n_wires, self.local, self.form, self.following)

    @property
    def following(self) -> Following | None:
        """What follows a gate: the noise of an engine that has any."""
        return None

    def finish(self, state: Tensor, mixed: bool) -> Tensor:
        """What is done to the final state."""
        del mixed
        return state

    # -- running --------------------------------------------------------------------------------------------------

    def run(
        self,
        program: Program,
        parameters: Tensor,
        mixture: Tensor | None = None,
        data_mixtures: Sequence[Tensor] = (),
        inputs: Tensor | None = None,
    ) -> Tensor:
        """The state after all elements of a program, `local**n_wires x B`; see :meth:`Engine.run`."""
        # Half precision is of no use to products of many matrices close to the identity.
        with torch.autocast(parameters.device.type, enabled=False):
            return self._run(program, parameters, mixture, data_mixtures, inputs)

    def _run(
        self,
        program: Program,
        parameters: Tensor,
        mixture: Tensor | None,
        data_mixtures: Sequence[Tensor],
        inputs: Tensor | None,
    ) -> Tensor:
        self.check(program, parameters, mixture)
        self.check_data(program, data_mixtures, inputs)
        batch = 1 if inputs is None else len(inputs)
        self.require_room(program.n_wires, batch, parameters)
        layout = _layout(program, self.window)
        # A mixture of unitary matrices shortens the state, by about half where candidates disagree: a hundred slots
        # would leave float32's range. The final state is normalised, so constant factors change nothing.
        unit = layout.assembly.mixed and not self.mixes_channels
        single, double = layout.assembly(parameters, mixture, self.local, self.form, self.following, unit=unit)
        state: Tensor | None = None
        seen = 0
        for segment in layout.segments:
            if segment.data is not None:
                weights = data_mixtures[seen] if data_mixtures else None
                state = self._enter(segment.data, weights, state, inputs, program.n_wires, parameters)
                seen += 1
            elif state is None:
                state = self.ground(program.n_wires, batch, parameters)
            if segment.plan is not None:
                state = self._advance(
                    state, segment.plan, single, double, unitary=mixture is None and not self.mixes_channels
                )
        if state is None:
            state = self.ground(program.n_wires, batch, parameters)
        elif all(segment.plan is None for segment in layout.segments):
            state = state.clone()  # it may be the one that is kept for this batch, and the caller may write to it
        return self.finish(state, mixture is not None or len(data_mixtures) > 0)

    def _advance(self, state: Tensor, plan: FusionPlan, single: Tensor, double: Tensor, *, unitary: bool) -> Tensor:
        dim = self.local
        matrices = plan.matrices(single, double)
        if self.memory == "store" or not torch.is_grad_enabled():
            return apply_all(state, *matrices, windows=plan.windows, n_wires=plan.n_wires, local=dim)
        if unitary:
            return apply_unitaries(state, *matrices, windows=plan.windows, n_wires=plan.n_wires)
        return apply_in_chunks(state, *matrices, windows=plan.windows, n_wires=plan.n_wires, local=dim)

    def _enter(
        self,
        data: DataSlot,
        weights: Tensor | None,
        state: Tensor | None,
        inputs: Tensor | None,
        n_wires: int,
        like: Tensor,
    ) -> Tensor:
        """The state after a data slot; the first one starts from |0...0>."""
        total: Tensor | None = None
        for position, option in enumerate(data.options):
            entered = self._entered(option, state, inputs, n_wires, like)
            if weights is not None and (len(data.options) > 1 or weights.requires_grad):
                entered = weights[position] * entered
            total = entered if total is None else total + entered
        assert total is not None
        return total

    def _entered(
        self, option: Encoding | None, state: Tensor | None, inputs: Tensor | None, n_wires: int, like: Tensor
    ) -> Tensor:
        if state is None:
            if option is None:
                return self.ground(n_wires, 1 if inputs is None else len(inputs), like)
            assert inputs is not None
            make = partial(self.encoded, option, inputs, n_wires, like)
            return self._encoded.get(inputs, (option, n_wires, like.dtype, like.device), make)
        if option is None:
            return state
        assert inputs is not None  # check_data has seen to it
        inputs = inputs.to(like)
        return apply_encoding(state, option, inputs, n_wires, self.local, self.form, self.following)


# By identity: to hash and compare hundreds of slots at every step would take as long as a small circuit does.
_layouts: Any = WeakIdKeyDictionary()


def _layout(program: Program, window: int) -> _Layout:
    """The layout of a program; it is kept while the program lives."""
    kept: dict[int, _Layout] = _layouts.setdefault(program, {})
    if window not in kept:
        kept[window] = _Layout(SlotAssembly(program.slots), _segments(program, window))
    return kept[window]


def _segments(program: Program, window: int) -> tuple[_Segment, ...]:
    segments: list[_Segment] = []
    data: DataSlot | None = None
    placed: list[Placed] = []
    counts = {1: 0, 2: 0}

    def close() -> None:
        if data is not None or placed:
            plan = fusion_plan(program.n_wires, tuple(placed), window) if placed else None
            segments.append(_Segment(data, plan))

    for element in program.elements:
        if isinstance(element, Slot):
            width = len(element.wires)
            placed.append(Placed(counts[width], element.wires))
            counts[width] += 1
        else:
            close()
            data, placed = element, []
    close()
    return tuple(segments)
