"""What every relaxation shares: logits, fixed choices, probabilities and their diagnostics."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from darts_hpo.errors import SpaceError
from darts_hpo.space import Space
from darts_hpo.supernet import Gate, GateKind

Phase: TypeAlias = Literal["weights", "arch", "eval"]


class Relaxation(nn.Module, ABC):
    """Learnable logits that become gates. Owns every architecture parameter.

    Args:
        space: the supernet's choices, all categorical.
        fixed: choices that are not searched, with their option: they get a one-hot gate and no logits.
        init_std: standard deviation of the initial logits (DARTS: 1e-3).
        generator: source of the initial logits.

    Raises:
        SpaceError: a fixed choice or option is unknown, or a parameter is not categorical.
    """

    kinds: Mapping[Phase, GateKind]
    """The kind of gate :meth:`sample` gives in each phase; a supernet refuses what it does not support."""

    def __init__(
        self,
        space: Space,
        *,
        fixed: Mapping[str, str] | None = None,
        init_std: float = 1e-3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.space = space
        self.fixed: dict[str, str] = {}
        self.option_names: dict[str, list[str]] = {
            name: [str(option) for option in space.categorical(name).options] for name in space
        }
        for name, option in (fixed or {}).items():
            try:
                self.fixed[name] = str(space.categorical(name).validate(option))
            except SpaceError as error:
                raise SpaceError(f"search.fixed.{name}={option}: {error}") from None
        self.searched: tuple[str, ...] = tuple(name for name in space if name not in self.fixed)
        self._logits = nn.ParameterList(
            nn.Parameter(init_std * torch.randn(len(self.option_names[name]), generator=generator))
            for name in self.searched
        )

    # -- the interface ---------------------------------------------------------------------------------------

    @abstractmethod
    def gate(self, name: str, logits: Tensor, phase: Phase, generator: torch.Generator) -> Gate:
        """The gate of one searched choice.

        Args:
            name: the choice.
            logits: `n_options` of it.
            phase: ``weights`` (a weight step), ``arch`` (a logit step) or ``eval``, where nothing is drawn.
                Only in ``arch`` may the gate carry a gradient.
            generator: the only source of randomness.
        """

    def distribution(self, logits: Tensor) -> Tensor:
        """Probabilities of the options; softmax unless the method defines another."""
        return logits.softmax(dim=-1)

    def set_progress(self, progress: float) -> None:
        """Move schedules to a point of the search, 0 to 1: a pure function, so resuming needs no state."""
        del progress

    def after_arch_step(self) -> None:
        """Hook after the logits were updated (for example the rescaling of two-path sampling)."""

    def surrogate_loss(self, gates: Mapping[str, Gate], loss: Tensor) -> Tensor | None:
        """A further loss for methods whose gates carry no gradient (score functions); None for the others."""
        del gates, loss
        return None

    # -- what follows from it --------------------------------------------------------------------------------

    def sample(self, phase: Phase, generator: torch.Generator) -> dict[str, Gate]:
        """One gate for every choice of the space, drawn in the space's order."""
        logits = self.logits
        gates = {}
        for name in self.space:
            if name in self.fixed:
                gates[name] = self._fixed_gate(name)
            else:
                gates[name] = self.gate(name, logits[name], phase, generator)
        return gates

    @property
    def logits(self) -> dict[str, Tensor]:
        """The logits of every searched choice."""
        return dict(zip(self.searched, self._logits, strict=True))

    def distributions(self) -> dict[str, Tensor]:
        """Probabilities of the options of every choice, with gradient to the logits; one-hot where fixed."""
        logits = self.logits
        return {
            name: self._fixed_gate(name).weights if name in self.fixed else self.distribution(logits[name])
            for name in self.space
        }

    def probabilities(self) -> dict[str, Tensor]:
        """:meth:`distributions` without gradient."""
        return {name: distribution.detach() for name, distribution in self.distributions().items()}

    def argmax(self) -> dict[str, str]:
        """The most probable option of every choice; the first of equals."""
        return {
            name: self.option_names[name][int(probability.argmax())]
            for name, probability in self.probabilities().items()
        }

    def entropy(self) -> float:
        """Mean entropy of the searched choices in units of the uniform's: 1 undecided, 0 decided."""
        values = []
        for name in self.searched:
            p = self.distribution(self.logits[name]).detach().double()
            if len(p) > 1:
                values.append(float(-(p * p.clamp_min(1e-300).log()).sum()) / math.log(len(p)))
        return sum(values) / len(values) if values else 0.0

    def _fixed_gate(self, name: str) -> Gate:
        options = self.option_names[name]
        like = self._logits[0] if len(self._logits) else None
        return Gate.one_hot(len(options), options.index(self.fixed[name]), like)
