"""The binary gates of ProxylessNAS: one sampled path at a time (https://arxiv.org/abs/1812.00332)."""

from __future__ import annotations

import torch
from torch import Tensor

from darts_hpo.relaxations.base import Phase, Relaxation
from darts_hpo.supernet import Gate


class BinaryGates(Relaxation):
    """One option is drawn from softmax(logits) and computed; the others are probed in arch steps only.

    With a binary gate g drawn from probabilities p, the gradient of the logits is estimated (equation 4) as
    d L / d a_i = sum_j d L / d g_j * p_j * (delta_ij - p_i), where d L / d g_j = <d L / d y, o_j(x)>. Outputs
    of inactive options are recomputed without autograd in the backward pass, so memory is that of one path.
    """

    kinds = {"weights": "path", "arch": "probed_path", "eval": "path"}

    def gate(self, name: str, logits: Tensor, phase: Phase, generator: torch.Generator) -> Gate:
        """A drawn option; in evaluation the most probable one."""
        del name
        p = logits.softmax(dim=-1)
        with torch.no_grad():
            if phase == "eval":
                position = int(p.argmax())
            else:
                position = int(torch.multinomial(p.cpu(), 1, generator=generator))
            one_hot = torch.zeros_like(p)
            one_hot[position] = 1.0
        log_prob = p[position].log()
        if phase != "arch":
            return Gate(one_hot, (position,), log_prob=log_prob.detach())
        # Value: exactly the one-hot gate. Gradient: that of p, whose Jacobian is p_j (delta_ij - p_i).
        others = tuple(i for i in range(len(p)) if i != position)
        return Gate(_OneHotValue.apply(p, one_hot), (position,), others, log_prob)


class _OneHotValue(torch.autograd.Function):
    """The one-hot draw in value, the probabilities in gradient, free of rounding (1 + p - p may not be 1)."""

    @staticmethod
    def forward(ctx: object, p: Tensor, one_hot: Tensor) -> Tensor:
        del ctx, p
        return one_hot.clone()

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> tuple[Tensor, None]:
        del ctx
        return grads[0], None
