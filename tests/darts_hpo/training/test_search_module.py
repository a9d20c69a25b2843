"""What the search module adds to the rules it runs."""

import pytest
import torch
from torch import Tensor

from darts_hpo.bilevel import FirstOrder
from darts_hpo.config import OptimizerConfig, ScheduleConfig
from darts_hpo.relaxations import BinaryGates
from darts_hpo.training.search import SearchModule
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


def test_a_penalty_sees_the_distribution_not_the_draw():
    supernet = ToySupernet()
    relaxation = BinaryGates(supernet.space)
    seen: list[dict[str, Tensor]] = []

    def penalty(loss: Tensor, distributions: dict[str, Tensor]) -> Tensor:
        seen.append(distributions)
        return sum((p * torch.arange(len(p))).sum() for p in distributions.values())

    config = type("Config", (), {"optimizer": None})()
    module = SearchModule(DigitsClassification(), supernet, relaxation, FirstOrder(), config, seed=0, penalty=penalty)
    terms = [module._arch_terms(module.sample("arch"), torch.tensor(1.0))["penalty"] for _ in range(5)]
    assert len({float(term.detach()) for term in terms}) == 1
    for name, p in seen[0].items():
        assert torch.equal(p.detach(), relaxation.probabilities()[name])
    terms[0].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in relaxation.parameters())


@pytest.mark.parametrize(("name", "first_bias_lr"), [("sgd", 0.1), ("adamw", 0.0)])
def test_biases_warm_up_from_a_high_rate_under_sgd_only(name: str, first_bias_lr: float):
    config = OptimizerConfig(name=name, lr=0.002, momentum=0.3, weight_decay=0.0)
    optimizer = weight_optimizer(DigitsClassification(), ToySupernet(), config)
    schedule = WeightSchedule(config, SCHEDULE, steps_per_epoch=10, epochs=8)
    assert schedule.apply(optimizer, 0, 0).bias_lr == first_bias_lr
    values = schedule.apply(optimizer, 2, 0)
    assert (values.lr, values.bias_lr, values.momentum) == (0.002, 0.002, 0.3)
    for group in optimizer.param_groups:
        assert group["lr"] == 0.002
        assert (group["betas"][0] if "betas" in group else group["momentum"]) == 0.3
