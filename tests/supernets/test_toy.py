import json

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from darts_hpo.costs import CostModel, Flops, Latency, Parameters
from darts_hpo.errors import ConfigError, DataError, RunDirectoryError
from darts_hpo.supernet import Gate, MixedOp
from darts_hpo.testing.supernet import SupernetConformance, option_counts
from supernets.toy.network import OPTIONS, STAGES, ToyNetwork, ToySupernet
from supernets.toy.task import DigitsBatch, DigitsClassification, _shift


@pytest.fixture(autouse=True)
def _one_thread():
    """Tensors here are so small that a second thread only costs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class TestToySupernet(SupernetConformance):
    build, input_shape = staticmethod(ToySupernet), (1, 8, 8)


# -- the conformance suite can fail: each defect is caught by the check that is meant for it ---------


class _ForgetsStatistics(ToySupernet):
    def derive(self, genotype, *, inherit_weights=False):
        network = super().derive(genotype, inherit_weights=inherit_weights)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
        return network


class _InheritsAlways(ToySupernet):
    def derive(self, genotype, *, inherit_weights=False):
        return super().derive(genotype, inherit_weights=True)


class _SharesWeights(ToySupernet):
    def derive(self, genotype, *, inherit_weights=False):
        network = super().derive(genotype, inherit_weights=inherit_weights)
        if inherit_weights:
            network.frame.classifier.weight = self.frame.classifier.weight
        return network


class _CannotBeRebuilt(ToySupernet):
    def derive(self, genotype, *, inherit_weights=False):
        network = super().derive(genotype, inherit_weights=inherit_weights)
        network.config = lambda: {"operations": dict.fromkeys(network.stages, "skip")}
        return network


class _KeepsSupernetCode(ToySupernet):
    def derive(self, genotype, *, inherit_weights=False):
        network = super().derive(genotype, inherit_weights=inherit_weights)
        network.stages["stage1"] = MixedOp("stage1.op", {"only": network.stages["stage1"]})
        return network


class _RunsEverything(ToySupernet):
    def forward(self, x, gates):
        full = {n: Gate(g.weights, tuple(range(len(g.weights)))) for n, g in gates.items()}
        return super().forward(x, full)


class _KeepsAllOutputs(ToySupernet):
    def forward(self, x, gates):
        kept = {n: Gate(g.weights, tuple(sorted(g.active + g.probed))) for n, g in gates.items()}
        return super().forward(x, kept)


class _ProbesNothing(ToySupernet):
    def forward(self, x, gates):
        return super().forward(x, {n: Gate(g.weights, g.active) for n, g in gates.items()})


class _IgnoresOneChoice(ToySupernet):
    def forward(self, x, gates):
        stage = gates["stage2.op"]
        return super().forward(x, {**gates, "stage2.op": Gate.one_hot(len(stage.weights), 0)})


class _WrongInputShape(ToySupernet):
    def _cost_unit(self, stage):
        unit = super()._cost_unit(stage)
        channels, height, width = unit.input_shape
        return type(unit)(unit.name, unit.choices, unit.build, (channels, height // 2, width))


class _Remembers(ToySupernet):
    def forward(self, x, gates):
        out = super().forward(x, gates) + getattr(self, "last", 0.0)
        self.last = out.detach()
        return out


@pytest.mark.parametrize(
    ("defect", "check", "extra"),
    [
        (_ForgetsStatistics, "test_derived_network_equals_the_supernet_at_one_hot_gates", (0,)),
        (_InheritsAlways, "test_derived_network_has_fresh_weights_unless_it_inherits", None),
        (_SharesWeights, "test_inherited_weights_are_copies", None),
        (_KeepsSupernetCode, "test_derived_network_is_plain", None),
        (_CannotBeRebuilt, "test_derived_network_is_rebuilt_from_its_configuration", None),
        (_RunsEverything, "test_a_path_computes_its_active_options_only", (0,)),
        (_KeepsAllOutputs, "test_probed_paths_keep_the_memory_of_one_path", ()),
        (_KeepsAllOutputs, "test_probing_recomputes_in_the_backward_pass_only", ()),
        (_ProbesNothing, "test_probed_gradients_equal_keeping_all_outputs", (0,)),
        (_IgnoresOneChoice, "test_mixture_reaches_every_weight", ()),
        (_Remembers, "test_supernet_keeps_nothing_of_the_gates", ()),
    ],
)
def test_conformance_catches(defect, check, extra):
    suite = TestToySupernet()
    torch.manual_seed(0)
    supernet = defect()
    for layer in supernet.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
    arguments = (supernet,) if extra is None else (supernet, torch.rand(2, 1, 8, 8), *extra)
    with pytest.raises(AssertionError):
        getattr(suite, check)(*arguments)


def test_conformance_catches_a_wrong_input_shape():
    with pytest.raises(AssertionError):
        TestToySupernet().test_cost_model_is_exact(_WrongInputShape(), Flops())


# -- the network -------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", OPTIONS)
def test_options_keep_the_shape(option):
    x = torch.rand(2, 6, 4, 4)
    assert OPTIONS[option](6, True)(x).shape == x.shape


def test_parameter_count_by_hand():
    w = 4
    network = ToyNetwork(dict(zip(STAGES, ("conv3x3", "depthwise3x3", "conv5x5", "skip"), strict=True)), width=w)
    stem = 9 * w + 2 * w
    halve = 9 * w * 2 * w + 4 * w
    stages = (9 * w * w + 2 * w) + (9 * w + w * w + 2 * w) + (25 * 4 * w * w + 4 * w)
    classifier = 2 * w * 10 + 10
    assert Parameters().measure(network, (1, 8, 8)) == stem + halve + stages + classifier


def test_network_rebuilds_from_json():
    network = ToyNetwork(dict.fromkeys(STAGES, "maxpool3x3"), num_classes=3, in_channels=2, width=4).eval()
    rebuilt = ToyNetwork.from_config(json.loads(json.dumps(network.config()))).eval()
    rebuilt.load_state_dict(network.state_dict())
    x = torch.rand(2, 2, 8, 8)
    with torch.no_grad():
        assert torch.equal(network(x), rebuilt(x))
    assert network(x).shape == (2, 3)


def test_network_names_what_is_wrong():
    good = dict.fromkeys(STAGES, "skip")
    with pytest.raises(ConfigError, match="Did you mean 'conv3x3'"):
        ToyNetwork({**good, "stage2": "conv3"})
    with pytest.raises(ConfigError, match="Did you mean 'stage1'"):
        ToyNetwork({**good, "stag1": "skip"})
    with pytest.raises(ConfigError, match="stage4 has no operation"):
        ToyNetwork(dict.fromkeys(STAGES[:3], "skip"))


def test_collapse_indicators_count_skips():
    supernet = ToySupernet(width=2)
    n = len(OPTIONS)
    skip = list(OPTIONS).index("skip")
    probabilities = {name: torch.zeros(n) for name in supernet.space}
    for position, name in enumerate(supernet.space):
        probabilities[name][skip if position == 0 else 0] = 1.0
    assert supernet.collapse_indicators(probabilities) == {"skip_weight": 0.25, "skip_share": 0.25}
    uniform = {name: torch.full((k,), 1 / k) for name, k in option_counts(supernet).items()}
    assert supernet.collapse_indicators(uniform)["skip_weight"] == pytest.approx(1 / n)


def test_latency_model_of_the_toy():
    model = CostModel.measure(ToySupernet(width=2), Latency(warmup=0, repeats=1), (1, 8, 8))
    assert model.reference > 0
    assert model.fixed >= 0
    assert CostModel.from_json(json.loads(json.dumps(model.to_json()))).to_json() == model.to_json()


# -- the task ----------------------------------------------------------------------------------------


@pytest.fixture
def task(tmp_path):
    task = DigitsClassification()
    task.prepare(tmp_path, seed=3)
    return task


def _indices(task, split):
    loader = task.loader(split, training=False)
    return [int(index) for batch in loader for index in batch.indices]


def test_splits_are_a_stratified_partition(task, tmp_path):
    splits = json.loads((tmp_path / "splits.json").read_text())
    assert list(splits) == ["train", "arch", "val", "test"]
    assert sorted(index for indices in splits.values() for index in indices) == list(range(1797))
    for part, fraction in zip(splits, (0.3, 0.3, 0.2, 0.2), strict=True):
        labels = torch.cat([batch.labels for batch in task.loader(part, training=False)])
        everything = task._labels
        for digit in range(10):
            share = (labels == digit).sum() / (everything == digit).sum()
            assert float(share) == pytest.approx(fraction, abs=0.005)
        assert sorted(_indices(task, part)) == splits[part]
    assert sorted(_indices(task, "train+arch")) == sorted(splits["train"] + splits["arch"])


def test_splits_follow_the_seed_and_survive(tmp_path):
    def splits(directory, seed):
        DigitsClassification().prepare(directory, seed)
        return (directory / "splits.json").read_text()

    first = splits(tmp_path / "a", 0)
    assert splits(tmp_path / "b", 0) == first
    assert splits(tmp_path / "c", 1) != first
    assert splits(tmp_path / "a", 1) == first  # a continued run keeps what it has


def test_splits_that_cannot_be_written_are_a_readable_error(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunDirectoryError, match="a file is where a directory should be"):
        DigitsClassification().prepare(tmp_path / "run", 0)


@pytest.mark.parametrize("text", ["{", "[]", '{"train": [0]}', '{"train": [0], "arch": [0], "val": [], "test": []}'])
def test_broken_splits_are_refused(tmp_path, text):
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(DataError, match=r"splits\.json"):
        DigitsClassification().prepare(tmp_path, 0)


def test_images_are_the_digits(task):
    images, labels = load_digits(return_X_y=True)
    for batch in task.loader("val", training=False):
        assert batch.images.dtype == torch.float32
        assert batch.images.shape[1:] == task.input_shape
        for image, label, index in zip(*batch, strict=True):
            assert np.array_equal(image.numpy().ravel() * 16, images[index])
            assert label == labels[index]


def test_training_batches_are_a_function_of_seed_epoch_and_image(task):
    def epoch(number):
        loader = task.loader("train", training=True, batch_size=50)
        loader.sampler.set_epoch(number)
        state = torch.get_rng_state()
        batches = list(loader)
        assert torch.equal(state, torch.get_rng_state())
        return torch.cat([b.images for b in batches]), torch.cat([b.indices for b in batches])

    images, indices = epoch(0)
    again, same = epoch(0)
    _, different = epoch(1)
    assert torch.equal(images, again)
    assert torch.equal(indices, same)
    assert not torch.equal(indices, different)
    assert len(indices) % 50 == 0  # the incomplete batch is dropped
    assert len(set(indices.tolist())) == len(indices)


def test_augmentation_shifts_by_at_most_one_pixel(task):
    seen = set()
    for batch in task.loader("train", training=True, batch_size=32):
        for image, index in zip(batch.images, batch.indices, strict=True):
            original = task._images[index]
            matches = {(d, r) for d in (-1, 0, 1) for r in (-1, 0, 1) if torch.equal(_shift(original, d, r), image)}
            assert matches
            if len(matches) == 1:
                seen |= matches
    assert len(seen) == 9


def test_shift_by_hand():
    image = torch.arange(1.0, 10.0).reshape(1, 3, 3)
    assert _shift(image, 1, 0).tolist() == [[[0, 0, 0], [1, 2, 3], [4, 5, 6]]]
    assert _shift(image, 0, -1).tolist() == [[[2, 3, 0], [5, 6, 0], [8, 9, 0]]]
    assert _shift(image, -1, 1).tolist() == [[[0, 4, 5], [0, 7, 8], [0, 0, 0]]]


def test_loss_and_metric(task):
    labels = torch.tensor([0, 1, 2, 3])
    logits = 5 * F.one_hot(torch.tensor([0, 1, 2, 9]), 10).float()
    batch = DigitsBatch(torch.zeros(4, 1, 8, 8), labels, torch.arange(4))
    hit = np.log(np.exp(5) + 9) - 5
    miss = np.log(np.exp(5) + 9)
    network = nn.Identity()
    assert float(task.loss(network, logits, batch)["loss"]) == pytest.approx((3 * hit + miss) / 4, rel=1e-5)
    metric = task.metric()
    metric.update(network, logits, batch)
    assert metric.compute() == {"accuracy": 0.75}
    assert task.primary_metric in metric.compute()
    assert task.inputs(batch) is batch.images


def test_deployment_is_plain_and_arguments_build_the_supernet(task):
    assert json.loads(json.dumps(task.deployment())) == task.deployment()
    assert len(task.deployment()["labels"]) == ToySupernet(**task.network_arguments()).frame.classifier.out_features


@pytest.mark.parametrize(
    "arguments",
    [
        {"eval_batch_size": 0},
        {"fractions": (0.5, 0.5, 0.1, -0.1)},
        {"fractions": (0.5, 0.5, 0.5, 0.5)},
        {"max_shift": 8},
    ],
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        DigitsClassification(**arguments)


def test_reference_learns_digits(task):
    torch.manual_seed(0)
    network = ToyNetwork(dict.fromkeys(STAGES, "conv3x3"))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    loader = task.loader("train+arch", training=True, batch_size=64)
    epochs = 4
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, epochs * len(loader))
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            optimizer.zero_grad()
            task.loss(network, network(task.inputs(batch)), batch)["loss"].backward()
            optimizer.step()
            schedule.step()
    metric = task.metric()
    network.eval()
    with torch.no_grad():
        for batch in task.loader("val", training=False):
            metric.update(network, network(task.inputs(batch)), batch)
    assert metric.compute()["accuracy"] > 0.9
