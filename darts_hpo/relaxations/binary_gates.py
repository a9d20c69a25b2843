"""The binary gates of ProxylessNAS: one sampled path at a time (https://arxiv.org/abs/1812.00332)."""

from __future__ import annotations

import torch
from torch import Tensor

from darts_hpo.relaxations.base import Phase
from darts_hpo.relaxations.sampled import SampledRelaxation, drawn_position, one_hot_like, straight_through
from darts_hpo.supernet import Gate


class BinaryGates(SampledRelaxation):
    """One option is drawn from softmax(logits) and computed; the others are probed in arch steps only.

    With a binary gate g drawn from probabilities p, the gradient of the logits is estimated (equation 4) as
    d L / d a_i = sum_j d L / d g_j * p_j * (delta_ij - p_i), where d L / d g_j = <d L / d y, o_j(x)>. Outputs
    of inactive options are recomputed without autograd in the backward pass, so memory is that of one path.

    Arguments are those of :class:`~darts_hpo.relaxations.sampled.SampledRelaxation`; ProxylessNAS draws once.
    """

    kinds = {"weights": "path", "arch": "probed_path", "eval": "path"}

    def gate(self, name: str, logits: Tensor, phase: Phase, generator: torch.Generator) -> Gate:
        """A drawn option; in evaluation the most probable one."""
        del name
        p = logits.softmax(dim=-1)
        position = int(p.argmax()) if phase == "eval" else drawn_position(p, generator)
        one_hot, log_prob = one_hot_like(p, position), p[position].log()
        if phase != "arch":
            return Gate(one_hot, (position,), log_prob=log_prob.detach())
        # Value: exactly the one-hot gate. Gradient: that of p, whose Jacobian is p_j (delta_ij - p_i).
        others = tuple(i for i in range(len(p)) if i != position)
        return Gate(straight_through(p, one_hot), (position,), others, log_prob)
