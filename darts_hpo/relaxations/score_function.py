"""The score-function relaxation of DQAS: REINFORCE over architectures (https://arxiv.org/abs/2010.08561)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError
from darts_hpo.relaxations.base import Phase
from darts_hpo.relaxations.sampled import SampledRelaxation, drawn_position, one_hot_like
from darts_hpo.space import Space
from darts_hpo.supernet import Gate, Gates


class ScoreFunction(SampledRelaxation):
    """One option of every choice is drawn from softmax(logits); the logits learn from the losses of the draws alone.

    The gradient of the expected loss E[L] is E[L * d log p / d a] (REINFORCE, Williams 1992). It asks nothing of
    the network but its loss: no option that was not drawn is computed, no pass is differentiated, and the loss may
    be a step function. Its price is variance, which a baseline b that is independent of the draw lowers without bias:

        mean over draws i of (L_i - b_i) * d log p_i / d a,   b_i = mean of the losses of the *other* draws.

    With the mean over *all* draws as the baseline, as in DQAS, the same estimate comes out (n - 1) / n times as long:
    it is biased towards zero, in length only. Hence the leave-one-out form here, and no option for the other.

    Args:
        space: the supernet's choices, all categorical.
        fixed: as in :class:`~darts_hpo.relaxations.base.Relaxation`.
        init_std: likewise.
        entropy_weight: likewise.
        entropy_start: likewise.
        draws: architectures drawn for one step of the logits, at least 2: the others are each one's baseline. DQAS
            takes hundreds of small circuits.
        weight_draws: architectures drawn for one step of the weights; DQAS averages over as many as for the logits.
        generator: as in :class:`~darts_hpo.relaxations.base.Relaxation`.

    Raises:
        ConfigError: a number of draws is out of range.
    """

    kinds = {"weights": "path", "arch": "path", "eval": "path"}
    differentiable = False

    def __init__(
        self,
        space: Space,
        *,
        fixed: Mapping[str, str] | None = None,
        init_std: float = 1e-3,
        entropy_weight: float = 0.0,
        entropy_start: float = 0.0,
        draws: int = 8,
        weight_draws: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            space,
            fixed=fixed,
            init_std=init_std,
            entropy_weight=entropy_weight,
            entropy_start=entropy_start,
            draws=draws,
            weight_draws=weight_draws,
            generator=generator,
        )
        if draws < 2:
            raise ConfigError(
                f"relaxation.draws={draws}: the score function compares draws with each other; expected at least 2, "
                "for example 8."
            )

    def gate(self, name: str, logits: Tensor, phase: Phase, generator: torch.Generator) -> Gate:
        """A drawn option without gradient, with the logarithm of its probability; in evaluation the most probable."""
        del name
        p = logits.softmax(dim=-1)
        position = int(p.argmax()) if phase == "eval" else drawn_position(p, generator)
        log_prob = logits.log_softmax(dim=-1)[position]
        return Gate(one_hot_like(p, position), (position,), log_prob=log_prob if phase == "arch" else log_prob.detach())

    def surrogate_loss(self, draws: Sequence[Gates], losses: Sequence[Tensor]) -> Tensor:
        """A scalar whose gradient is the estimate; its value means nothing."""
        n, values = len(losses), torch.stack([loss.detach() for loss in losses])
        advantages = (values - values.mean()) * n / (n - 1)  # L_i less the mean of the others
        log_probs = torch.stack(
            [torch.stack([g.log_prob for g in gates.values() if g.log_prob is not None]).sum() for gates in draws]
        )
        return (advantages * log_probs).mean()
