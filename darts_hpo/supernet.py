"""Gates, mixed operations and the protocol of a searchable network.

A relaxation hands one :class:`Gate` for every choice to the supernet; a :class:`MixedOp` runs the options that the
gate names as active and combines them. Weights live here, architecture parameters never do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from darts_hpo.errors import GenotypeError, SpaceError, unknown_name
from darts_hpo.genotype import Genotype
from darts_hpo.space import Space

if TYPE_CHECKING:
    from darts_hpo.report.figure import Figure

GateKind: TypeAlias = Literal["mixture", "path", "probed_path"]


@dataclass(frozen=True, eq=False)
class Gate:
    """How one choice enters one forward pass.

    Args:
        weights: `n_options` weights, one per option in the space's order. Where a single option is active and the
            weights carry no gradient, its weight is one and is not multiplied.
        active: positions of the options to compute, ascending.
        probed: positions of inactive options whose weight wants a gradient: they are computed without autograd in
            the backward pass only (ProxylessNAS, https://arxiv.org/abs/1812.00332, section 3.2).
        log_prob: logarithm of the probability of the draw, a scalar, where the relaxation sampled.

    Raises:
        SpaceError: no option is active.
    """

    weights: Tensor
    active: tuple[int, ...]
    probed: tuple[int, ...] = ()
    log_prob: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.active:
            raise SpaceError("A gate needs at least one active option; it was given none.")

    @property
    def kind(self) -> GateKind:
        """``mixture`` of several active options, one ``path``, or one path with the others ``probed_path``."""
        if len(self.active) > 1:
            return "mixture"
        return "probed_path" if self.probed else "path"

    @classmethod
    def one_hot(cls, n_options: int, position: int, like: Tensor | None = None) -> Gate:
        """The gate that is exactly one option, without any gradient."""
        dtype, device = (like.dtype, like.device) if like is not None else (torch.get_default_dtype(), None)
        weights = torch.zeros(n_options, dtype=dtype, device=device)
        weights[position] = 1.0
        return cls(weights, (position,))


Gates: TypeAlias = Mapping[str, Gate]


def one_hot_gates(space: Space, choices: Mapping[str, str], like: Tensor | None = None) -> dict[str, Gate]:
    """Gates that select exactly one option of every choice.

    Args:
        space: the supernet's choices.
        choices: choice name to option name, complete.
        like: a tensor whose dtype and device the weights take.

    Raises:
        SpaceError: a choice is missing or unknown, or an option is.
    """
    checked = space.validate(dict(choices))
    gates = {}
    for name, option in checked.items():
        categorical = space.categorical(name)
        gates[name] = Gate.one_hot(len(categorical.options), categorical.index(option), like)
    return gates


class MixedOp(nn.Module):
    """The options of one choice, computed and combined as a gate says.

    Args:
        choice: name of the choice, for messages.
        options: option name to module, in the order of the choice's :class:`~darts_hpo.space.Categorical`. All
            modules map one input tensor to outputs of one shape.
    """

    def __init__(self, choice: str, options: Mapping[str, nn.Module]) -> None:
        super().__init__()
        if not options:
            raise SpaceError(f"Choice {choice!r} has no options.")
        self.choice = choice
        self.options = nn.ModuleDict(options)

    def option(self, position: int) -> nn.Module:
        """The module at a position."""
        return list(self.options.values())[position]

    def forward(self, x: Tensor, gate: Gate) -> Tensor:
        """Combine the active options.

        Args:
            x: input of every option.
            gate: `n_options` weights and which options are active.

        Returns:
            The weighted sum of the active options' outputs; the output itself where one is active without gradient.

        Raises:
            SpaceError: the gate was made for another number of options.
        """
        if len(gate.weights) != len(self.options):
            raise SpaceError(
                f"Choice {self.choice!r} has {len(self.options)} options but its gate has {len(gate.weights)}."
            )
        modules = list(self.options.values())
        if len(gate.active) == 1:
            position = gate.active[0]
            out = modules[position](x)
            if gate.probed:
                return _probed_output(x, out, gate, modules)
            return out * gate.weights[position] if gate.weights.requires_grad else out
        total: Tensor | None = None
        for position in gate.active:
            term = gate.weights[position] * modules[position](x)
            total = term if total is None else total + term
        assert total is not None  # a gate has at least one active option
        return total


def _probed_output(x: Tensor, out: Tensor, gate: Gate, modules: Sequence[nn.Module]) -> Tensor:
    return _ProbeInactive.apply(out, x, gate.weights, gate.active[0], gate.probed, modules)


class _ProbeInactive(torch.autograd.Function):
    """Identity on the active output whose backward also gives d loss / d weight of every option.

    By the chain rule d loss / d weight_j = <d loss / d y, o_j(x)> (ProxylessNAS, equation 4). Inactive outputs are
    recomputed here without autograd and dropped one by one, so memory is that of a single path.
    """

    @staticmethod
    def forward(
        ctx: Any, out: Tensor, x: Tensor, weights: Tensor, active: int, probed: tuple[int, ...], modules: Any
    ) -> Tensor:
        ctx.save_for_backward(out, x)
        ctx.active, ctx.probed, ctx.modules = active, probed, modules
        ctx.n_options, ctx.gate_dtype = len(weights), weights.dtype
        device = out.device.type
        ctx.autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        return out.view_as(out)

    @staticmethod
    @once_differentiable  # the recomputed outputs are constants: a second derivative would be silently wrong
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        if not ctx.needs_input_grad[2]:
            return grad, None, None, None, None, None
        out, x = ctx.saved_tensors
        weight_grad = torch.zeros(ctx.n_options, dtype=ctx.gate_dtype, device=out.device)
        weight_grad[ctx.active] = _inner(grad, out)
        device, dtype, enabled = ctx.autocast
        with torch.no_grad(), torch.autocast(device, dtype=dtype, enabled=enabled):
            for position in ctx.probed:
                weight_grad[position] = _inner(grad, ctx.modules[position](x))
        return grad, None, weight_grad, None, None, None


def _inner(a: Tensor, b: Tensor) -> Tensor:
    accumulate = torch.float64 if a.dtype == torch.float64 else torch.float32
    return (a.to(accumulate) * b.to(accumulate)).sum()


@dataclass(frozen=True)
class CostUnit:
    """A part of a supernet whose cost is decided by some of its choices alone.

    Args:
        name: for tables and messages.
        choices: the choices that decide it; the expected cost is taken over their joint options.
        build: plain deployed module for given options of those choices, as in the derived network.
        input_shape: shape of that module's input without the batch, for example ``(64, 20, 20)``.
    """

    name: str
    choices: tuple[str, ...]
    build: Callable[[Mapping[str, str]], nn.Module]
    input_shape: tuple[int, ...]


class Supernet(nn.Module, ABC):
    """A network whose choices are open. Owns weights only.

    Subclasses set :attr:`name` and :attr:`gate_kinds` and implement the abstract members; the conformance suite in
    :mod:`darts_hpo.testing` states what they must fulfil.
    """

    name: str
    """Name of the space, stored in genotypes."""
    gate_kinds: frozenset[GateKind] = frozenset({"mixture", "path", "probed_path"})
    """Kinds of gate that :meth:`forward` accepts."""
    exports_onnx: bool = True
    """Whether derived networks can be written as ONNX."""

    @property
    @abstractmethod
    def space(self) -> Space:
        """The choices a relaxation gives gates for."""

    @property
    def genotype_space(self) -> Space:
        """The choices of the canonical genotype; differs from :attr:`space` where choices are factored."""
        return self.space

    @abstractmethod
    def forward(self, x: Tensor, gates: Gates) -> Any:
        """Output of the network under the gates, in the form its task expects."""

    @abstractmethod
    def derive(self, genotype: Genotype, *, inherit_weights: bool = False) -> nn.Module:
        """A plain network with no supernet code inside; equal to the supernet at one-hot gates if it inherits.

        The network's ``config()`` gives plain data from which the class method ``from_config(config)`` rebuilds it,
        weights aside: bundles rely on it. Where the shipped form differs from the training form, ``deploy()`` gives a
        copy in the former.
        """

    @abstractmethod
    def reference_choices(self) -> Mapping[str, str]:
        """The hand-made architecture every search is compared with, as choices of :attr:`space`."""

    @abstractmethod
    def cost_units(self) -> Sequence[CostUnit]:
        """The parts whose cost depends on choices. The rest of the derived network is fixed cost."""

    def with_gates(self, gates: Gates) -> GatedSupernet:
        """This supernet, not a copy, as a network of inputs alone; a subclass may give it what its metrics ask for.

        Args:
            gates: of every choice.
        """
        return GatedSupernet(self, gates)

    def genotype(self, choices: Mapping[str, str], facts: Mapping[str, Any] | None = None) -> Genotype:
        """The canonical genotype of complete choices of :attr:`space`."""
        return Genotype(self.name, self.space.id, self._validated(choices), facts or {})

    def choices(self, genotype: Genotype) -> dict[str, str]:
        """The choices of :attr:`space` that a genotype stands for.

        Raises:
            GenotypeError: the genotype belongs to another space.
        """
        genotype.require_space(self.name, self.genotype_space)
        return dict(genotype.choices)

    def genotype_probabilities(self, probabilities: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
        """Probability of every option of every choice of :attr:`genotype_space`, from those of :attr:`space`."""
        return {
            name: dict(zip(map(str, self.space.categorical(name).options), p.double().tolist(), strict=True))
            for name, p in probabilities.items()
        }

    def resolve_choice(self, name: str) -> tuple[str, ...]:
        """The choices of :attr:`space` that a name stands for; spaces with aliases or factored choices override it.

        Raises:
            SpaceError: the name is unknown.
        """
        if name not in self.space:
            raise SpaceError(unknown_name(f"choice of {self.name}", name, self.space))
        return (name,)

    def fixed_choices(self, name: str, option: str) -> dict[str, str]:
        """The choices of :attr:`space` that ``search.fixed.<name>=<option>`` sets.

        Raises:
            SpaceError: the name or the option is unknown.
        """
        found = {}
        for choice in self.resolve_choice(name):
            try:
                found[choice] = str(self.space.categorical(choice).validate(option))
            except SpaceError as error:
                raise SpaceError(f"search.fixed.{name}={option}: {error}") from None
        return found

    def collapse_indicators(self, probabilities: Mapping[str, Tensor]) -> dict[str, float]:
        """Numbers that warn of a degenerate search of this space, for example the weight of skip connections."""
        del probabilities
        return {}

    def export_files(self, network: nn.Module, folder: Path) -> Mapping[str, Any]:
        """Write the found network in further forms of its field, beside ``bundle.pt``; a circuit as OpenQASM, say.

        Called again after an interruption: files are replaced.

        Args:
            network: the found network, trained, as it is shipped, in evaluation mode on the CPU.
            folder: exists.

        Returns:
            What is worth recording of them as plain data, for example a measured deviation; it enters ``export`` of
            ``metrics.json``.
        """
        del network, folder
        return {}

    def figures(self, network: nn.Module) -> Sequence[Figure]:
        """Pictures of the found network for the report.

        Args:
            network: the found network, trained, as it is shipped, in evaluation mode on the CPU.
        """
        del network
        return ()

    def check_gates(self, gates: Gates) -> None:
        """Refuse gates that the network cannot run.

        Raises:
            SpaceError: a choice has no gate, or its gate is of a kind the network does not support or was made for
                another number of options.
        """
        space, kinds = self.space, self.gate_kinds
        for name in space:
            gate = gates.get(name)
            if gate is None:
                raise SpaceError(f"Choice {name!r} of {self.name} was given no gate.")
            given, expected = gate.weights.shape[0], len(space.categorical(name).options)
            if given != expected:
                raise SpaceError(f"Choice {name!r} of {self.name} has {expected} options but its gate has {given}.")
            kind = gate.kind
            if kind not in kinds:
                raise SpaceError(
                    f"{self.name} cannot run a gate of kind {kind!r} (choice {name!r}); "
                    f"it supports {', '.join(sorted(self.gate_kinds))}. Choose another relaxation."
                )

    def _validated(self, choices: Mapping[str, str]) -> dict[str, str]:
        try:
            return {name: str(option) for name, option in self.space.validate(dict(choices)).items()}
        except SpaceError as error:
            raise GenotypeError(f"{self.name}: {error}") from None


class GatedSupernet(nn.Module):
    """A supernet as a network of inputs alone, under gates that stay as they are.

    Args:
        supernet: not copied.
        gates: of every choice, on the supernet's device.
    """

    def __init__(self, supernet: Supernet, gates: Gates) -> None:
        super().__init__()
        self.supernet, self.gates = supernet, gates

    def forward(self, x: Tensor) -> Any:
        """What the supernet gives under the gates."""
        return self.supernet(x, self.gates)
