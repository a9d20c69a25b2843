"""What every relaxation shares: logits, fixed choices, probabilities and their diagnostics."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from darts_hpo.errors import ConfigError, SpaceError
from darts_hpo.space import Space
from darts_hpo.supernet import Gate, GateKind, Gates

Phase: TypeAlias = Literal["weights", "arch", "eval"]


class Relaxation(nn.Module, ABC):
    """Learnable logits that become gates. Owns every architecture parameter.

    Args:
        space: the supernet's choices, all categorical.
        fixed: choices that are not searched, with their option: they get a one-hot gate and no logits.
        init_std: standard deviation of the initial logits (DARTS: 1e-3).
        entropy_weight: at least 0. The arch loss is increased by ``entropy_weight * ramp * entropy``, with the
            :meth:`entropy` in [0, 1], so that logits decide towards the end of the search; 0 turns it off.
        entropy_start: progress in [0, 1) up to which the ramp is 0; from there it rises linearly to 1 at the end.
        generator: source of the initial logits.

    Raises:
        SpaceError: a fixed choice or option is unknown, or a parameter is not categorical.
        ConfigError: a setting is out of range.
    """

    kinds: Mapping[Phase, GateKind]
    """The kind of gate :meth:`sample` gives in each phase; a supernet refuses what it does not support. Set by the
    class, or by the constructor where it depends on an argument."""
    draws: int = 1
    """Gates drawn for one step of the logits, over which its gradient is averaged."""
    weight_draws: int = 1
    """Gates drawn for one step of the weights, likewise."""
    differentiable: bool = True
    """Whether gates of an arch step carry a gradient to the logits; where not, :meth:`surrogate_loss` does."""

    def __init__(
        self,
        space: Space,
        *,
        fixed: Mapping[str, str] | None = None,
        init_std: float = 1e-3,
        entropy_weight: float = 0.0,
        entropy_start: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= entropy_weight < math.inf:
            raise ConfigError(f"relaxation.entropy_weight={entropy_weight}: expected a number of at least 0.")
        if not 0 <= entropy_start < 1:
            raise ConfigError(f"relaxation.entropy_start={entropy_start}: expected a number from 0 to below 1.")
        self.entropy_weight, self.entropy_start = entropy_weight, entropy_start
        self.progress = 0.0
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
        """Move to a point of the search, 0 at its first step and 1 at its last; schedules are pure functions of it."""
        self.progress = progress

    def after_arch_step(self) -> None:
        """Hook after the logits were updated (for example the rescaling of two-path sampling)."""

    def surrogate_loss(self, draws: Sequence[Gates], losses: Sequence[Tensor]) -> Tensor | None:
        """A scalar whose gradient is that of the expected loss, for methods whose gates carry none.

        Args:
            draws: the gates of each draw of one arch step.
            losses: the scalar loss under each of them, without gradient.

        Returns:
            The scalar, of which only the gradient counts (score functions); None for the other methods.
        """
        del draws, losses
        return None

    def regularizer(self) -> Tensor | None:
        """A term of the arch loss that depends on the logits alone: the ramped entropy; None where it is off."""
        if not self.entropy_weight or not self.searched:
            return None
        ramp = max(0.0, (self.progress - self.entropy_start) / (1.0 - self.entropy_start))
        return self.entropy_weight * ramp * self._entropy()

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
        return float(self._entropy().detach())

    def _entropy(self) -> Tensor:
        values = []
        for logits in self.logits.values():
            if len(logits) > 1:
                p = self.distribution(logits).double()
                values.append(-(p * p.clamp_min(1e-300).log()).sum() / math.log(len(p)))
        return torch.stack(values).mean() if values else torch.zeros((), dtype=torch.float64)

    def _fixed_gate(self, name: str) -> Gate:
        options = self.option_names[name]
        like = self._logits[0] if len(self._logits) else None
        return Gate.one_hot(len(options), options.index(self.fixed[name]), like)
