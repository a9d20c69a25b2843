"""What the search module adds to the rules it runs."""

import pytest
import torch
from torch import Tensor

from darts_hpo.bilevel import BilevelRule, FirstOrder, SingleLevel, Unrolled
from darts_hpo.config import OptimizerConfig, ScheduleConfig
from darts_hpo.errors import ConfigError
from darts_hpo.relaxations import BinaryGates, GumbelSoftmax, Relaxation, ScoreFunction, Softmax
from darts_hpo.training.search import SearchModule, require_supported_gates
from darts_hpo.training.weight_training import WeightSchedule, weight_optimizer
from supernets.toy.network import ToySupernet
from supernets.toy.task import DigitsClassification

SCHEDULE = ScheduleConfig(
    warmup_epochs=2.0,
    warmup_min_steps=0,
    warmup_momentum=0.8,
    warmup_bias_lr=0.1,
    decay="constant",
    final_factor=1.0,
)


def searching(relaxation: Relaxation, supernet: ToySupernet, **settings: object) -> SearchModule:
    config = type("Config", (), {"optimizer": None, **settings})()
    return SearchModule(DigitsClassification(), supernet, relaxation, FirstOrder(), config, seed=0)


@pytest.mark.parametrize("kind", [BinaryGates, ScoreFunction])
def test_second_order_is_refused_before_anything_is_trained(kind: type[Relaxation]):
    supernet = ToySupernet()
    relaxation = kind(supernet.space, draws=4)
    for rule in (FirstOrder(), SingleLevel(), None):
        require_supported_gates(relaxation, supernet, rule)
    with pytest.raises(ConfigError, match="bilevel=first_order"):
        require_supported_gates(relaxation, supernet, Unrolled())
    config = type("Config", (), {"optimizer": None})()
    with pytest.raises(ConfigError, match="bilevel=first_order"):
        SearchModule(DigitsClassification(), supernet, relaxation, Unrolled(), config, seed=0)


def test_the_problem_draws_as_the_relaxation_says():
    supernet = ToySupernet()
    relaxation = ScoreFunction(supernet.space, draws=5, weight_draws=3)
    problem = searching(relaxation, supernet, clip_norm=None).problem(torch.optim.SGD(supernet.parameters(), lr=0.1))
    assert (problem.draws, problem.weight_draws) == (5, 3)
    assert problem.surrogate == relaxation.surrogate_loss


def test_a_regularizer_is_an_arch_term_of_its_own():
    supernet = ToySupernet()
    relaxation = Softmax(supernet.space, entropy_weight=0.5)
    module = searching(relaxation, supernet)
    relaxation.set_progress(1.0)
    terms = module._arch_terms(torch.tensor(1.0))
    assert float(terms["regularizer"].detach()) == pytest.approx(0.5 * relaxation.entropy())
    assert module._arch_terms(torch.tensor(1.0)).keys() == {"regularizer"}


class Notes(BilevelRule):
    """Notes what is drawn, instead of stepping."""

    def __init__(self) -> None:
        self.drawn: list[list[Tensor]] = []

    def arch_step(self, problem: object, train_batch: object, arch_batch: object) -> dict[str, Tensor]:
        raise NotImplementedError

    def step(self, problem, train_batch, arch_batch, *, update_logits=True):  # type: ignore[no-untyped-def]
        self.drawn.append([gate.weights for gate in problem.sample("weights").values()])
        return {}


def run_epoch(module: SearchModule, epoch: int, monkeypatch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    """Four steps of an epoch, without a trainer; gives what was drawn."""
    monkeypatch.setattr(SearchModule, "current_epoch", epoch)
    config = OptimizerConfig(name="sgd", lr=0.002, momentum=0.3, beta2=0.999, weight_decay=0.0)
    optimizer = weight_optimizer(DigitsClassification(), module.supernet, config)
    monkeypatch.setattr(SearchModule, "optimizers", lambda self: optimizer)
    module._schedule = WeightSchedule(config, SCHEDULE, steps_per_epoch=4, epochs=3)
    module.rule = Notes()
    for step in range(4):
        module.training_step({"train": None}, step)
    return module.rule.drawn


def made() -> SearchModule:
    supernet = ToySupernet()
    relaxation = GumbelSoftmax(supernet.space, hard=False, generator=torch.Generator().manual_seed(0))
    return searching(relaxation, supernet, epochs=3, arch_every=1, weights_only_epochs=0, clip_norm=None)


def test_schedules_of_the_relaxation_go_from_the_first_step_to_the_last(monkeypatch: pytest.MonkeyPatch):
    module, seen = made(), []
    set_progress = module.relaxation.set_progress
    monkeypatch.setattr(module.relaxation, "set_progress", lambda at: (seen.append(at), set_progress(at)))
    for epoch in range(3):
        run_epoch(module, epoch, monkeypatch)
    assert seen == [step / 11 for step in range(12)]
    assert module.relaxation.annealing.at(seen[-1]) == 0.1  # type: ignore[union-attr]


def test_a_resumed_search_draws_the_same_gates_at_the_same_temperature(monkeypatch: pytest.MonkeyPatch):
    straight, stopped, resumed = made(), made(), made()
    run_epoch(straight, 0, monkeypatch)
    run_epoch(stopped, 0, monkeypatch)
    checkpoint: dict[str, object] = {}
    stopped.on_save_checkpoint(checkpoint)
    resumed.on_load_checkpoint(checkpoint)
    assert resumed.relaxation.progress == straight.relaxation.progress == 3 / 11
    expected, found = (run_epoch(module, 1, monkeypatch) for module in (straight, resumed))
    for one, other in zip(expected, found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_penalty_sees_the_distribution_not_the_draw():
    supernet = ToySupernet()
    relaxation = BinaryGates(supernet.space)
    seen: list[dict[str, Tensor]] = []

    def penalty(loss: Tensor, distributions: dict[str, Tensor]) -> Tensor:
        seen.append(distributions)
        return sum((p * torch.arange(len(p))).sum() for p in distributions.values())

    config = type("Config", (), {"optimizer": None})()
    module = SearchModule(DigitsClassification(), supernet, relaxation, FirstOrder(), config, seed=0, penalty=penalty)
    terms = [module._arch_terms(torch.tensor(1.0))["penalty"] for _ in range(5)]
    assert len({float(term.detach()) for term in terms}) == 1
    for name, p in seen[0].items():
        assert torch.equal(p.detach(), relaxation.probabilities()[name])
    terms[0].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in relaxation.parameters())


@pytest.mark.parametrize(("name", "first_bias_lr"), [("sgd", 0.1), ("adamw", 0.0)])
def test_biases_warm_up_from_a_high_rate_under_sgd_only(name: str, first_bias_lr: float):
    config = OptimizerConfig(name=name, lr=0.002, momentum=0.3, beta2=0.99, weight_decay=0.0)
    optimizer = weight_optimizer(DigitsClassification(), ToySupernet(), config)
    schedule = WeightSchedule(config, SCHEDULE, steps_per_epoch=10, epochs=8)
    assert schedule.apply(optimizer, 0, 0).bias_lr == first_bias_lr
    values = schedule.apply(optimizer, 2, 0)
    assert (values.lr, values.bias_lr, values.momentum) == (0.002, 0.002, 0.3)
    for group in optimizer.param_groups:
        assert group["lr"] == 0.002
        assert (group["betas"][0] if "betas" in group else group["momentum"]) == 0.3
