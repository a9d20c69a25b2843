import gzip
import itertools
import json
import math
import struct
import time

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from torch import nn
from torch.nn import functional as F

from darts_hpo.config import build
from darts_hpo.errors import ConfigError, DataError
from darts_hpo.training.evaluation import evaluate
from darts_hpo.training.task import Split
from quantum.tasks.angles import fitted_map, range_map
from quantum.tasks.classification import QuantumClassification
from quantum.tasks.confusion import confusion_matrix
from quantum.tasks.datasets.digits import digits
from quantum.tasks.datasets.labelled import LabelledData
from quantum.tasks.datasets.mnist import FILES, fashion_mnist, mnist
from quantum.tasks.datasets.pooling import pooled
from quantum.tasks.datasets.tables import breast_cancer, iris, wine
from quantum.tasks.splits import PARTS

CPU = torch.device("cpu")


def prepared(tmp_path, seed=0, data=None, **arguments):
    tmp_path.mkdir(exist_ok=True)
    task = QuantumClassification(digits([0, 1, 2, 3]) if data is None else data, **arguments)
    task.prepare(tmp_path, seed)
    return task


def indices(task, split: Split):
    return torch.cat([batch.indices for batch in task.loader(split, training=False)]).tolist()


def batches(task, epoch=0, split="train", size=32, passes=1):
    loader = task.loader(split, training=True, batch_size=size)
    loader.sampler.set_epoch(epoch)
    for _ in range(passes - 1):
        list(loader)
    return list(loader)


# -- readers ---------------------------------------------------------------------------------------------------------


def test_digits_are_means_of_blocks_of_pixels():
    images, labels = load_digits(return_X_y=True)
    data = digits(classes=[3, 1], size=4)
    kept = np.isin(labels, [1, 3])
    assert data.class_names == ("3", "1")
    assert (data.labels == np.where(labels[kept] == 3, 0, 1)).all()
    first = images[kept][0].reshape(8, 8)
    assert data.features[0, 4 * 1 + 2] == first[2:4, 4:6].mean()
    assert data.features.shape == (kept.sum(), 16)
    assert (digits(size=8).features == images).all()
    assert digits(classes=[0, 1, 2, 3]).features.shape == (720, 16)


@pytest.mark.parametrize(
    ("reader", "samples", "features", "classes"), [(iris, 150, 4, 3), (wine, 178, 13, 3), (breast_cancer, 569, 30, 2)]
)
def test_tables_have_their_known_sizes(reader, samples, features, classes):
    data = reader()
    assert data.features.shape == (samples, features)
    assert len(data.class_names) == classes
    assert set(data.labels.tolist()) == set(range(classes))


def test_classes_of_a_table_are_chosen_by_their_index():
    data = iris(classes=[2, 0])
    assert data.class_names == ("virginica", "setosa")
    assert (data.features[data.labels == 1] == load_iris().data[:50]).all()


@pytest.mark.parametrize("classes", [[0], [0, 0], [0, 10], [-1, 2], []])
def test_a_wrong_list_of_classes_is_refused(classes):
    with pytest.raises(ConfigError, match=r"task.data.classes=.*two or more different classes out of 0 to 9"):
        digits(classes)


@pytest.mark.parametrize(("size", "crop"), [(3, None), (0, None), (4, 7), (5, 6), (4, 10), (4, 0)])
def test_a_wrong_size_or_crop_is_refused(size, crop):
    with pytest.raises(ConfigError, match=r"task.data.(size|crop)="):
        pooled(np.zeros((2, 8, 8)), size, crop)


def test_a_crop_is_centred():
    image = np.zeros((1, 6, 6))
    image[0, 1:5, 1:5] = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 8]]
    assert pooled(image, 2, crop=4).tolist() == [[[1, 2], [3, 5]]]


def test_unknown_reader_names_the_nearest():
    with pytest.raises(ConfigError, match="'?quantum.tasks.datasets.digits.digit"):
        build({"_target_": "quantum.tasks.datasets.digits.digitz"})


@pytest.mark.parametrize(
    ("features", "labels", "reason"),
    [
        (np.zeros((3, 2)), np.zeros(4, dtype=np.int64), "do not fit 4 labels"),
        (np.full((3, 2), np.nan), np.zeros(3, dtype=np.int64), "not finite"),
        (np.zeros((3, 2)), np.array([0, 1, 2]), "outside of 0 to 1"),
    ],
)
def test_unsound_data_are_refused(features, labels, reason):
    with pytest.raises(DataError, match=reason):
        LabelledData(features, labels, ("a", "b"))


# -- MNIST -----------------------------------------------------------------------------------------------------------


def write_idx(path, array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_mnist(root, name="MNIST", train=40, test=20):
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        write_idx(folder / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28)))
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    return folder


def test_mnist_is_pooled_and_keeps_its_own_test_images(tmp_path):
    folder = write_mnist(tmp_path)
    data = mnist(str(tmp_path), classes=[0, 1, 2, 3])
    raw = np.frombuffer((folder / FILES[0]).read_bytes(), np.uint8, offset=16).reshape(-1, 28, 28)
    assert data.features[0, 0] == raw[0, 2:8, 2:8].mean()
    assert data.features[0, 15] == raw[0, 20:26, 20:26].mean()
    assert data.held_out.tolist() == [False] * 16 + [True] * 8
    run = tmp_path / "run"
    task = prepared(run, data=data)
    assert indices(task, "test") == list(range(16, 24))
    assert sorted(indices(task, "train+arch") + indices(task, "val")) == list(range(16))


def test_a_number_of_mnist_images_is_the_same_for_every_class(tmp_path):
    write_mnist(tmp_path, "FashionMNIST")
    data = fashion_mnist(str(tmp_path), classes=[0, 9], train_samples=4, test_samples=2)
    assert data.class_names == ("T-shirt/top", "Ankle boot")
    assert data.labels.tolist() == [0, 1, 0, 1, 0, 1]
    with pytest.raises(ConfigError, match=r"train_samples=5: expected a multiple of the 2 classes up to 8"):
        fashion_mnist(str(tmp_path), classes=[0, 9], train_samples=5)


def test_absent_mnist_names_folder_files_and_remedy(tmp_path):
    with pytest.raises(DataError, match=r"MNIST.raw: train-images-idx3-ubyte, .*task.data.root.*Nothing is downloaded"):
        mnist(str(tmp_path))
    folder = write_mnist(tmp_path)
    packed = folder / f"{FILES[3]}.gz"
    packed.write_bytes(gzip.compress((folder / FILES[3]).read_bytes()))
    (folder / FILES[3]).unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte missing; unpack"):
        mnist(str(tmp_path))


def test_damaged_mnist_is_refused(tmp_path):
    folder = write_mnist(tmp_path)
    (folder / FILES[0]).write_bytes((folder / FILES[0]).read_bytes()[:-100])
    with pytest.raises(DataError, match="is damaged"):
        mnist(str(tmp_path))
    write_idx(folder / FILES[0], np.zeros((7, 28, 28)))
    with pytest.raises(DataError, match="7, 28, 28.*40 labels"):
        mnist(str(tmp_path))


# -- splits ----------------------------------------------------------------------------------------------------------


def test_splits_are_disjoint_complete_and_stratified(tmp_path):
    task = prepared(tmp_path, fractions=[0.4, 0.2, 0.2, 0.2])
    found = {part: indices(task, part) for part in PARTS}
    assert sorted(itertools.chain(*found.values())) == list(range(720))
    counts = np.bincount(digits([0, 1, 2, 3]).labels)
    for part, share in zip(PARTS, (0.4, 0.2, 0.2, 0.2), strict=True):
        assert np.abs(np.bincount(task.strata(part)) - share * counts).max() <= 1
    assert indices(task, "train+arch") == found["train"] + found["arch"]


def test_splits_are_a_function_of_the_seed_and_kept_on_disk(tmp_path):
    first, again, other = (prepared(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert indices(first, "val") == indices(again, "val") != indices(other, "val")
    kept = prepared(tmp_path / "a", seed=2)
    assert indices(kept, "val") == indices(first, "val")


def test_a_foreign_splits_file_is_refused(tmp_path):
    prepared(tmp_path)
    stored = json.loads((tmp_path / "splits.json").read_text())
    (tmp_path / "splits.json").write_text(json.dumps(stored | {"val": stored["test"]}))
    with pytest.raises(DataError, match=r"no division of the 720 samples"):
        prepared(tmp_path)
    (tmp_path / "splits.json").write_text("{")
    with pytest.raises(DataError, match=r"no division of the 720 samples"):
        prepared(tmp_path)


@pytest.mark.parametrize("fractions", [[0.5, 0.5], [0.5, 0.5, 0.5, -0.5], [0.4, 0.2, 0.2, 0.1], [1, 0, 0, 0]])
def test_wrong_fractions_are_refused(fractions):
    with pytest.raises(ConfigError, match=r"four positive shares of sum 1 \(train, arch, val, test\)"):
        QuantumClassification(iris(), fractions=fractions)


def test_an_empty_split_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="leaves the arch split of 150 samples empty"):
        prepared(tmp_path, data=iris(), fractions=[0.4, 0.001, 0.3, 0.299])


def test_a_share_of_the_training_data_is_nested_and_stratified(tmp_path):
    half, quarter = prepared(tmp_path), prepared(tmp_path)
    whole = set(indices(half, "train"))
    half.reduce_training_data(0.5, seed=0)
    quarter.reduce_training_data(0.25, seed=0)
    assert set(indices(quarter, "train")) < set(indices(half, "train")) < whole
    assert len(indices(half, "train")) == math.ceil(len(whole) / 2)
    assert max(np.bincount(quarter.strata("train"))) - min(np.bincount(quarter.strata("train"))) <= 2
    assert indices(half, "val") == indices(prepared(tmp_path), "val")


# -- features --------------------------------------------------------------------------------------------------------


def test_pixels_are_mapped_by_their_range(tmp_path):
    data = digits([0, 1, 2, 3])
    task = prepared(tmp_path, data=data)
    for batch in task.loader("val", training=False):
        expected = data.features[batch.indices] / 16 * math.pi
        assert torch.allclose(batch.features, torch.from_numpy(expected).float(), atol=1e-6)
    assert range_map(2, (0, 16), (-1.0, 1.0))(np.array([[0.0, 16.0], [8.0, 4.0]])).tolist() == [[-1, 1], [0, -0.5]]


def test_tables_are_standardized_by_the_train_split_alone(tmp_path):
    data = iris()
    task = prepared(tmp_path, data=data, spread=2.0, angles=[-1.0, 1.0])
    train = data.features[indices(task, "train")]
    for batch in task.loader("test", training=False):
        expected = np.clip((data.features[batch.indices] - train.mean(0)) / train.std(0) / 2, -1, 1)
        assert np.allclose(batch.features, expected, atol=1e-6)
    changed = data.features.copy()
    changed[indices(task, "test")] += 100
    other = prepared(tmp_path, data=LabelledData(changed, data.labels, data.class_names), spread=2.0, angles=[-1, 1])
    for batch, same in zip(task.loader("val", training=False), other.loader("val", training=False), strict=True):
        assert (batch.features == same.features).all()


def test_principal_components_of_the_train_split_have_unit_deviation_and_no_correlation():
    train = load_breast_cancer().data[:200]
    mapped = fitted_map(train, (-10.0, 10.0), spread=10.0, components=3)(train)
    assert np.allclose(np.cov(mapped.T, bias=True), np.eye(3), atol=1e-4)
    assert np.allclose(mapped.mean(0), 0, atol=1e-5)
    # The first one is the direction of largest variance of the standardized features.
    standard = (train - train.mean(0)) / train.std(0)
    largest = np.linalg.eigh(standard.T @ standard)[1][:, -1]
    assert abs(np.corrcoef(standard @ largest, mapped[:, 0])[0, 1]) == pytest.approx(1, abs=1e-6)


def test_a_constant_feature_stays_in_the_middle():
    mapped = fitted_map(np.array([[1.0, 5.0], [3.0, 5.0]]), (0.0, 2.0), spread=1.0)
    assert mapped(np.array([[2.0, 9.0], [3.0, 5.0]])).tolist() == [[1, 1], [2, 1]]


def test_components_change_the_network_arguments(tmp_path):
    task = prepared(tmp_path, data=wine(), components=4)
    assert task.network_arguments() == {"n_inputs": 4, "n_outputs": 3}
    assert task.input_shape == (4,)
    assert next(iter(task.loader("val", training=False))).features.shape[1] == 4


def test_too_many_components_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"components=5: expected 1 to 4"):
        QuantumClassification(iris(), components=5)
    flat = LabelledData(np.outer(np.arange(40.0), [1, 2, 3]), np.arange(40) % 2, ("a", "b"))
    with pytest.raises(ConfigError, match=r"components=2: expected 1 to 1, the dimensions"):
        prepared(tmp_path, data=flat, components=2)


def test_deployment_is_enough_to_map_a_raw_sample(tmp_path):
    data = wine()
    for arguments in ({}, {"components": 3}):
        task = prepared(tmp_path, data=data, **arguments)
        facts = json.loads(json.dumps(task.deployment()))
        recipe = facts["preprocessing"]["angles"]
        batch = next(iter(task.loader("test", training=False)))
        centred, multiply = data.features[batch.indices] - recipe["subtract"], np.array(recipe["multiply"])
        linear = centred * multiply if multiply.ndim == 1 else centred @ multiply.T
        assert np.allclose(np.clip(linear + recipe["add"], *recipe["clip"]), batch.features, atol=1e-6)
        assert facts["labels"] == ["class_0", "class_1", "class_2"]
        assert len(facts["preprocessing"]["columns"]) == 13


# -- batches ---------------------------------------------------------------------------------------------------------


def test_order_and_noise_are_functions_of_seed_and_epoch(tmp_path):
    task = prepared(tmp_path, feature_noise=0.1)
    fresh = prepared(tmp_path, feature_noise=0.1)
    list(batches(task, epoch=0))
    for batch, again in zip(batches(task, epoch=3), batches(fresh, epoch=3), strict=True):
        assert (batch.indices == again.indices).all()
        assert (batch.features == again.features).all()
    assert (batches(task, epoch=3)[0].indices != batches(task, epoch=4)[0].indices).any()
    second = batches(task, epoch=3, passes=2)[0]
    assert (second.indices != batches(task, epoch=3)[0].indices).any()


def test_noise_belongs_to_the_sample_and_not_to_its_place(tmp_path):
    task, plain = prepared(tmp_path, feature_noise=0.1), prepared(tmp_path)

    def noise(size):
        found = {}
        for noisy, clean in zip(batches(task, size=size), batches(plain, size=size), strict=True):
            found |= dict(zip(noisy.indices.tolist(), noisy.features - clean.features, strict=True))
        return found

    large, small = noise(72), noise(32)
    common = large.keys() & small.keys()
    assert len(common) > 200
    assert all((large[index] == small[index]).all() for index in common)
    assert torch.cat(list(large.values())).std() == pytest.approx(0.1, rel=0.1)
    for evaluated, clean in zip(task.loader("val", training=False), plain.loader("val", training=False), strict=True):
        assert (evaluated.features == clean.features).all()


def test_training_batches_are_full_and_evaluation_complete(tmp_path):
    task = prepared(tmp_path, eval_batch_size=50)
    assert {len(batch.labels) for batch in batches(task, size=100)} == {100}
    assert len(batches(task, size=100)) == 2
    assert sum(len(batch.labels) for batch in task.loader("val", training=False)) == 144
    assert task.loader("train", training=True, batch_size=10_000).__len__() == 0


def test_loaders_do_not_touch_the_global_generator(tmp_path):
    task = prepared(tmp_path, feature_noise=0.1)
    before = torch.get_rng_state()
    batches(task)
    assert (torch.get_rng_state() == before).all()


def test_a_batch_costs_little(tmp_path):
    task = prepared(tmp_path)
    loader = task.loader("train+arch", training=True, batch_size=32)
    list(loader)
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        count = sum(1 for _ in loader)
        best = min(best, (time.perf_counter() - start) / count)
    assert best < 2e-3  # 0.1 ms on a quiet machine; the bound leaves room for a busy one


# -- loss and metrics ------------------------------------------------------------------------------------------------


class Guess(nn.Module):
    """Logits in favour of one class, or of the true one as far as known; other passes as given."""

    def __init__(self, n_classes, ways=None):
        super().__init__()
        self.n_classes = n_classes
        if ways is not None:
            self.evaluations = lambda: ways

    def forward(self, x):
        return F.one_hot(torch.zeros(len(x), dtype=torch.int64), self.n_classes).float()


def always(label, n_classes=3):
    return lambda x: F.one_hot(torch.full((len(x),), label), n_classes).double()


def test_accuracy_and_loss_of_a_constant_guess(tmp_path):
    task = prepared(tmp_path, data=iris(), eval_batch_size=7)
    values = evaluate(Guess(3), task, "val", device=CPU)
    assert values == {"accuracy": pytest.approx(1 / 3), "loss": pytest.approx(math.log(math.e + 2) - 1 / 3)}
    batch = next(iter(task.loader("val", training=False, batch_size=30)))
    loss = task.loss(Guess(3), Guess(3)(batch.features), batch)["loss"]
    assert float(loss) == pytest.approx(values["loss"], rel=1e-6)


def test_other_passes_of_the_network_have_their_own_metrics(tmp_path):
    data = LabelledData(np.random.default_rng(0).normal(size=(100, 2)), np.repeat([0, 1], [20, 80]), ("a", "b"))
    task = prepared(tmp_path, data=data, evaluations=["noisy"], primary="accuracy_noisy", eval_batch_size=7)
    assert task.metric_names == ("accuracy", "loss", "accuracy_noisy", "loss_noisy")
    network = Guess(2, {"noisy": always(1, 2), "shots": always(0, 2)})
    values = evaluate(network, task, "test", device=CPU)
    assert values["accuracy"] == values["accuracy_shots"] == pytest.approx(0.2)
    assert values[task.primary_metric] == pytest.approx(0.8)
    assert set(values) == {*task.metric_names, "accuracy_shots", "loss_shots"}


def test_metrics_that_nobody_computes_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"'accuracy_noisy'.*evaluations=\[noisy\]"):
        QuantumClassification(iris(), primary="accuracy_noisy")
    with pytest.raises(ConfigError, match=r"'acuracy'\. Did you mean 'accuracy'"):
        QuantumClassification(iris(), primary="acuracy")
    task = prepared(tmp_path, data=iris(), evaluations=["noisy"])
    with pytest.raises(ConfigError, match=r"in task.evaluations: 'noisy'.*A noise model gives noisy"):
        task.require_network(Guess(3))
    task.require_network(Guess(3, {"noisy": always(1)}))
    task = prepared(tmp_path, data=iris(), evaluations=["noisy"], primary="accuracy_noisy")
    with pytest.raises(ConfigError, match=r"task.primary: 'accuracy_noisy'.*'accuracy'"):
        evaluate(Guess(3), task, "val", device=CPU)


def test_confusion_counts_by_truth_and_guess(tmp_path):
    task = prepared(tmp_path, data=iris())
    assert confusion_matrix(Guess(3), task.loader("val", training=False), 3).tolist() == [[10, 0, 0]] * 3
    (figure,) = task.figures(Guess(3))
    assert "virginica" in figure.svg
    assert figure.caption.count("A bad sign") == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"eval_batch_size": 0}, "eval_batch_size=0"),
        ({"spread": 0.0}, "spread=0"),
        ({"spread": math.nan}, "spread=nan"),
        ({"feature_noise": -1.0}, "feature_noise=-1"),
        ({"angles": [1.0]}, "angles="),
        ({"angles": [3.0, 1.0]}, "angles="),
    ],
)
def test_values_out_of_range_are_refused(arguments, reason):
    with pytest.raises(ConfigError, match=reason):
        QuantumClassification(iris(), **arguments)
