"""What an engine is asked: the state at the end of a program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from darts_hpo.errors import SpaceError
from quantum.program import Program


class Engine(ABC):
    """Simulates programs. States have the batch last.

    Subclasses set the class attributes and implement :meth:`run`.
    """

    name: str
    """How configurations and messages call it."""
    local: int
    """Numbers per wire: 2 where a state is amplitudes, 4 where it is a Pauli vector."""
    mixes_channels: bool
    """Whether the mixture of a slot is a mixture of channels, the exact average over circuits where slots are drawn
    independently; else it is a linear combination of unitaries, whose result is normalised."""

    @abstractmethod
    def run(
        self,
        program: Program,
        parameters: Tensor,
        mixture: Tensor | None = None,
        data_mixtures: Sequence[Tensor] = (),
        inputs: Tensor | None = None,
    ) -> Tensor:
        """The state after all elements of a program.

        Args:
            program: what is run.
            parameters: all angles in radians, `program.n_parameters`; their dtype decides the precision.
            mixture: a weight for every candidate of every slot, slot after slot; None where every slot has one.
            data_mixtures: for every data slot the weights of its candidates; empty where each has one.
            inputs: samples `B x F`; None runs a program without data once, `B = 1`.

        Returns:
            `local**n_wires x B`.

        Raises:
            SpaceError: the program has too many wires for the engine, or a number of weights does not fit.
        """

    @abstractmethod
    def require_room(self, n_wires: int, batch: int, like: Tensor) -> None:
        """Refuse a state that is too large.

        Args:
            n_wires: of the program.
            batch: samples.
            like: parameters, whose precision and device the state has.

        Raises:
            SpaceError: states the bytes, or the alternative.
        """

    def check(self, program: Program, parameters: Tensor, mixture: Tensor | None) -> None:
        """Refuse parameters or weights that were made for another program.

        Raises:
            SpaceError: they were.
        """
        if len(parameters) != program.n_parameters:
            raise SpaceError(f"The program has {program.n_parameters} angles; it was given {len(parameters)}.")
        candidates = sum(len(slot.options) for slot in program.slots)
        if mixture is None:
            if candidates != len(program.slots):
                raise SpaceError("The program has slots with several candidates; it needs a weight for each.")
        elif len(mixture) != candidates:
            raise SpaceError(f"The program has {candidates} candidate gates but {len(mixture)} weights.")

    def check_data(self, program: Program, data_mixtures: Sequence[Tensor], inputs: Tensor | None) -> None:
        """Refuse samples that are missing or of the wrong kind, and weights of encodings made for another program.

        Raises:
            SpaceError: they were, or are.
        """
        sizes = [len(slot.options) for slot in program.data_slots]
        if inputs is None and any(option is not None for slot in program.data_slots for option in slot.options):
            raise SpaceError("The program encodes data; it needs inputs.")
        if inputs is not None and inputs.is_complex():
            for option in (option for slot in program.data_slots for option in slot.options):
                if option is not None and not option.amplitude:
                    raise SpaceError(
                        f"The samples are amplitudes, complex numbers, and the encoder {option.name!r} takes real "
                        "angles; use supernet.encoder=amplitude."
                    )
        if data_mixtures:
            given = [len(weights) for weights in data_mixtures]
            if given != sizes:
                raise SpaceError(f"The program's data slots have {sizes} candidates but {given} weights.")
        elif any(size > 1 for size in sizes):
            raise SpaceError("The program has data slots with several candidates; it needs a weight for each.")
