"""Bilevel problems whose gradients are known: in closed form, or exactly by differentiating twice.

A rule is tested on them without a trainer, without data and in float64. Every problem writes down what the
rule asked of it, so that a test can count draws, batches and optimizer steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import SGD, Optimizer

from darts_hpo.bilevel.base import BilevelProblem, Losses
from darts_hpo.normalization import frozen_batchnorm
from darts_hpo.relaxations.base import Relaxation
from darts_hpo.space import Categorical, Space
from darts_hpo.supernet import Gate, Gates, MixedOp

MakeOptimizer: TypeAlias = Callable[[Sequence[nn.Parameter]], Optimizer]


class Event(NamedTuple):
    """One thing a rule did.

    Attributes:
        kind: drew gates, evaluated a loss, let the arch optimizer step, or the weight optimizer.
        detail: the gates drawn, the batch evaluated, or the gradients stepped on.
        gates: the gates of a loss evaluation.
        memo: the memo of a loss evaluation.
        phase: the phase of a draw.
    """

    kind: Literal["sample", "loss", "arch_step", "weight_step"]
    detail: Any
    gates: Gates | None = None
    memo: dict[str, Any] | None = None
    phase: str = ""


@dataclass
class BilevelCase:
    """A problem, its network and two batches, with a record of everything a rule does to them.

    Args:
        problem: what the rule works on; built by :meth:`recorded`.
        network: holds ``problem.weights`` and whatever running statistics there are.
        train_batch: drives the weights.
        arch_batch: drives the logits.
        events: what was done, oldest first.
    """

    problem: BilevelProblem
    network: nn.Module
    train_batch: Any
    arch_batch: Any
    events: list[Event] = field(default_factory=list)

    @classmethod
    def recorded(cls, problem: BilevelProblem, network: nn.Module, train_batch: Any, arch_batch: Any) -> BilevelCase:
        """A case whose problem writes every draw, evaluation and step into :attr:`events`."""
        events: list[Event] = []
        sample, loss = problem.sample, problem.loss

        def recording_sample(phase: Any) -> Mapping[str, Gate]:
            gates = sample(phase)
            events.append(Event("sample", gates, phase=phase))
            return gates

        def recording_loss(batch: Any, gates: Gates, memo: dict[str, Any] | None) -> Losses:
            events.append(Event("loss", batch, gates, memo))
            return loss(batch, gates, memo)

        def on_arch_step(*_: Any) -> None:
            events.append(Event("arch_step", [_copy_of(p.grad) for p in problem.logits]))

        def on_weight_step(*_: Any) -> None:
            events.append(Event("weight_step", [_copy_of(p.grad) for p in problem.weights]))

        problem.sample, problem.loss = recording_sample, recording_loss
        problem.weight_optimizer.register_step_pre_hook(on_weight_step)
        if problem.arch_optimizer is not None:
            problem.arch_optimizer.register_step_pre_hook(on_arch_step)
        return cls(problem, network, train_batch, arch_batch, events)

    def of_kind(self, kind: str) -> list[Event]:
        """The recorded events of one kind, oldest first."""
        return [event for event in self.events if event.kind == kind]

    def logit_gradients(self) -> list[Tensor]:
        """What the last arch step stepped on; zeros where a logit had no gradient."""
        recorded = self.of_kind("arch_step")[-1].detail
        return [torch.zeros_like(p) if g is None else g for p, g in zip(self.problem.logits, recorded, strict=True)]


# -- the real optimizer, asked -------------------------------------------------------------------------------


def real_step(
    optimizer: Optimizer,
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    clip_norm: float | None = None,
) -> list[Tensor]:
    """The weights after ``optimizer.step()`` on these gradients, on a copy: nothing moves.

    Args:
        optimizer: any optimizer that holds ``weights``.
        weights: its parameters.
        gradients: one for each weight, or None.
        clip_norm: largest norm of the gradients, by :func:`torch.nn.utils.clip_grad_norm_`.
    """
    twin, moved = copy.deepcopy((optimizer, list(weights)))
    for weight, gradient in zip(moved, gradients, strict=True):
        weight.grad = None if gradient is None else gradient.detach().clone()
    if clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(moved, clip_norm)
    twin.step()
    return [weight.detach() for weight in moved]


def real_scale(
    optimizer: Optimizer,
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    clip_norm: float | None = None,
) -> list[Tensor]:
    """-d (weights after the step) / d gradient, element by element, measured on the optimizer itself.

    A step of SGD is affine in the gradient, so one difference is exact. The clipping factor is a constant.

    Returns:
        One tensor for each weight, in its shape; zero where the gradient is None.
    """
    present = [gradient.detach() for gradient in gradients if gradient is not None]
    factor = 1.0
    if clip_norm is not None:
        total = float(torch.cat([gradient.flatten() for gradient in present]).norm())
        factor = min(1.0, clip_norm / (total + 1e-6))
    at_zero = real_step(optimizer, weights, [None if g is None else torch.zeros_like(g) for g in gradients])
    at_one = real_step(optimizer, weights, [None if g is None else torch.ones_like(g) for g in gradients])
    return [factor * (zero - one) for zero, one in zip(at_zero, at_one, strict=True)]


# -- a quadratic ---------------------------------------------------------------------------------------------


class Quadratic:
    """L_train = 1/2 ||w - A a||^2 and L_arch = 1/2 ||w - b||^2: every hypergradient is a line of algebra.

    The weights are two parameters, so that they can sit in two groups. The logits enter the losses as the
    weights of a single gate, without a softmax.

    Args:
        optimizer: makes the weight optimizer; plain SGD with learning rate 0.1 by default.
        clip_norm: largest gradient norm of a weight step.
        seed: of A, b, the weights and the logits.

    Attributes:
        case: the recorded problem; its batches are the strings ``"train"`` and ``"arch"``.
    """

    def __init__(
        self, optimizer: MakeOptimizer | None = None, *, clip_norm: float | None = None, seed: int = 0
    ) -> None:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self._matrix, self._target = normal(7, 4), normal(7)
        network = nn.Module()
        network.register_parameter("head", nn.Parameter(normal(4)))
        network.register_parameter("tail", nn.Parameter(normal(3)))
        weights = list(network.parameters())
        self._logits = nn.Parameter(normal(4))
        problem = BilevelProblem(
            weights=weights,
            logits=[self._logits],
            weight_optimizer=(optimizer or (lambda parameters: SGD(parameters, lr=0.1)))(weights),
            arch_optimizer=SGD([self._logits], lr=0.05),
            sample=lambda phase: {"a": Gate(self._gate_weights(phase), tuple(range(4)))},
            loss=self._loss,
            frozen_statistics=lambda: frozen_batchnorm(network),
            clip_norm=clip_norm,
        )
        self.case = BilevelCase.recorded(problem, network, "train", "arch")

    def first_order(self) -> Tensor:
        """Gradient of L_arch(w), 0: the arch loss reads the logits through the weights alone."""
        return torch.zeros_like(self._logits)

    def single_level(self) -> Tensor:
        """Gradient of L_train(w, a), -A^T (w - A a)."""
        return -self._matrix.T @ self._train_residual()

    def unrolled(self) -> Tensor:
        """Gradient of L_arch(w'(a)): A^T D (w' - b), where D is the diagonal -d w' / d gradient.

        For plain SGD with learning rate xi it is xi A^T (w' - b).
        """
        problem = self.case.problem
        gradients = list(self._train_residual().split([4, 3]))
        arguments = (problem.weight_optimizer, problem.weights, gradients, problem.clip_norm)
        virtual, scale = torch.cat(real_step(*arguments)), torch.cat(real_scale(*arguments))
        return self._matrix.T @ (scale * (virtual - self._target))

    def train_weights(self, steps: int) -> None:
        """Take some weight steps, so that momentum buffers exist."""
        for _ in range(steps):
            self.case.problem.step_weights("train")

    def _train_residual(self) -> Tensor:
        with torch.no_grad():
            return torch.cat(list(self.case.problem.weights)) - self._matrix @ self._logits

    def _gate_weights(self, phase: str) -> Tensor:
        return self._logits * 1.0 if phase == "arch" else self._logits.detach()

    def _loss(self, batch: Any, gates: Gates, memo: dict[str, Any] | None) -> Losses:
        del memo
        weights = torch.cat(list(self.case.problem.weights))
        target = self._matrix @ gates["a"].weights if batch == "train" else self._target
        return {"loss": 0.5 * (weights - target).square().sum()}


# -- a small smooth network ----------------------------------------------------------------------------------


class Batch(NamedTuple):
    """Inputs of shape `batch x 3` and targets of shape `batch x 2`."""

    x: Tensor
    y: Tensor


class SmoothNetwork(nn.Module):
    """A multilayer perceptron in float64 with two choices, infinitely often differentiable.

    Args:
        batchnorm: whether the options named ``tanh`` and the stem normalize by batch statistics.
        width: units of the hidden layers.
    """

    OPTIONS = ("tanh", "deep", "skip")

    def __init__(self, *, batchnorm: bool = True, width: int = 5) -> None:
        super().__init__()
        self.space = Space({"first": Categorical(self.OPTIONS), "second": Categorical(self.OPTIONS)})
        self.stem = nn.Sequential(nn.Linear(3, width), self._norm(batchnorm, width), nn.Tanh())
        self.choices = nn.ModuleDict({name: MixedOp(name, self._options(batchnorm, width)) for name in self.space})
        self.head = nn.Linear(width, 2)
        self.double()

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Predictions of shape `batch x 2` for inputs of shape `batch x 3`."""
        hidden = self.stem(x)
        for name, choice in self.choices.items():
            hidden = choice(hidden, gates[name])
        return self.head(hidden)

    @staticmethod
    def _norm(batchnorm: bool, width: int) -> nn.Module:
        return nn.BatchNorm1d(width) if batchnorm else nn.Identity()

    @classmethod
    def _options(cls, batchnorm: bool, width: int) -> dict[str, nn.Module]:
        return {
            "tanh": nn.Sequential(nn.Linear(width, width), cls._norm(batchnorm, width), nn.Tanh()),
            "deep": nn.Sequential(nn.Linear(width, 2 * width), nn.Tanh(), nn.Linear(2 * width, width)),
            "skip": nn.Identity(),
        }


class SmoothProblem:
    """A :class:`SmoothNetwork` under a relaxation, with a loss that decides something undifferentiated.

    Every sample's squared error is weighted by exp(-error), taken as a constant as a detector takes its label
    assignment. The decision goes into the memo: a rule that decides anew gets another gradient.

    Args:
        relaxation: makes the relaxation over the network's space.
        optimizer: makes the weight optimizer; SGD with momentum by default.
        batchnorm: whether the network normalizes by batch statistics.
        clip_norm: largest gradient norm of a weight step.
        seed: of the weights, the logits, the batches and the draws.

    Attributes:
        network: the supernet.
        relaxation: the relaxation.
        case: the recorded problem; its batches are of type :class:`Batch`.
        decisions: how often the loss decided instead of reading its memo.
    """

    def __init__(
        self,
        relaxation: Callable[[Space], Relaxation],
        optimizer: MakeOptimizer | None = None,
        *,
        batchnorm: bool = True,
        clip_norm: float | None = None,
        seed: int = 0,
    ) -> None:
        self.decisions = 0
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = SmoothNetwork(batchnorm=batchnorm)
            self.relaxation = relaxation(self.network.space).double()
            with torch.no_grad():
                for logits in self.relaxation.parameters():
                    logits.normal_(std=0.5)  # apart from each other, so that nothing cancels by symmetry
            batches = [
                Batch(torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)) for _ in "12"
            ]
        generator = torch.Generator().manual_seed(seed)
        weights, logits_list = list(self.network.parameters()), list(self.relaxation.parameters())
        make = optimizer or (lambda parameters: SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-2))
        problem = BilevelProblem(
            weights=weights,
            logits=logits_list,
            weight_optimizer=make(weights),
            arch_optimizer=torch.optim.Adam(logits_list, lr=0.01) if logits_list else None,
            sample=lambda phase: self.relaxation.sample(phase, generator),
            loss=self._loss,
            frozen_statistics=lambda: frozen_batchnorm(self.network),
            draws=self.relaxation.draws,
            weight_draws=self.relaxation.weight_draws,
            surrogate=self.relaxation.surrogate_loss,
            clip_norm=clip_norm,
        )
        self.case = BilevelCase.recorded(problem, self.network, *batches)

    def first_order(self) -> list[Tensor]:
        """Gradient of L_arch(w, a) in the logits, for a relaxation that draws nothing."""
        with self._unrecorded(), frozen_batchnorm(self.network):
            loss = self._loss(self.case.arch_batch, self.case.problem.sample("arch"), None)["loss"]
            return list(torch.autograd.grad(loss, self.case.problem.logits))

    def unrolled(self) -> list[Tensor]:
        """Gradient of L_arch(w'(a), a) in the logits, by double backward through the real step.

        For relaxations that draw nothing and whose gates can be differentiated twice.
        """
        problem, (train_batch, arch_batch) = self.case.problem, (self.case.train_batch, self.case.arch_batch)
        names = [name for name, _ in self.network.named_parameters()]
        with self._unrecorded(), frozen_batchnorm(self.network):
            gates = problem.sample("arch")
            train_loss = self._loss(train_batch, gates, None)["loss"]
            gradients = torch.autograd.grad(train_loss, problem.weights, create_graph=True)
            arguments = (problem.weight_optimizer, problem.weights, gradients, problem.clip_norm)
            virtual = {
                name: value - scale * (gradient - gradient.detach())
                for name, value, scale, gradient in zip(
                    names, real_step(*arguments), real_scale(*arguments), gradients, strict=True
                )
            }
            outputs = functional_call(self.network, virtual, (arch_batch.x, gates))
            loss = self._terms(outputs, arch_batch, None)["loss"]
            return list(torch.autograd.grad(loss, problem.logits))

    def train_weights(self, steps: int) -> None:
        """Take some weight steps, so that momentum buffers exist."""
        for _ in range(steps):
            self.case.problem.step_weights(self.case.train_batch)

    def _loss(self, batch: Any, gates: Gates, memo: dict[str, Any] | None) -> Losses:
        return self._terms(self.network(batch.x, gates), batch, memo)

    def _terms(self, outputs: Tensor, batch: Batch, memo: dict[str, Any] | None) -> Losses:
        error = (outputs - batch.y).square().sum(dim=-1)
        decided = {} if memo is None else memo
        if "confidence" not in decided:
            self.decisions += 1
            decided["confidence"] = (-error.detach()).exp()
        return {"loss": (decided["confidence"] * error).mean(), "error": error.mean()}

    @contextmanager
    def _unrecorded(self) -> Iterator[None]:
        events, decisions = len(self.case.events), self.decisions
        try:
            yield
        finally:
            del self.case.events[events:]
            self.decisions = decisions


def _copy_of(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()
