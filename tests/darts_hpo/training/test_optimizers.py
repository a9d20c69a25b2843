"""Decay reaches kernels only, and a schedule's values reach every group."""

import pytest
import torch
from torch import nn

from darts_hpo.errors import ConfigError
from darts_hpo.training.optimizers import apply_schedule, build_optimizer
from darts_hpo.training.schedules import Schedule, ScheduleValues
from darts_hpo.training.task import split_by_decay


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))


def roles(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, object]]:
    return {group["role"]: group for group in optimizer.param_groups}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_only_kernels_decay(name: str) -> None:
    net = network()
    groups = roles(build_optimizer(split_by_decay(net), name=name, lr=0.01, momentum=0.9, weight_decay=5e-4))
    assert {role: group["weight_decay"] for role, group in groups.items()} == {
        "decay": 5e-4,
        "no_decay": 0.0,
        "bias": 0.0,
    }
    assert [p.shape for p in groups["decay"]["params"]] == [net[0].weight.shape, net[2].weight.shape]  # type: ignore[attr-defined]


def test_sgd_is_nesterov_as_in_its_formula() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, -2.0]], dtype=torch.float64))
    optimizer = build_optimizer([{"params": [weight], "role": "decay"}], lr=0.1, momentum=0.9, weight_decay=0.01)
    w, velocity = weight.detach().clone(), torch.zeros_like(weight)
    for step in range(3):
        gradient = torch.tensor([[0.5, step - 1.0]], dtype=torch.float64)
        weight.grad = gradient.clone()
        optimizer.step()
        decayed = gradient + 0.01 * w
        velocity = 0.9 * velocity + decayed
        w = w - 0.1 * (decayed + 0.9 * velocity)
    torch.testing.assert_close(weight.detach(), w)


def test_momentum_of_zero_is_plain_gradient_descent() -> None:
    weight = nn.Parameter(torch.tensor([[1.0]]))
    optimizer = build_optimizer([{"params": [weight], "role": "decay"}], lr=0.5, momentum=0.0, weight_decay=0.0)
    for _ in range(2):
        weight.grad = torch.tensor([[1.0]])
        optimizer.step()
    assert weight.item() == 0.0


def test_configured_values_are_in_the_optimizer_after_warm_up() -> None:
    schedule = Schedule(lr=0.00053, momentum=0.326, warmup_epochs=1)
    for name in ("sgd", "adamw"):
        optimizer = build_optimizer(
            split_by_decay(network()), name=name, lr=schedule.lr, momentum=schedule.momentum, weight_decay=0.0
        )
        for step in range(schedule.warmup_steps(10, 40) + 1):
            apply_schedule(optimizer, schedule.at(step, 10, 40))
        for group in optimizer.param_groups:
            assert group["lr"] == 0.00053
            assert (group["betas"][0] if name == "adamw" else group["momentum"]) == 0.326


def test_biases_have_their_own_rate() -> None:
    optimizer = build_optimizer(split_by_decay(network()), name="adamw", lr=0.1, momentum=0.9, weight_decay=0.0)
    apply_schedule(optimizer, ScheduleValues(lr=0.01, bias_lr=0.07, momentum=0.5))
    groups = roles(optimizer)
    assert [groups[role]["lr"] for role in ("decay", "no_decay", "bias")] == [0.01, 0.01, 0.07]
    assert groups["bias"]["betas"] == (0.5, 0.999)


def test_adamw_is_its_formula_with_both_betas() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, -2.0]], dtype=torch.float64))
    groups = [{"params": [weight], "role": "decay"}]
    optimizer = build_optimizer(groups, name="adamw", lr=0.1, momentum=0.6, beta2=0.7, weight_decay=0.01)
    apply_schedule(optimizer, ScheduleValues(lr=0.1, bias_lr=0.1, momentum=0.6))
    w, mean, square = weight.detach().clone(), 0.0, 0.0
    for step in range(1, 4):
        gradient = torch.tensor([[0.5, step - 1.5]], dtype=torch.float64)
        weight.grad = gradient.clone()
        optimizer.step()
        mean, square = 0.6 * mean + 0.4 * gradient, 0.7 * square + 0.3 * gradient**2
        update = (mean / (1 - 0.6**step)) / ((square / (1 - 0.7**step)).sqrt() + 1e-8)
        w = w - 0.1 * 0.01 * w - 0.1 * update
    torch.testing.assert_close(weight.detach(), w)


def test_sgd_has_no_use_for_the_second_beta() -> None:
    optimizer = build_optimizer(split_by_decay(network()), lr=0.1, momentum=0.9, beta2=0.5, weight_decay=0.0)
    assert all("betas" not in group for group in optimizer.param_groups)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "sdg"}, "Unknown optimizer: 'sdg'. Did you mean 'sgd'"),
        ({"lr": -1.0}, "lr must be"),
        ({"momentum": 1.0}, "momentum must be"),
        ({"beta2": 1.0}, "beta2 must be"),
        ({"beta2": float("nan")}, "beta2 must be"),
        ({"weight_decay": float("nan")}, "weight_decay must be"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings: dict[str, object], message: str) -> None:
    plain: dict[str, object] = {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0}
    with pytest.raises(ConfigError, match=message):
        build_optimizer(split_by_decay(network()), **{**plain, **settings})  # type: ignore[arg-type]
