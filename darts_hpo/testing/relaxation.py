"""What every relaxation must fulfil: the suite that a relaxation inherits."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from darts_hpo.errors import ConfigError, SpaceError
from darts_hpo.relaxations.base import Phase, Relaxation
from darts_hpo.space import Categorical, Float, Space
from darts_hpo.supernet import Gate, Gates

SPACE = Space(
    {
        "stem": Categorical(("conv3", "conv5", "conv7")),
        "neck.p4": Categorical(("3x3_relu", "3x3_silu", "5x5_relu", "5x5_silu")),
        "neck.p5": Categorical(("skip", "conv3")),
    }
)
"""The space of the suite: three choices of different sizes, one name with a dot."""
PHASES: tuple[Phase, ...] = ("weights", "arch", "eval")


class RelaxationConformance:
    """The suite of a relaxation. Inherit it and name the relaxation.

    Example::

        class TestSoftmax(RelaxationConformance):
            relaxation = Softmax

    Attributes:
        relaxation: makes the relaxation from a space and the keywords of
            :class:`~darts_hpo.relaxations.base.Relaxation`; a class, or a :func:`functools.partial` of one.
    """

    relaxation: ClassVar[Callable[..., Relaxation]]

    def make(self, fixed: Mapping[str, str] | None = None, seed: int = 0, std: float = 0.7) -> Relaxation:
        """A relaxation over :data:`SPACE` in float64, its logits well apart."""
        generator = torch.Generator().manual_seed(seed)
        return type(self).relaxation(SPACE, fixed=fixed, init_std=std, generator=generator).double()

    # -- gates -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("phase", PHASES)
    def test_one_valid_gate_for_every_choice(self, phase: Phase) -> None:
        """Gates come in the space's order, of the declared kind; what is not computed has no weight."""
        relaxation = self.make()
        for seed in range(8):
            gates = relaxation.sample(phase, _generator(seed))
            assert list(gates) == list(SPACE)
            for name, gate in gates.items():
                n = len(SPACE.categorical(name).options)
                assert gate.weights.shape == (n,)
                assert bool(torch.isfinite(gate.weights).all())
                assert gate.kind == relaxation.kinds[phase]
                assert gate.active
                assert list(gate.active) == sorted(set(gate.active))
                assert not set(gate.active) & set(gate.probed)
                assert set(gate.active) | set(gate.probed) <= set(range(n))
                inactive = [i for i in range(n) if i not in gate.active]
                assert not gate.weights.detach()[inactive].count_nonzero(), "an option that is not computed has weight"
                if gate.log_prob is not None:
                    assert float(gate.log_prob.detach()) <= 0.0

    @pytest.mark.parametrize("phase", PHASES)
    def test_a_draw_is_a_function_of_the_generator_alone(self, phase: Phase) -> None:
        """The generator is the only source of randomness."""
        relaxation = self.make()
        generator = _generator(3)
        relaxation.sample(phase, generator)
        state, ambient = generator.get_state(), torch.get_rng_state()
        once = [relaxation.sample(phase, generator) for _ in range(4)]
        torch.rand(5)
        generator.set_state(state)
        again = [relaxation.sample(phase, generator) for _ in range(4)]
        torch.set_rng_state(ambient)
        relaxation.sample(phase, generator)
        assert torch.equal(ambient, torch.get_rng_state()), "a draw used the ambient random state"
        assert all(_same_gates(a, b) for a, b in zip(once, again, strict=True))

    def test_nothing_is_drawn_in_evaluation(self) -> None:
        """Evaluation gates do not depend on the generator."""
        relaxation = self.make()
        assert _same_gates(relaxation.sample("eval", _generator(0)), relaxation.sample("eval", _generator(1)))

    @pytest.mark.parametrize("phase", ["weights", "eval"])
    def test_only_arch_steps_carry_a_gradient(self, phase: Phase) -> None:
        """Outside arch steps nothing leads back to the logits."""
        for gate in self.make().sample(phase, _generator(0)).values():
            assert not gate.weights.requires_grad
            assert gate.log_prob is None or not gate.log_prob.requires_grad

    def test_every_logit_learns(self) -> None:
        """Every logit receives a finite gradient, through the gates or the surrogate loss."""
        relaxation = self.make()
        generator = _generator(0)
        moved = {name: torch.zeros_like(logits) for name, logits in relaxation.logits.items()}
        for _ in range(64):
            draws = [relaxation.sample("arch", generator) for _ in range(relaxation.draws)]
            losses = [_linear_loss(gates) for gates in draws]
            assert all(loss.requires_grad == relaxation.differentiable for loss in losses)
            surrogate = relaxation.surrogate_loss(draws, [loss.detach() for loss in losses])
            assert (surrogate is None) == relaxation.differentiable
            total = torch.stack(losses).mean() if surrogate is None else surrogate
            for name, gradient in zip(
                relaxation.logits, torch.autograd.grad(total, list(relaxation.logits.values())), strict=True
            ):
                assert bool(torch.isfinite(gradient).all())
                moved[name] += gradient.abs()
        assert all(bool((total > 0).all()) for total in moved.values())

    def test_numbers_of_draws_are_positive(self) -> None:
        """Every step draws at least once."""
        relaxation = self.make()
        assert relaxation.draws >= 1
        assert relaxation.weight_draws >= 1

    # -- fixed choices ---------------------------------------------------------------------------------------

    @pytest.mark.parametrize("phase", PHASES)
    def test_a_fixed_choice_is_one_hot_without_logits(self, phase: Phase) -> None:
        """A fixed choice is decided in every phase and owns no parameter."""
        relaxation = self.make(fixed={"neck.p4": "5x5_relu"})
        assert relaxation.searched == ("stem", "neck.p5")
        assert [len(p) for p in relaxation.parameters()] == [3, 2]
        gate = relaxation.sample(phase, _generator(0))["neck.p4"]
        assert gate.weights.tolist() == [0.0, 0.0, 1.0, 0.0]
        assert gate.weights.dtype == torch.float64
        assert (gate.active, gate.probed, gate.weights.requires_grad) == ((2,), (), False)
        assert relaxation.probabilities()["neck.p4"].tolist() == [0.0, 0.0, 1.0, 0.0]
        assert relaxation.argmax()["neck.p4"] == "5x5_relu"

    def test_everything_fixed_leaves_no_parameters(self) -> None:
        """With every choice fixed there is nothing to search."""
        choices = {"stem": "conv5", "neck.p4": "3x3_silu", "neck.p5": "skip"}
        relaxation = self.make(fixed=choices)
        assert not list(relaxation.parameters())
        assert relaxation.argmax() == choices
        assert relaxation.entropy() == 0.0
        assert {gate.kind for gate in relaxation.sample("arch", _generator(0)).values()} == {"path"}

    def test_unknown_fixed_names_are_refused_with_the_nearest(self) -> None:
        """A misspelt choice or option is refused with a suggestion."""
        with pytest.raises(SpaceError, match=r"search\.fixed\.neck\.p44.*Did you mean 'neck\.p4'"):
            self.make(fixed={"neck.p44": "3x3_relu"})
        with pytest.raises(SpaceError, match=r"search\.fixed\.neck\.p4=3x3_rleu.*Did you mean '3x3_relu'"):
            self.make(fixed={"neck.p4": "3x3_rleu"})

    def test_a_parameter_without_options_is_refused(self) -> None:
        """Only categorical parameters can be relaxed."""
        with pytest.raises(SpaceError, match=r"'lr' is a Float, expected a Categorical"):
            type(self).relaxation(Space({"lr": Float(0.0, 1.0)}))

    # -- diagnostics -----------------------------------------------------------------------------------------

    def test_probabilities_are_a_distribution(self) -> None:
        """Reported probabilities are non-negative, sum to one and carry no gradient."""
        probabilities = self.make().probabilities()
        assert list(probabilities) == list(SPACE)
        for p in probabilities.values():
            assert not p.requires_grad
            assert float(p.min()) >= 0.0
            assert float(p.sum()) == pytest.approx(1.0, abs=1e-12)

    def test_entropy_is_one_undecided_and_zero_decided(self) -> None:
        """The entropy spans its documented range."""
        relaxation = self.make()
        assert 0.0 < relaxation.entropy() < 1.0
        _set_logits(relaxation, lambda logits: torch.zeros_like(logits))
        assert relaxation.entropy() == pytest.approx(1.0, abs=1e-12)
        _set_logits(relaxation, lambda logits: torch.full_like(logits, -800.0).index_fill(0, torch.tensor([1]), 800.0))
        assert relaxation.entropy() == pytest.approx(0.0, abs=1e-12)
        assert relaxation.argmax() == {"stem": "conv5", "neck.p4": "3x3_silu", "neck.p5": "conv3"}

    def test_the_first_of_equals_wins(self) -> None:
        """Ties are decided by the space's order."""
        relaxation = self.make()
        _set_logits(relaxation, lambda logits: torch.zeros_like(logits))
        assert relaxation.argmax() == {"stem": "conv3", "neck.p4": "3x3_relu", "neck.p5": "skip"}
        _set_logits(relaxation, lambda logits: torch.ones_like(logits).index_fill(0, torch.tensor([0]), 0.0))
        assert relaxation.argmax() == {"stem": "conv5", "neck.p4": "3x3_silu", "neck.p5": "conv3"}

    def test_the_entropy_weight_ramps_up_over_the_search(self) -> None:
        """``entropy_weight * ramp * entropy``, with the gradient of the entropy; off by default."""
        assert self.make().regularizer() is None
        relaxation = type(self).relaxation(SPACE, init_std=0.7, entropy_weight=2.0, entropy_start=0.5).double()
        for progress, ramp in ((0.0, 0.0), (0.5, 0.0), (0.75, 0.5), (1.0, 1.0)):
            relaxation.set_progress(progress)
            term = relaxation.regularizer()
            assert term is not None
            assert float(term.detach()) == pytest.approx(2.0 * ramp * relaxation.entropy(), rel=1e-12)
        before, logits = relaxation.entropy(), list(relaxation.parameters())
        term = relaxation.regularizer()
        assert term is not None
        for parameter, gradient in zip(logits, torch.autograd.grad(term, logits), strict=True):
            parameter.data -= 1e-3 * gradient
        assert relaxation.entropy() < before, "its gradient must lower the entropy"

    def test_the_gradient_of_the_entropy_stays_finite(self) -> None:
        """Even where an option's probability is exactly zero."""
        relaxation = type(self).relaxation(SPACE, entropy_weight=1.0).double()
        relaxation.set_progress(1.0)
        _set_logits(relaxation, lambda logits: torch.full_like(logits, -800.0).index_fill(0, torch.tensor([1]), 800.0))
        term = relaxation.regularizer()
        assert term is not None
        term.backward()
        assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in relaxation.parameters())

    def test_an_entropy_weight_out_of_range_is_refused(self) -> None:
        """With the key to type."""
        for settings in ({"entropy_weight": -1.0}, {"entropy_start": 1.0}):
            with pytest.raises(ConfigError, match=f"relaxation.{next(iter(settings))}="):
                type(self).relaxation(SPACE, **settings)

    # -- state -----------------------------------------------------------------------------------------------

    def test_initial_logits_come_from_the_generator(self) -> None:
        """The initial logits are reproducible, and small where asked to be."""
        same = zip(self.make(seed=1).parameters(), self.make(seed=1).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in same)
        other = zip(self.make(seed=1).parameters(), self.make(seed=2).parameters(), strict=True)
        assert not any(torch.equal(a, b) for a, b in other)
        assert max(float(p.detach().abs().max()) for p in self.make(std=1e-3).parameters()) < 1e-2

    def test_the_state_survives_a_checkpoint(self) -> None:
        """A state dict of plain containers restores every gate."""
        source, target = self.make(seed=1), self.make(seed=2)
        file = io.BytesIO()
        torch.save(source.state_dict(), file)
        file.seek(0)
        target.load_state_dict(torch.load(file, weights_only=True))
        for phase in PHASES:
            assert _same_gates(source.sample(phase, _generator(0)), target.sample(phase, _generator(0)))
        assert source.argmax() == target.argmax()

    def test_progress_is_a_pure_function(self) -> None:
        """Schedules depend on where the search is, not on how it came there."""
        straight, wandering = self.make(), self.make()
        ambient = torch.get_rng_state()
        straight.set_progress(0.25)
        for progress in (0.0, 1.0, 0.5, 0.25):
            wandering.set_progress(progress)
        assert torch.equal(ambient, torch.get_rng_state())
        assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), wandering.parameters(), strict=True))
        for phase in PHASES:
            assert _same_gates(straight.sample(phase, _generator(0)), wandering.sample(phase, _generator(0)))

    def test_the_hook_after_an_arch_step_keeps_the_logits_finite(self) -> None:
        """The hook may be called after any draw."""
        relaxation = self.make()
        relaxation.sample("arch", _generator(0))
        relaxation.after_arch_step()
        assert all(bool(torch.isfinite(p).all()) for p in relaxation.parameters())


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _linear_loss(gates: Gates) -> Tensor:
    loss = torch.zeros((), dtype=torch.float64)
    for gate in gates.values():
        loss = loss + (gate.weights * torch.linspace(1.0, 2.0, len(gate.weights), dtype=torch.float64)).sum()
    return loss


def _same_gates(one: Gates, other: Gates) -> bool:
    return list(one) == list(other) and all(_same_gate(one[name], other[name]) for name in one)


def _same_gate(a: Gate, b: Gate) -> bool:
    if (a.active, a.probed) != (b.active, b.probed) or not torch.equal(a.weights, b.weights):
        return False
    if a.log_prob is None or b.log_prob is None:
        return a.log_prob is b.log_prob
    return torch.equal(a.log_prob, b.log_prob)


@torch.no_grad()
def _set_logits(relaxation: Relaxation, value: Callable[[Tensor], Tensor]) -> None:
    for logits in relaxation.parameters():
        logits.copy_(value(logits))
