"""Second-order DARTS: one weight step ahead (https://arxiv.org/abs/1806.09055, equations 6-8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from darts_hpo.bilevel.base import BilevelProblem, BilevelRule, Losses, carry_gradient, require_finite
from darts_hpo.errors import ConfigError
from darts_hpo.supernet import Gate


class VirtualStep(NamedTuple):
    """Where one step of the real optimizer would take a parameter, and how that depends on the gradient.

    Attributes:
        weight: the parameter after the step, w'.
        scale: -d w' / d gradient, a scalar: the learning rate times what momentum makes of it.
    """

    weight: Tensor
    scale: float


class Unrolled(BilevelRule):
    """d L_arch(w'(a), a) / d a, where w' is the weights after a real optimizer's step on the train batch.

    The second-order term is a finite difference over the weights only, in the direction of the virtual step's
    scaled gradient; the weights are restored bit-exactly from a copy. Gates are drawn once, statistics stay
    frozen, and what is not differentiated (label assignment) is decided once per batch.

    Args:
        epsilon: size of the finite difference, divided by the direction's norm (DARTS, footnote 2: 0.01).
    """

    needs_full_precision = True

    def __init__(self, epsilon: float = 0.01) -> None:
        if epsilon <= 0:
            raise ConfigError(f"bilevel.epsilon={epsilon}: expected a positive number, for example 0.01.")
        self.epsilon = epsilon

    def require_supported(self, draws: int, differentiable: bool) -> None:
        """Refuse several draws, and gates without gradient: one draw carries the whole hypergradient.

        Raises:
            ConfigError: names what can be used instead.
        """
        if not differentiable:
            raise ConfigError(
                "bilevel=unrolled differentiates through the gates, but those of this relaxation carry no gradient "
                "(score function). Use bilevel=first_order, or relaxation=gumbel."
            )
        if draws > 1:
            raise ConfigError(
                f"bilevel=unrolled takes one draw of the gates for a step of the logits, not relaxation.draws={draws}. "
                "Use relaxation.draws=1, or bilevel=first_order."
            )

    def require_optimizer(self, optimizer: Optimizer) -> None:
        """Refuse what is not SGD: the virtual step is that of the real optimizer.

        Raises:
            ConfigError: names what can be used instead.
        """
        _require_sgd(optimizer)

    def arch_step(self, problem: BilevelProblem, train_batch: Any, arch_batch: Any) -> Losses:
        """One second-order gradient of the arch loss with respect to the logits."""
        terms, gradients = self.hypergradient(problem, train_batch, arch_batch)
        problem.step_logits(gradients)
        return terms

    def hypergradient(self, problem: BilevelProblem, train_batch: Any, arch_batch: Any) -> tuple[Losses, list[Tensor]]:
        """The loss terms at the virtual weights and the gradient of every logit.

        Raises:
            ConfigError: the weight optimizer is not SGD, or the gates are sampled in a way that is not supported.
            TrainingError: a loss is not finite.
        """
        weights, logits = list(problem.weights), list(problem.logits)
        gates = problem.sample("arch")
        self.require_supported(problem.draws, carry_gradient(gates))
        memo: dict[str, Any] = {}
        kept = [w.detach().clone() for w in weights]
        with problem.frozen_statistics():
            train_gradients = _weight_gradients(problem, train_batch, gates, memo)
            steps = virtual_sgd_step(problem.weight_optimizer, weights, train_gradients, problem.clip_norm)
            try:
                _assign(weights, [step.weight for step in steps])
                terms = problem.arch_loss(arch_batch, gates)
                require_finite(terms["loss"], "arch")
                both = _grads(terms["loss"], [*logits, *weights])
                terms = {name: term.detach() for name, term in terms.items()}  # only one graph is alive at a time
                direct, outer = both[: len(logits)], both[len(logits) :]
                direction = [step.scale * g for step, g in zip(steps, outer, strict=True)]
                second = self._second_order(problem, train_batch, gates, memo, kept, direction)
            finally:
                _assign(weights, kept)
        return terms, [d - s for d, s in zip(direct, second, strict=True)]

    def _second_order(
        self,
        problem: BilevelProblem,
        train_batch: Any,
        gates: Mapping[str, Gate],
        memo: dict[str, Any],
        weights: Sequence[Tensor],
        direction: Sequence[Tensor],
    ) -> list[Tensor]:
        """(d^2 L_train / d a d w) times the direction, by a central difference around the current weights."""
        norm = float(torch.linalg.vector_norm(torch.stack([d.double().norm() for d in direction])))
        logits = list(problem.logits)
        if norm == 0.0:
            return [torch.zeros_like(parameter) for parameter in logits]
        epsilon = self.epsilon / norm
        sides = []
        for sign in (1.0, -1.0):
            _assign(
                list(problem.weights),
                [w + sign * epsilon * d for w, d in zip(weights, direction, strict=True)],
            )
            sides.append(_logit_gradients(problem, train_batch, gates, memo))
        return [(plus - minus) / (2 * epsilon) for plus, minus in zip(*sides, strict=True)]


def _weight_gradients(
    problem: BilevelProblem, batch: Any, gates: Mapping[str, Gate], memo: dict[str, Any]
) -> tuple[Tensor | None, ...]:
    """Gradient of L_train in the weights, at constant gates: no inactive option is probed for nothing.

    None where the drawn path does not use a weight: the real optimizer leaves such a weight alone.
    """
    constant = {name: replace(gate, weights=gate.weights.detach(), probed=()) for name, gate in gates.items()}
    loss = problem.loss(batch, constant, memo)["loss"]
    require_finite(loss, "train")
    return torch.autograd.grad(loss, list(problem.weights), allow_unused=True)


def _logit_gradients(
    problem: BilevelProblem, batch: Any, gates: Mapping[str, Gate], memo: dict[str, Any]
) -> list[Tensor]:
    """Gradient of L_train in the logits, at the weights as they stand."""
    loss = problem.loss(batch, gates, memo)["loss"]
    require_finite(loss, "train")
    return _grads(loss, list(problem.logits))


def virtual_sgd_step(
    optimizer: Optimizer,
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    clip_norm: float | None = None,
) -> list[VirtualStep]:
    """Where ``optimizer.step()`` would take the weights, without taking it. A gradient of None moves nothing.

    Momentum (its present buffer), dampening, Nesterov, weight decay, parameter groups and gradient clipping
    are the optimizer's own. The clipping factor counts as a constant in :attr:`VirtualStep.scale`.

    Raises:
        ConfigError: the optimizer is not SGD, or does not hold a weight.
    """
    _require_sgd(optimizer)
    clip = 1.0
    norms = [gradient.norm() for gradient in gradients if gradient is not None]
    if clip_norm is not None and norms:
        norm = float(torch.linalg.vector_norm(torch.stack(norms)))
        clip = min(1.0, clip_norm / (norm + 1e-6))  # as torch.nn.utils.clip_grad_norm_
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    steps = []
    for weight, gradient in zip(weights, gradients, strict=True):
        if id(weight) not in groups:
            raise ConfigError("The weight optimizer does not hold every weight of the supernet.")
        group = groups[id(weight)]
        mu, lr = group["momentum"], group["lr"]
        value = weight.detach()
        if gradient is None:
            steps.append(VirtualStep(value, 0.0))
            continue
        share = -clip if group["maximize"] else clip  # d update / d gradient
        descent = share * gradient + group["weight_decay"] * value
        if mu:
            buffer = optimizer.state.get(weight, {}).get("momentum_buffer")
            if buffer is None:  # torch starts the buffer at the first gradient, undampened
                buffered, fresh = descent, 1.0
            else:
                fresh = 1.0 - group["dampening"]
                buffered = mu * buffer + fresh * descent
            if group["nesterov"]:
                share *= 1.0 + mu * fresh
                descent = descent + mu * buffered
            else:
                share *= fresh
                descent = buffered
        steps.append(VirtualStep(value - lr * descent, lr * share))
    return steps


def _require_sgd(optimizer: Optimizer) -> None:
    if not isinstance(optimizer, SGD):
        raise ConfigError(
            f"bilevel=unrolled needs SGD for the weights, not {type(optimizer).__name__}: the virtual step "
            "is the real optimizer's. Use search.optimizer.name=sgd or bilevel=first_order."
        )


def _grads(loss: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    # The graph from logits to gates is shared by every evaluation of one hypergradient, so it is retained.
    found = torch.autograd.grad(loss, list(inputs), allow_unused=True, retain_graph=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]


@torch.no_grad()
def _assign(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for target, value in zip(targets, values, strict=True):
        target.copy_(value)
    # Autocast keeps the cast copies of weights for a whole step and does not see them change in place.
    torch.clear_autocast_cache()
