"""Single-level optimization: weights and logits both descend the training loss."""

from __future__ import annotations

from typing import Any

from darts_hpo.bilevel.base import BilevelProblem, BilevelRule, Losses


class SingleLevel(BilevelRule):
    """d L_train(w, a) / d a: one level, one split.

    DARTS compares it with bilevel search (https://arxiv.org/abs/1806.09055, section 3.3), where the logits
    overfit the training data.
    """

    needs_arch_batch = False

    def arch_step(self, problem: BilevelProblem, train_batch: Any, arch_batch: Any) -> Losses:
        """One gradient of the train loss with respect to the logits."""
        del arch_batch
        return problem.step_logits_on(train_batch, "train")
