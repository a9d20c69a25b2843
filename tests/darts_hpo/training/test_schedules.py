"""Warm-up and decay hit their values exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts_hpo.errors import ConfigError
from darts_hpo.training.schedules import DECAYS, Schedule


@given(
    lr=st.floats(1e-6, 10),
    momentum=st.floats(0, 0.999),
    decay=st.sampled_from(sorted(DECAYS)),
    steps=st.integers(1, 400),
    epochs=st.integers(2, 300),
    warmup=st.floats(0, 10),
)
def test_configured_values_are_exact_after_warm_up(
    lr: float, momentum: float, decay: str, steps: int, epochs: int, warmup: float
) -> None:
    schedule = Schedule(lr, momentum, decay, warmup_epochs=warmup)
    first = schedule.warmup_steps(steps, epochs)
    values = schedule.at(first, steps, epochs)
    assert (values.lr, values.bias_lr, values.momentum) == (lr, lr, momentum)
    last = schedule.at(steps * epochs - 1, steps, epochs)
    assert last.momentum == momentum
    if first < steps * epochs - 1:
        assert last.lr == pytest.approx(lr if decay == "constant" else 0.01 * lr, rel=1e-9)
    assert schedule.at(10 * steps * epochs, steps, epochs) == last


@pytest.mark.parametrize("decay", sorted(DECAYS))
def test_rate_rises_then_never_rises_again(decay: str) -> None:
    schedule = Schedule(0.02, 0.9, decay, final_factor=0.1, warmup_epochs=2, warmup_min_steps=0)
    rates = [schedule.at(step, 10, 12).lr for step in range(120)]
    assert rates[0] == 0
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert max(rates) == 0.02


def test_warm_up_is_linear_for_weights_biases_and_momentum() -> None:
    schedule = Schedule(0.01, 0.937, warmup_epochs=2, warmup_min_steps=0)
    start, half = schedule.at(0, 10, 100), schedule.at(10, 10, 100)
    assert (start.lr, start.bias_lr, start.momentum) == (0.0, 0.1, 0.8)
    assert half.lr == pytest.approx(0.005)
    assert half.bias_lr == pytest.approx(0.055)
    assert half.momentum == pytest.approx(0.8685)


def test_momentum_ramps_down_to_a_smaller_configured_one() -> None:
    schedule = Schedule(0.01, 0.3, warmup_epochs=1, warmup_min_steps=0)
    momenta = [schedule.at(step, 10, 10).momentum for step in range(12)]
    assert momenta[:11] == sorted(momenta[:11], reverse=True)
    assert momenta[10] == momenta[11] == 0.3


def test_shapes_of_the_decays() -> None:
    middles = {}
    for decay in DECAYS:
        schedule = Schedule(1.0, 0.9, decay, final_factor=0.0, warmup_epochs=0)
        middles[decay] = [schedule.at(step, 1, 5).lr for step in (1, 2)]
    assert middles["linear"] == pytest.approx([0.75, 0.5])
    assert middles["cosine"] == pytest.approx([0.8535534, 0.5])
    assert middles["constant"] == [1.0, 1.0]


def test_warm_up_length() -> None:
    schedule = Schedule(0.01, 0.9, warmup_epochs=3, warmup_min_steps=100)
    assert schedule.warmup_steps(1000, 10) == 3000
    assert schedule.warmup_steps(13, 60) == 100
    assert schedule.warmup_steps(13, 4) == 26  # half of a short training
    assert Schedule(0.01, 0.9, warmup_epochs=0).warmup_steps(13, 60) == 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lr", 0.0),
        ("lr", float("nan")),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("final_factor", 1.5),
        ("warmup_epochs", -1.0),
        ("warmup_min_steps", -1),
        ("warmup_bias_lr", -0.1),
        ("warmup_momentum", 1.0),
    ],
)
def test_values_out_of_range_are_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"^{setting} must be"):
        Schedule(**{"lr": 0.01, "momentum": 0.9, setting: value})  # type: ignore[arg-type]


def test_unknown_decay_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'cosine'"):
        Schedule(0.01, 0.9, "cosin")
