"""The problem a bilevel rule works on, and the two steps all rules share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

from darts_hpo.errors import TrainingError
from darts_hpo.supernet import Gate, Gates

Losses: TypeAlias = dict[str, Tensor]
StepLosses: TypeAlias = dict[str, float]


@dataclass
class BilevelProblem:
    """Everything a rule needs, without a trainer, so that rules are tested on closed forms.

    Args:
        weights: the supernet's parameters.
        logits: the relaxation's parameters; disjoint from ``weights``.
        weight_optimizer: holds exactly ``weights``.
        arch_optimizer: holds exactly ``logits``; None where every choice is fixed.
        sample: draws gates for a phase, ``"weights"`` or ``"arch"``.
        loss: named terms of one batch under some gates; ``"loss"`` is minimized. The last argument is the
            memo of :meth:`darts_hpo.training.task.Task.loss`.
        frozen_statistics: context in which no running statistic of the supernet changes.
        draws: gates drawn for one step of the logits.
        weight_draws: gates drawn for one step of the weights.
        surrogate: from all draws of an arch step and their losses, a scalar whose gradient is that of the expected
            loss, where the gates carry none; else None.
        arch_terms: further named terms of an arch step (expected cost, regularizers), from the mean loss of its
            draws; they are added to it once.
        clip_norm: largest gradient norm of a weight step; None leaves gradients alone.
        backward: runs autograd (the trainer's own where precision or distribution needs it).
        reduce_logit_gradients: averages the logits' gradients over processes, where there are several.
        after_arch_step: hook after the logits moved.
    """

    weights: Sequence[Tensor]
    logits: Sequence[Tensor]
    weight_optimizer: Optimizer
    arch_optimizer: Optimizer | None
    sample: Callable[[Any], Mapping[str, Gate]]
    loss: Callable[[Any, Mapping[str, Gate], dict[str, Any] | None], Losses]
    frozen_statistics: Callable[[], AbstractContextManager[None]]
    draws: int = 1
    weight_draws: int = 1
    surrogate: Callable[[Sequence[Gates], Sequence[Tensor]], Tensor | None] = lambda draws, losses: None
    arch_terms: Callable[[Tensor], Losses] = lambda loss: {}
    clip_norm: float | None = None
    backward: Callable[[Tensor], None] = field(default=lambda loss: loss.backward())
    reduce_logit_gradients: Callable[[Sequence[Tensor]], None] = lambda logits: None
    after_arch_step: Callable[[], None] = lambda: None

    # -- steps shared by rules -------------------------------------------------------------------------------

    def arch_loss(self, batch: Any, gates: Mapping[str, Gate], memo: dict[str, Any] | None = None) -> Losses:
        """Loss terms of an arch batch under one draw, with the further terms added to ``"loss"``."""
        return self._with_arch_terms(self.loss(batch, gates, memo))

    def step_logits(self, gradients: Sequence[Tensor | None]) -> None:
        """Give the logits their gradients and let the arch optimizer step.

        Raises:
            TrainingError: a gradient is not finite; the logits are left as they were.
        """
        if self.arch_optimizer is None:
            return
        for parameter, gradient in zip(self.logits, gradients, strict=True):
            parameter.grad = None if gradient is None else gradient.detach()
        self.reduce_logit_gradients(self.logits)
        _require_finite_gradients(self.logits)
        self.arch_optimizer.step()
        self.arch_optimizer.zero_grad(set_to_none=True)
        self.after_arch_step()

    def step_logits_on(self, batch: Any, which: str) -> Losses:
        """One step of the logits along the gradient of one batch's loss, the weights taken as they are."""
        with self.frozen_statistics():
            terms, gradients = self._mean_over_draws(batch, which)
        self.step_logits(gradients)
        return terms

    def step_weights(self, batch: Any, gates: Mapping[str, Gate] | None = None) -> Losses:
        """One step of the weights on a train batch; logits receive no gradient.

        Args:
            batch: of the train split.
            gates: to train under; None draws them, :attr:`weight_draws` times, and averages.
        """
        number = self.weight_draws if gates is None else 1
        self.weight_optimizer.zero_grad(set_to_none=True)
        evaluated = []
        for _ in range(number):
            terms = self.loss(batch, self.sample("weights") if gates is None else gates, None)
            require_finite(terms["loss"], "train")
            self.backward(terms["loss"] / number)
            evaluated.append(_detached(terms))
        for parameter in self.logits:
            parameter.grad = None
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(list(self.weights), self.clip_norm)
        self.weight_optimizer.step()
        self.weight_optimizer.zero_grad(set_to_none=True)
        return _mean(evaluated)

    def _mean_over_draws(self, batch: Any, which: str) -> tuple[Losses, list[Tensor | None]]:
        """Loss terms and gradient of the arch loss, averaged over the draws; one draw's graph is alive at a time."""
        logits = list(self.logits)
        gradients: list[Tensor | None] = [None] * len(logits)
        drawn: list[Mapping[str, Gate]] = []
        evaluated: list[Losses] = []
        for _ in range(self.draws):
            gates = self.sample("arch")
            terms, share = self._under_one_draw(batch, gates, which)
            gradients = _sums(gradients, share)
            drawn.append(gates)
            evaluated.append(terms)
        surrogate = self.surrogate(drawn, [terms["loss"] for terms in evaluated])
        if surrogate is not None:
            gradients = _sums(gradients, _gradients(surrogate, logits))
        means = _mean(evaluated)
        # A further term may depend on the loss (a cost that multiplies it): the chain rule goes through the mean.
        mean = means["loss"].requires_grad_()
        terms = self._with_arch_terms(means)
        if terms["loss"] is not mean:
            by_mean, *direct = _gradients(terms["loss"], [mean, *logits])
            assert by_mean is not None  # the loss is one of the terms
            gradients = _sums([None if g is None else by_mean * g for g in gradients], direct)
        return _detached(terms), gradients

    def _under_one_draw(self, batch: Any, gates: Gates, which: str) -> tuple[Losses, list[Tensor | None]]:
        """Loss terms, and this draw's share of the gradient in the logits; no graph of them is left."""
        follows = carry_gradient(gates)
        with nullcontext() if follows else torch.no_grad():
            terms = self.loss(batch, gates, None)
        require_finite(terms["loss"], which)
        if not follows:
            return _detached(terms), [None] * len(self.logits)
        return _detached(terms), _gradients(terms["loss"] / self.draws, self.logits)

    def _with_arch_terms(self, terms: Losses) -> Losses:
        total, further = terms["loss"], self.arch_terms(terms["loss"])
        for term in further.values():
            total = total + term
        return {**terms, **further, "loss": total}


class BilevelRule(ABC):
    """How one train batch and one arch batch update weights and logits.

    Step order as DARTS: logits on the arch batch, then weights on the train batch. After an arch step, weight
    gradients are empty and running statistics unchanged; after a weight step, logits are unchanged.
    """

    needs_arch_batch: bool = True
    """Whether the rule reads the arch split at all."""
    needs_full_precision: bool = False
    """Whether the rule takes finite differences, which low precision would drown."""

    def require_supported(self, draws: int, differentiable: bool) -> None:
        """Refuse ways of sampling gates that the rule cannot use; by default none.

        Args:
            draws: gates drawn for one step of the logits.
            differentiable: whether those gates carry a gradient to the logits.

        Raises:
            ConfigError: names what can be used instead.
        """
        del draws, differentiable

    def require_optimizer(self, optimizer: Optimizer) -> None:
        """Refuse an optimizer of the weights that the rule cannot use; by default none.

        Raises:
            ConfigError: names what can be used instead.
        """
        del optimizer

    @abstractmethod
    def arch_step(self, problem: BilevelProblem, train_batch: Any, arch_batch: Any) -> Losses:
        """Update the logits; returns the loss terms of the batch that drove them."""

    def step(
        self, problem: BilevelProblem, train_batch: Any, arch_batch: Any, *, update_logits: bool = True
    ) -> StepLosses:
        """One coupled update.

        Args:
            problem: what is optimized.
            train_batch: drives the weights.
            arch_batch: drives the logits.
            update_logits: False while the weights warm up.

        Returns:
            Loss terms as numbers, prefixed ``train/`` and ``arch/``.

        Raises:
            TrainingError: a loss is not finite.
        """
        report: StepLosses = {}
        if update_logits and problem.logits:
            arch_terms = self.arch_step(problem, train_batch, arch_batch)
            report.update({f"arch/{name}": float(term.detach()) for name, term in arch_terms.items()})
        train_terms = problem.step_weights(train_batch)
        report.update({f"train/{name}": float(term.detach()) for name, term in train_terms.items()})
        return report


def carry_gradient(gates: Gates) -> bool:
    """Whether a loss under some gates has a gradient in the logits."""
    return any(gate.weights.requires_grad for gate in gates.values())


def require_finite(loss: Tensor, which: str) -> None:
    """Refuse to step on a loss that is no number.

    Raises:
        TrainingError: it is not finite.
    """
    if not bool(torch.isfinite(loss)):
        raise diverged(f"The {which} loss became {float(loss.detach())}")


def diverged(observation: str) -> TrainingError:
    """The error of a training whose numbers are no numbers any more.

    Args:
        observation: what was seen, without a full stop.
    """
    return TrainingError(
        f"{observation}: training diverged. Lower the learning rate (lr, or search.optimizer.lr and "
        "retrain.optimizer.lr) or the momentum, or lengthen the warm-up."
    )


def _require_finite_gradients(parameters: Sequence[Tensor]) -> None:
    # A finite loss can have a gradient that is not, and logits that are no numbers cannot be sampled from.
    gradients = [parameter.grad.flatten() for parameter in parameters if parameter.grad is not None]
    if gradients and not bool(torch.isfinite(torch.cat(gradients)).all()):
        raise diverged("The gradient of the architecture logits is not finite")


def _gradients(loss: Tensor, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    return list(torch.autograd.grad(loss, list(inputs), allow_unused=True))


def _sums(ones: Sequence[Tensor | None], others: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [b if a is None else a if b is None else a + b for a, b in zip(ones, others, strict=True)]


def _detached(terms: Losses) -> Losses:
    return {name: term.detach() for name, term in terms.items()}


def _mean(evaluated: Sequence[Losses]) -> Losses:
    return {name: torch.stack([terms[name] for terms in evaluated]).mean() for name in evaluated[0]}
