"""The average equals its recursion, covers BatchNorm and survives a restart."""

import io
import math

import torch
from torch import nn

from darts_hpo.training.ema import WeightAverage, ramp_for


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Dropout())


def move(net: nn.Sequential, seed: int) -> None:
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        net.train()(torch.randn(4, 2, 5, 5, generator=generator))
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))


def test_follows_the_recursion_for_weights_and_statistics() -> None:
    net = network()
    average = WeightAverage(net, decay=0.9, tau=5)
    expected = {name: value.clone() for name, value in net.state_dict().items()}
    for step in range(1, 8):
        move(net, step)
        average.update(net)
        d = 0.9 * (1 - math.exp(-step / 5))
        for name, value in net.state_dict().items():
            expected[name] = d * expected[name] + (1 - d) * value if value.is_floating_point() else value.clone()
    for name, value in average.network.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
    assert not torch.equal(average.network[1].running_mean, net[1].running_mean)


def test_a_still_network_is_reproduced_exactly() -> None:
    net = network()
    average = WeightAverage(net, decay=0.99, tau=1)
    for _ in range(20):
        average.update(net)
    for name, value in average.network.state_dict().items():
        assert torch.equal(value, net.state_dict()[name])


def test_is_apart_from_the_network_and_ready_to_predict() -> None:
    net = network()
    average = WeightAverage(net)
    move(net, 1)
    assert not torch.equal(average.network[0].weight, net[0].weight)
    assert not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_continues_bit_equally_from_plain_containers() -> None:
    net = network()
    straight = WeightAverage(net, decay=0.9, tau=3)
    for step in range(3):
        move(net, step)
        straight.update(net)
    buffer = io.BytesIO()
    torch.save(straight.state_dict(), buffer)
    resumed = WeightAverage(network(), decay=0.9, tau=3)
    resumed.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    move(net, 9)
    straight.update(net)
    resumed.update(net)
    for name, value in straight.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name])


def test_ramp_follows_the_length_of_the_training() -> None:
    assert ramp_for(1_000_000) == 2000
    assert ramp_for(800) == 160
    assert ramp_for(1) == 1
