import pytest
import torch
from torch import nn

from darts_hpo.normalization import frozen_batchnorm, recalibrate_batchnorm


def _network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def _buffers(network):
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


def _equal(before, network):
    return all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())


def _batches(n, size=8):
    generator = torch.Generator().manual_seed(1)
    return [3 + 2 * torch.randn(size, 2, 4, 4, generator=generator) for _ in range(n)]


# -- freezing ----------------------------------------------------------------------------------------


def test_frozen_layers_normalize_by_the_batch_and_keep_their_statistics():
    network = _network()
    (x,) = _batches(1)
    expected = network(x)
    before = _buffers(network)
    with frozen_batchnorm(network):
        out = network(x)
        assert torch.equal(out, expected)
        assert abs(float(out.detach().mean())) < 1e-5  # the last layer's batch statistics, not the running ones
    assert _equal(before, network)
    network(x)
    assert not _equal(before, network)  # afterwards they move again


def test_layers_in_evaluation_mode_are_left_as_they_are():
    network = _network().eval()
    (x,) = _batches(1)
    expected = network(x)
    with frozen_batchnorm(network):
        assert torch.equal(network(x), expected)
    assert all(layer.track_running_stats for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))


def test_freezing_nests_and_survives_errors():
    network = _network()
    before = _buffers(network)

    def fails():
        with frozen_batchnorm(network):
            with frozen_batchnorm(network):
                network(_batches(1)[0])
            network(_batches(1)[0])  # the inner block must not have thawed it
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fails()
    assert _equal(before, network)
    assert all(layer.track_running_stats for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))


def test_layers_without_statistics_stay_without():
    network = nn.BatchNorm2d(2, track_running_stats=False)
    with frozen_batchnorm(network):
        pass
    assert not network.track_running_stats


# -- recalibration -----------------------------------------------------------------------------------


def test_statistics_are_the_mean_over_batches_by_hand():
    network = _network()
    batches = _batches(5)
    for batch in _batches(3):  # something to forget
        network(10 * batch)
    assert recalibrate_batchnorm(network, network, iter(batches)) == 5
    means, variances = [], []
    with torch.no_grad():
        for batch in batches:
            features = network[0](batch).transpose(0, 1).flatten(1)
            means.append(features.mean(1))
            variances.append(features.var(1, unbiased=True))
    assert torch.allclose(network[1].running_mean, torch.stack(means).mean(0), atol=1e-5)
    assert torch.allclose(network[1].running_var, torch.stack(variances).mean(0), rtol=1e-4)
    assert int(network[1].num_batches_tracked) == 5


def test_deeper_layers_see_batch_normalized_inputs():
    network = _network()
    batches = _batches(2)
    recalibrate_batchnorm(network, network, batches)
    with torch.no_grad(), frozen_batchnorm(network):
        features = [network[:4](batch).transpose(0, 1).flatten(1) for batch in batches]
    expected = torch.stack([f.mean(1) for f in features]).mean(0)
    assert torch.allclose(network[4].running_mean, expected, atol=1e-5)


def test_weights_modes_and_momenta_are_restored():
    network = _network().eval()
    network[1].train()
    network[4].momentum = 0.03
    weights = {name: parameter.clone() for name, parameter in network.named_parameters()}
    modes = [part.training for part in network.modules()]
    recalibrate_batchnorm(network, network, _batches(2))
    assert [part.training for part in network.modules()] == modes
    assert (network[1].momentum, network[4].momentum) == (0.1, 0.03)
    assert all(torch.equal(weights[name], parameter) for name, parameter in network.named_parameters())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_without_batches_nothing_is_reset():
    network = _network()
    network(_batches(1)[0])
    before = _buffers(network)
    assert recalibrate_batchnorm(network, network, []) == 0
    assert _equal(before, network)


def test_an_error_restores_modes_and_momenta():
    network = _network().eval()

    def fails(batch):
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        recalibrate_batchnorm(network, fails, _batches(1))
    assert not any(part.training for part in network.modules())
    assert network[1].momentum == 0.1
