"""First-order DARTS: the weights as they are (https://arxiv.org/abs/1806.09055, section 2.3, xi = 0)."""

from __future__ import annotations

from typing import Any

from darts_hpo.bilevel.base import BilevelProblem, BilevelRule, Losses


class FirstOrder(BilevelRule):
    """d L_arch(w, a) / d a at the current weights."""

    def arch_step(self, problem: BilevelProblem, train_batch: Any, arch_batch: Any) -> Losses:
        """One gradient of the arch loss with respect to the logits."""
        del train_batch
        return problem.step_logits_on(arch_batch, "arch")
