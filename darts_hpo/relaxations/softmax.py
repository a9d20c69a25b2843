"""The continuous relaxation of DARTS: every option, weighted by a softmax (https://arxiv.org/abs/1806.09055)."""

from __future__ import annotations

import torch
from torch import Tensor

from darts_hpo.relaxations.base import Phase, Relaxation
from darts_hpo.supernet import Gate


class Softmax(Relaxation):
    """All options are computed and mixed by softmax(logits) (DARTS, equation 2)."""

    kinds = {"weights": "mixture", "arch": "mixture", "eval": "mixture"}

    def gate(self, name: str, logits: Tensor, phase: Phase, generator: torch.Generator) -> Gate:
        """The softmax of the logits; gradient only in an arch step. Nothing is drawn."""
        del name, generator
        weights = logits.softmax(dim=-1)
        return Gate(weights if phase == "arch" else weights.detach(), tuple(range(len(logits))))
