"""What every supernet must fulfil: inherit :class:`SupernetConformance` and name the supernet."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from darts_hpo.costs import Cost, CostModel, Flops, Parameters, deployed
from darts_hpo.errors import GenotypeError, SpaceError
from darts_hpo.genotype import Genotype
from darts_hpo.normalization import frozen_batchnorm
from darts_hpo.report.figure import Figure
from darts_hpo.supernet import Gate, GateKind, MixedOp, Supernet, one_hot_gates
from darts_hpo.testing.memory import saved_tensor_bytes

_SEEDS = (0, 1, 2)


class SupernetConformance:
    """Tests of the :class:`~darts_hpo.supernet.Supernet` protocol.

    Example::

        class TestToySupernet(SupernetConformance):
            build, input_shape = staticmethod(ToySupernet), (1, 8, 8)

    Attributes:
        build: makes the supernet, on the CPU.
        input_shape: shape of one input, without the batch.
        tolerance: largest deviation of a derived network from its supernet, relative to the largest output.
        memory_ratio: most bytes kept by probed paths, relative to a single path.
    """

    build: ClassVar[Callable[[], Supernet]]
    input_shape: ClassVar[tuple[int, ...]]
    tolerance: ClassVar[float] = 1e-5
    memory_ratio: ClassVar[float] = 1.1

    @pytest.fixture
    def supernet(self) -> Supernet:
        """A supernet whose weights and statistics are all random, so that nothing agrees by chance."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            supernet = type(self).build()
            randomize_normalization(supernet)
        return supernet

    @pytest.fixture
    def example_input(self) -> Tensor:
        """Two inputs, uniform in [0, 1]."""
        return torch.rand(2, *self.input_shape, generator=torch.Generator().manual_seed(0))

    # -- the space -----------------------------------------------------------------------------------

    def test_choices_are_categorical_with_named_options(self, supernet: Supernet) -> None:
        """Every choice has options that are text."""
        assert len(supernet.space) > 0
        for space in (supernet.space, supernet.genotype_space):
            for name in space:
                assert all(isinstance(option, str) for option in space.categorical(name).options)

    def test_reference_is_a_point_of_the_space(self, supernet: Supernet) -> None:
        """The reference gives one valid option for every choice."""
        reference = dict(supernet.reference_choices())
        assert supernet.space.validate(reference) == reference

    @pytest.mark.parametrize("seed", _SEEDS)
    def test_genotype_round_trip(self, supernet: Supernet, seed: int) -> None:
        """Choices to genotype to JSON and back lose nothing."""
        genotype = supernet.genotype(random_choices(supernet, seed), {"seed": seed})
        genotype.require_space(supernet.name, supernet.genotype_space)
        restored = Genotype.from_json(json.loads(json.dumps(genotype.to_json())))
        assert restored == genotype
        assert restored.facts == genotype.facts
        # Factored choices may have several names for one architecture; the genotype is the canonical one.
        assert supernet.genotype(supernet.choices(restored)) == genotype

    def test_foreign_genotype_is_refused(self, supernet: Supernet) -> None:
        """A genotype of another space, or with an option that does not exist, derives nothing."""
        own = supernet.genotype(supernet.reference_choices())
        foreign = Genotype("another", "0" * 16, own.choices)
        unknown = Genotype(own.space, own.space_id, {**own.choices, next(iter(own.choices)): "no such option"})
        for genotype in (foreign, unknown):
            with pytest.raises(GenotypeError):
                supernet.choices(genotype)
            with pytest.raises(GenotypeError):
                supernet.derive(genotype)

    def test_unknown_choices_are_refused(self, supernet: Supernet) -> None:
        """A choice that does not exist makes no genotype and resolves to nothing."""
        with pytest.raises(GenotypeError):
            supernet.genotype({**supernet.reference_choices(), "no such choice": "x"})
        with pytest.raises(SpaceError):
            supernet.resolve_choice("no such choice")

    def test_every_choice_resolves_to_itself_or_its_factors(self, supernet: Supernet) -> None:
        """What a name stands for exists."""
        for name in supernet.space:
            assert set(supernet.resolve_choice(name)) <= set(supernet.space)

    def test_collapse_indicators_are_finite(self, supernet: Supernet) -> None:
        """The indicators take probabilities of every choice."""
        probabilities = {name: torch.full((n,), 1.0 / n) for name, n in option_counts(supernet).items()}
        for value in supernet.collapse_indicators(probabilities).values():
            assert isinstance(value, float)
            assert value == value

    # -- gates ---------------------------------------------------------------------------------------

    def test_gate_kinds(self, supernet: Supernet, example_input: Tensor) -> None:
        """Supported kinds give finite outputs; the others are refused, not run in some other way."""
        for kind, gates in gates_of_every_kind(supernet).items():
            if kind in supernet.gate_kinds:
                with frozen_batchnorm(supernet):
                    assert all(bool(t.isfinite().all()) for t in tensors_of(supernet(example_input, gates)))
            else:
                with pytest.raises(SpaceError):
                    supernet(example_input, gates)

    def test_missing_and_misshapen_gates_are_refused(self, supernet: Supernet, example_input: Tensor) -> None:
        """A choice without a gate, or a gate of another size, is an error that names the choice."""
        gates = one_hot_gates(supernet.space, supernet.reference_choices())
        name = next(reversed(list(gates)))
        n_options = option_counts(supernet)[name]
        missing = {key: gate for key, gate in gates.items() if key != name}
        misshapen = {**gates, name: Gate.one_hot(n_options + 1, 0)}
        for wrong in (missing, misshapen):
            with pytest.raises(SpaceError, match=name.replace(".", r"\.")):
                supernet(example_input, wrong)

    def test_mixture_reaches_every_weight(self, supernet: Supernet, example_input: Tensor) -> None:
        """Under soft gates every gate weight gets a finite gradient, and no choice is without effect."""
        if "mixture" not in supernet.gate_kinds:
            with pytest.raises(SpaceError):
                supernet(example_input, mixture_gates(supernet))
            return
        gates = mixture_gates(supernet)
        gradients = self._gate_gradients(supernet, example_input, gates)
        for name, gradient in gradients.items():
            assert bool(gradient.isfinite().all()), name
            assert bool((gradient != 0).any()), f"choice {name} has no effect on the output"

    def test_supernet_keeps_nothing_of_the_gates(self, supernet: Supernet, example_input: Tensor) -> None:
        """Weights and gates are disjoint: no gate becomes a parameter, a buffer, or memory of a pass."""
        supernet.eval()
        first = self._supported_gates(supernet, 0)
        before = {key: value.clone() for key, value in supernet.state_dict().items()}
        with torch.no_grad():
            one = tensors_of(supernet(example_input, first))
            supernet(example_input, self._supported_gates(supernet, 1))
            again = tensors_of(supernet(example_input, first))
        for a, b in zip(one, again, strict=True):
            assert torch.equal(a, b)
        after = supernet.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
        owned = {id(tensor) for tensor in (*supernet.parameters(), *supernet.buffers())}
        assert not owned & {id(gate.weights) for gate in first.values()}

    @pytest.mark.parametrize("seed", _SEEDS)
    def test_a_path_computes_its_active_options_only(
        self, supernet: Supernet, example_input: Tensor, seed: int
    ) -> None:
        """Each mixed operation calls its active option once and no other, with or without a gradient."""
        choices = random_choices(supernet, seed)
        for requires_grad in (False, True):
            gates = path_gates(supernet, choices, requires_grad=requires_grad)
            with frozen_batchnorm(supernet), option_calls(supernet) as calls:
                supernet(example_input, gates)
            for mixed in mixed_ops(supernet):
                expected = {gates[mixed.choice].active[0]: 1}
                assert calls[mixed] == expected, f"{mixed.choice} called {dict(calls[mixed])}"

    # -- probed paths (ProxylessNAS) -----------------------------------------------------------------

    def test_probing_recomputes_in_the_backward_pass_only(self, supernet: Supernet, example_input: Tensor) -> None:
        """Forward calls the active option, backward every other one, once each, and no statistics move."""
        if not self._probes(supernet, example_input):
            return
        gates = path_gates(supernet, random_choices(supernet, 0), probed=True)
        before = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
        with frozen_batchnorm(supernet), option_calls(supernet) as calls:
            loss = scalar(supernet(example_input, gates))
            for mixed in mixed_ops(supernet):
                assert calls[mixed] == {gates[mixed.choice].active[0]: 1}
            loss.backward()
        for mixed in mixed_ops(supernet):
            assert calls[mixed] == dict.fromkeys(range(len(mixed.options)), 1)
        assert all(torch.equal(before[name], buffer) for name, buffer in supernet.named_buffers())

    @pytest.mark.parametrize("seed", _SEEDS)
    def test_probed_gradients_equal_keeping_all_outputs(
        self, supernet: Supernet, example_input: Tensor, seed: int
    ) -> None:
        """Gradients of gate weights, input and weights are those of a full pass at the same gates.

        With d L / d w_j = <d L / d y, o_j(x)> (ProxylessNAS, arXiv 1812.00332, section 3.2) they are the
        derivatives of the mixture sum_j w_j o_j(x) at the one-hot w.
        """
        if not self._probes(supernet, example_input):
            return
        choices = random_choices(supernet, seed)
        kept = path_gates(supernet, choices, probed=True, keep_all=True)
        probed = path_gates(supernet, choices, probed=True)
        expected, actual = (self._all_gradients(supernet, example_input, gates) for gates in (kept, probed))
        for key, gradient in expected.items():
            scale = float(gradient.abs().max())
            assert float((actual[key] - gradient).abs().max()) <= 1e-4 * scale + 1e-7, key

    def test_probed_paths_keep_the_memory_of_one_path(self, supernet: Supernet, example_input: Tensor) -> None:
        """Bytes saved for the backward pass stay within :attr:`memory_ratio` of a plain single path."""
        if not self._probes(supernet, example_input):
            return
        own = (*supernet.parameters(), *supernet.buffers(), example_input)
        choices = dict(supernet.reference_choices())

        def saved(gates: Mapping[str, Gate]) -> int:
            with frozen_batchnorm(supernet):
                return saved_tensor_bytes(lambda: supernet(example_input, gates), own)

        single = saved(path_gates(supernet, choices))
        assert saved(path_gates(supernet, choices, probed=True)) <= self.memory_ratio * single

    # -- derived networks ----------------------------------------------------------------------------

    @pytest.mark.parametrize("seed", _SEEDS)
    def test_derived_network_equals_the_supernet_at_one_hot_gates(
        self, supernet: Supernet, example_input: Tensor, seed: int
    ) -> None:
        """With inherited weights, in evaluation mode."""
        choices = random_choices(supernet, seed)
        derived = supernet.derive(supernet.genotype(choices), inherit_weights=True).eval()
        with torch.no_grad():
            expected = tensors_of(supernet.eval()(example_input, one_hot_gates(supernet.space, choices)))
            actual = tensors_of(derived(example_input))
        assert len(expected) == len(actual) > 0
        for a, b in zip(expected, actual, strict=True):
            scale = max(1.0, float(a.abs().max()))
            assert float((a - b).abs().max()) <= self.tolerance * scale

    def test_inherited_weights_are_copies(self, supernet: Supernet) -> None:
        """Training a derived network leaves the supernet alone."""
        derived = supernet.derive(supernet.genotype(random_choices(supernet, 0)), inherit_weights=True)
        theirs = {t.untyped_storage().data_ptr() for t in supernet.state_dict().values() if t.numel()}
        ours = {t.untyped_storage().data_ptr() for t in derived.state_dict().values() if t.numel()}
        assert not theirs & ours

    def test_derived_network_has_fresh_weights_unless_it_inherits(self, supernet: Supernet) -> None:
        """Kernels that training changes are drawn anew, also between two derivations."""
        genotype = supernet.genotype(random_choices(supernet, 0))
        inherited, first, second = (
            dict(supernet.derive(genotype, inherit_weights=inherit).named_parameters())
            for inherit in (True, False, False)
        )
        kernels = [
            name
            for name, parameter in first.items()
            if parameter.requires_grad and parameter.ndim > 1 and parameter.unique().numel() > 1
        ]
        assert kernels
        for name in kernels:
            assert not torch.equal(first[name], inherited[name]), name
            assert not torch.equal(first[name], second[name]), name

    def test_derived_network_is_rebuilt_from_its_configuration(self, supernet: Supernet) -> None:
        """In training and in shipped form, from JSON, with the same weights: what a bundle does."""
        network = supernet.derive(supernet.genotype(random_choices(supernet, 0)))
        for form in (network, deployed(network)):
            config = json.loads(json.dumps(form.config()))  # type: ignore[operator]
            rebuilt = type(form).from_config(config)  # type: ignore[attr-defined]
            shapes, expected = ({k: v.shape for k, v in m.state_dict().items()} for m in (rebuilt, form))
            assert shapes == expected

    def test_derived_network_is_plain(self, supernet: Supernet) -> None:
        """No supernet and no mixed operation inside, and an object of its own each time."""
        derived = supernet.derive(supernet.genotype(random_choices(supernet, 0)))
        for name, module in derived.named_modules():
            assert not isinstance(module, (Supernet, MixedOp)), name
        assert copy.deepcopy(derived).state_dict().keys() == derived.state_dict().keys()

    def test_further_files_and_pictures_of_a_derived_network(self, supernet: Supernet, tmp_path: Path) -> None:
        """Written twice as after an interruption; what is recorded of them is JSON, and the network stays as it is."""
        derived = supernet.derive(supernet.genotype(random_choices(supernet, 0)))
        network = deployed(derived).eval()
        before = {key: value.clone() for key, value in network.state_dict().items()}
        first, second = (dict(supernet.export_files(network, tmp_path)) for _ in range(2))
        assert json.loads(json.dumps(first)) == first == second
        assert all(isinstance(figure, Figure) for figure in supernet.figures(network))
        assert not network.training
        assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())

    # -- costs ---------------------------------------------------------------------------------------

    def test_cost_units_build_plain_modules(self, supernet: Supernet) -> None:
        """Every unit names existing choices and runs on its input shape."""
        units = supernet.cost_units()
        assert len({unit.name for unit in units}) == len(units)
        for unit in units:
            assert unit.choices
            assert set(unit.choices) <= set(supernet.space)
            options = {name: str(supernet.space.categorical(name).options[-1]) for name in unit.choices}
            module = unit.build(options).eval()
            assert not any(isinstance(part, (Supernet, MixedOp)) for part in module.modules())
            with torch.no_grad():
                module(torch.zeros(1, *unit.input_shape))

    @pytest.mark.parametrize("cost", [Parameters(), Flops()], ids=lambda cost: cost.name)
    def test_cost_model_is_exact(self, supernet: Supernet, cost: Cost) -> None:
        """Fixed part plus units equal what the deployed network really costs, for random architectures."""
        model = CostModel.measure(supernet, cost, self.input_shape)
        model.require_supernet(supernet)
        for seed in _SEEDS:
            choices = random_choices(supernet, seed)
            network = deployed(supernet.derive(supernet.genotype(choices)))
            expected = cost.measure(network, self.input_shape)
            assert model.exact(choices) == pytest.approx(expected, rel=1e-9)
            gates = one_hot_gates(supernet.space, choices, torch.zeros((), dtype=torch.float64))
            assert float(model.expected(gates)) == pytest.approx(expected, rel=1e-9)

    # -- helpers -------------------------------------------------------------------------------------

    def _probes(self, supernet: Supernet, x: Tensor) -> bool:
        """Whether probed paths are supported; where not, that they are refused."""
        if "probed_path" in supernet.gate_kinds:
            return True
        with pytest.raises(SpaceError):
            supernet(x, path_gates(supernet, supernet.reference_choices(), probed=True))
        return False

    def _supported_gates(self, supernet: Supernet, seed: int) -> dict[str, Gate]:
        if "mixture" in supernet.gate_kinds:
            return mixture_gates(supernet, seed)
        return path_gates(supernet, random_choices(supernet, seed))

    def _gate_gradients(self, supernet: Supernet, x: Tensor, gates: Mapping[str, Gate]) -> dict[str, Tensor]:
        names = list(gates)
        with frozen_batchnorm(supernet):
            loss = scalar(supernet(x, gates))
            gradients = torch.autograd.grad(loss, [gates[name].weights for name in names], allow_unused=True)
        return {
            name: torch.zeros_like(gates[name].weights) if gradient is None else gradient
            for name, gradient in zip(names, gradients, strict=True)
        }

    def _all_gradients(self, supernet: Supernet, x: Tensor, gates: Mapping[str, Gate]) -> dict[str, Tensor]:
        x = x.clone().requires_grad_()
        weights = dict(supernet.named_parameters())
        sources = {**{f"gate {n}": g.weights for n, g in gates.items()}, "input": x, **weights}
        with frozen_batchnorm(supernet):
            loss = scalar(supernet(x, gates))
            gradients = torch.autograd.grad(loss, list(sources.values()), allow_unused=True)
        return {
            key: torch.zeros_like(source) if gradient is None else gradient
            for (key, source), gradient in zip(sources.items(), gradients, strict=True)
        }


# -- what other suites and tests can use as well -----------------------------------------------------


def random_choices(supernet: Supernet, seed: int) -> dict[str, str]:
    """A random option for every choice of the supernet's space."""
    point = supernet.space.sample(random.Random(seed))
    return {name: str(option) for name, option in point.items()}


def option_counts(supernet: Supernet) -> dict[str, int]:
    """Number of options of every choice."""
    return {name: len(supernet.space.categorical(name).options) for name in supernet.space}


def mixture_gates(supernet: Supernet, seed: int = 0) -> dict[str, Gate]:
    """Random soft gates over all options, with weights that require a gradient."""
    generator = torch.Generator().manual_seed(seed)
    gates = {}
    for name, n in option_counts(supernet).items():
        weights = torch.rand(n, generator=generator).add_(0.1)
        gates[name] = Gate((weights / weights.sum()).requires_grad_(), tuple(range(n)))
    return gates


def path_gates(
    supernet: Supernet,
    choices: Mapping[str, str],
    *,
    requires_grad: bool = False,
    probed: bool = False,
    keep_all: bool = False,
) -> dict[str, Gate]:
    """One-hot gates of some choices.

    Args:
        supernet: gives the space.
        choices: choice name to option name, complete.
        requires_grad: whether the weights require a gradient.
        probed: ask for the gradient of the inactive options' weights too.
        keep_all: with ``probed``, by computing all options in the forward pass instead of recomputing them.
    """
    gates = {}
    for name, gate in one_hot_gates(supernet.space, choices).items():
        weights = gate.weights.requires_grad_(requires_grad or probed)
        everything = tuple(range(len(weights)))
        if keep_all:
            gates[name] = Gate(weights, everything)
        elif probed:
            gates[name] = Gate(weights, gate.active, tuple(i for i in everything if i not in gate.active))
        else:
            gates[name] = Gate(weights, gate.active)
    return gates


def gates_of_every_kind(supernet: Supernet) -> dict[GateKind, dict[str, Gate]]:
    """Gates of each kind at random."""
    choices = random_choices(supernet, 0)
    return {
        "mixture": mixture_gates(supernet),
        "path": path_gates(supernet, choices),
        "probed_path": path_gates(supernet, choices, probed=True),
    }


def mixed_ops(supernet: Supernet) -> list[MixedOp]:
    """The mixed operations inside; empty where a supernet mixes in another way."""
    return [module for module in supernet.modules() if isinstance(module, MixedOp)]


@contextmanager
def option_calls(supernet: Supernet) -> Iterator[Mapping[MixedOp, Counter[int]]]:
    """Counts how often each option of each mixed operation is called inside the block."""
    calls: dict[MixedOp, Counter[int]] = {mixed: Counter() for mixed in mixed_ops(supernet)}
    handles = []
    for mixed, counter in calls.items():
        for position, option in enumerate(mixed.options.values()):

            def count(*_: object, counter: Counter[int] = counter, position: int = position) -> None:
                counter[position] += 1

            handles.append(option.register_forward_hook(count))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def tensors_of(output: Any) -> list[Tensor]:
    """The floating-point tensors in an output: a tensor, or nested tuples, lists and mappings of them."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        return [tensor for value in output.values() for tensor in tensors_of(value)]
    if isinstance(output, Sequence) and not isinstance(output, str):
        return [tensor for value in output for tensor in tensors_of(value)]
    return []


def scalar(output: Any) -> Tensor:
    """A generic scalar of a network's output: its tensors weighted by fixed random numbers."""
    generator = torch.Generator().manual_seed(0)
    terms = [
        (tensor * torch.randn(tensor.shape, generator=generator)).mean()
        for tensor in tensors_of(output)
        if tensor.requires_grad
    ]
    return torch.stack(terms).sum()


def randomize_normalization(network: nn.Module) -> None:
    """Give every BatchNorm layer random statistics and weights, so that leaving one out shows."""
    for layer in network.modules():
        if not isinstance(layer, _BatchNorm):
            continue
        with torch.no_grad():
            if layer.running_mean is not None and layer.running_var is not None:
                layer.running_mean.normal_(0.0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
            if layer.affine:
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(0.0, 0.1)
