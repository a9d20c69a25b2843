"""What drives what: logits by arch images, weights by train images, nothing by val or test images.

Every checker is a function, and is shown to fail when the defect it is there for is put in. (That a bilevel rule
steps what it should is checked on problems of its own: ``darts_hpo/testing/rule.py``.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from torch import Tensor
from torch.optim import Optimizer

from darts_hpo.bilevel.base import BilevelProblem
from darts_hpo.cli import config_dir
from darts_hpo.config import RunConfig, build, register_resolvers, typed_config
from darts_hpo.relaxations import Relaxation
from darts_hpo.supernet import Supernet
from darts_hpo.training.retrain import RetrainModule
from darts_hpo.training.schedules import Schedule, ScheduleValues
from darts_hpo.training.search import SearchModule
from darts_hpo.training.task import Split, Task
from supernets.detection.dataset import DetectionDataset, ImageCache
from supernets.detection.task import DetectionTask
from supernets.toy.task import DigitsClassification

# Lightning's own warnings, about its own code and about tiny trainings; the command line leaves them out too.
pytestmark = pytest.mark.filterwarnings("ignore:::pytorch_lightning")

TOY = (
    "+experiment=toy_darts",
    "supernet.width=4",
    "search.epochs=3",
    "search.batch_size=128",
    "retrain.epochs=3",
    "retrain.batch_size=256",
)
DETECTION = (
    "supernet.width=0.125",
    "data.image_size=64",
    "data.source.n_train=8",
    "data.source.n_arch=8",
    "data.source.n_val=4",
    "data.source.n_test=4",
    "data.augmentation.mosaic=1.0",  # four images in one: the partners must be of the split too
    "data.augmentation.close_mosaic=0",
    "search.epochs=2",
    "search.batch_size=4",
    "retrain.epochs=2",
    "retrain.batch_size=8",
)
KINDS = {"toy": TOY, "detection": DETECTION}


def configured(*overrides: str) -> RunConfig:
    GlobalHydra.instance().clear()
    register_resolvers()
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        return typed_config(compose("train", overrides=list(overrides)))


@dataclass
class Parts:
    """The parts of a run, as the pipeline builds them."""

    config: RunConfig
    task: Task
    supernet: Supernet
    relaxation: Relaxation

    def search(self) -> SearchModule:
        rule = build(self.config.bilevel)
        return SearchModule(self.task, self.supernet, self.relaxation, rule, self.config.search, seed=0)

    def retrain(self) -> RetrainModule:
        network = self.supernet.derive(self.supernet.genotype(self.supernet.reference_choices()))
        return RetrainModule(self.task, network, self.config.retrain)


@pytest.fixture(params=KINDS)
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> Parts:
    return made(tmp_path, *KINDS[request.param])


def made(folder: Path, *overrides: str) -> Parts:
    config = configured(*overrides)
    task: Task = build(config.task)
    task.prepare(folder, 0)
    supernet: Supernet = build(config.supernet, **task.network_arguments())
    return Parts(config, task, supernet, build(config.relaxation, space=supernet.space))


def fit(module: pl.LightningModule, epochs: int, *callbacks: pl.Callback) -> None:
    pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module)


# -- steps ---------------------------------------------------------------------------------------------------------


@contextmanager
def watched_steps(module: SearchModule) -> Iterator[list[str]]:
    """Inside, every step of a search is checked for what it must leave alone; gives the kinds of steps seen."""
    supernet, relaxation, kinds = module.supernet, module.relaxation, list[str]()
    arch_step, step_weights = module.rule.arch_step, BilevelProblem.step_weights

    def watched_arch_step(*arguments: Any) -> Any:
        kinds.append("arch")
        before = bits(supernet.parameters()), bits(supernet.buffers()), bits(relaxation.parameters())
        terms = arch_step(*arguments)
        assert all(w.grad is None for w in supernet.parameters()), "an arch step left gradients on the weights"
        assert equal(before[0], supernet.parameters()), "an arch step moved the weights"
        assert equal(before[1], supernet.buffers()), "an arch step moved the statistics of normalization"
        assert not equal(before[2], relaxation.parameters()), "an arch step did not move the logits"
        return terms

    def watched_weight_step(*arguments: Any) -> Any:
        kinds.append("weights")
        before = bits(supernet.parameters()), bits(relaxation.parameters())
        terms = step_weights(*arguments)
        assert not equal(before[0], supernet.parameters()), "a weight step did not move the weights"
        assert equal(before[1], relaxation.parameters()), "a weight step moved the logits"
        assert all(a.grad is None for a in relaxation.parameters()), "a weight step left gradients on the logits"
        return terms

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.rule, "arch_step", watched_arch_step)
        patch.setattr(BilevelProblem, "step_weights", watched_weight_step)
        yield kinds


def bits(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def equal(one: list[Tensor], other: Iterable[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("rule", ["first_order", "unrolled"])
@pytest.mark.parametrize("relaxation", ["softmax", "binary_gates"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_moves_what_it_is_for_and_nothing_else(tmp_path: Path, kind: str, relaxation: str, rule: str):
    parts = made(tmp_path, *KINDS[kind], f"relaxation={relaxation}", f"bilevel={rule}")
    module = parts.search()
    with watched_steps(module) as kinds:
        fit(module, 1)
    assert kinds == ["arch", "weights"] * (len(kinds) // 2)
    assert len(kinds) >= 4


def gradients_left_behind(patch: pytest.MonkeyPatch, module: SearchModule) -> None:
    arch_step = module.rule.arch_step

    def leaving(problem: BilevelProblem, train_batch: Any, arch_batch: Any) -> Any:
        terms = arch_step(problem, train_batch, arch_batch)
        with problem.frozen_statistics():
            problem.loss(arch_batch, problem.sample("arch"), None)["loss"].backward()
        return terms

    patch.setattr(module.rule, "arch_step", leaving)


def statistics_not_frozen(patch: pytest.MonkeyPatch, module: SearchModule) -> None:
    patch.setattr(module, "_frozen_statistics", nullcontext)


def logits_in_the_weight_step(patch: pytest.MonkeyPatch, module: SearchModule) -> None:
    step_weights = BilevelProblem.step_weights

    def both(problem: BilevelProblem, *arguments: Any) -> Any:
        terms = step_weights(problem, *arguments)
        assert problem.arch_optimizer is not None
        for logits in problem.logits:
            logits.grad = torch.ones_like(logits)
        problem.arch_optimizer.step()
        problem.arch_optimizer.zero_grad()
        return terms

    patch.setattr(BilevelProblem, "step_weights", both)


def arch_optimizer_over_the_weights(patch: pytest.MonkeyPatch, module: SearchModule) -> None:
    def arch_step(problem: BilevelProblem, train_batch: Any, arch_batch: Any) -> Any:
        terms = problem.step_logits_on(arch_batch, "arch")
        problem.weight_optimizer.zero_grad()
        for weights in problem.weights:
            weights.grad = torch.ones_like(weights)
        problem.weight_optimizer.step()
        problem.weight_optimizer.zero_grad()
        return terms

    patch.setattr(module.rule, "arch_step", arch_step)


@pytest.mark.parametrize(
    ("defect", "message"),
    [
        (gradients_left_behind, "left gradients on the weights"),
        (statistics_not_frozen, "moved the statistics of normalization"),
        (logits_in_the_weight_step, "a weight step moved the logits"),
        (arch_optimizer_over_the_weights, "an arch step moved the weights"),
    ],
)
def test_the_check_of_steps_finds_its_defects(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    defect: Callable[[pytest.MonkeyPatch, SearchModule], None],
    message: str,
):
    module = made(tmp_path, *TOY).search()
    defect(monkeypatch, module)
    with pytest.raises(AssertionError, match=message), watched_steps(module):
        fit(module, 1)


# -- images --------------------------------------------------------------------------------------------------------

Digests: TypeAlias = set[str]


class Images:
    """Which original images, by content, went into the losses that drive weights and logits.

    Augmentation changes every pixel and mosaic puts four images into one, so the originals are noted where an image
    is fetched, and found again by the pixels of the sample that was made of them.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.seen: dict[str, Digests] = {"weights": set(), "logits": set()}
        self._fetched: Digests = set()
        self._sources: dict[str, Digests] = {}

    @contextmanager
    def watching(self, module: SearchModule | RetrainModule) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            if isinstance(self.task, DetectionTask):
                self._note_sources(patch)
            loss, drives = self.task.loss, "weights"

            def noting(network: Any, outputs: Any, batch: Any, memo: Any = None) -> Any:
                self.seen[drives] |= self.sources(batch)
                return loss(network, outputs, batch, memo)

            patch.setattr(self.task, "loss", noting)
            if isinstance(module, SearchModule):
                arch_step = module.rule.arch_step

                def noting_arch_step(*arguments: Any) -> Any:
                    nonlocal drives
                    drives = "logits"
                    try:
                        return arch_step(*arguments)
                    finally:
                        drives = "weights"

                patch.setattr(module.rule, "arch_step", noting_arch_step)
            yield

    def sources(self, batch: Any) -> Digests:
        """Content of the original images in a batch."""
        if isinstance(self.task, DigitsClassification):
            return {digest(self.task._images[index]) for index in batch.indices}
        samples = (batch.images * 255).round().to(torch.uint8)
        return set().union(*(self._sources[digest(sample)] for sample in samples))

    def of(self, split: Split) -> Digests:
        """Content of all images of a split."""
        if isinstance(self.task, DetectionTask):
            return {record.digest() for record in self.task.splits.records(self.task.data, split)}
        return set().union(*(self.sources(batch) for batch in self.task.loader(split, training=False)))

    def _note_sources(self, patch: pytest.MonkeyPatch) -> None:
        get, make = ImageCache.get, DetectionDataset.__getitem__

        def noting_get(cache: ImageCache, record: Any) -> Tensor:
            self._fetched.add(record.digest())
            return get(cache, record)

        def noting_make(dataset: DetectionDataset, key: Any) -> Any:
            self._fetched = set()
            sample = make(dataset, key)
            self._sources.setdefault(digest(sample.image), set()).update(self._fetched)
            return sample

        patch.setattr(ImageCache, "get", noting_get)
        patch.setattr(DetectionDataset, "__getitem__", noting_make)


def digest(image: Tensor) -> str:
    return hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()


def check_searched_on(images: Images) -> None:
    weights, logits = images.seen["weights"], images.seen["logits"]
    assert weights, "no image drove the weights"
    assert logits, "no image drove the logits"
    held_out = images.of("val") | images.of("test")
    assert not (weights | logits) & held_out, "an image of val or test was searched on"
    assert not weights & logits, "an image drove both weights and logits"
    assert weights <= images.of("train"), "an image that is not of the train split drove the weights"
    assert logits <= images.of("arch"), "an image that is not of the arch split drove the logits"


def check_retrained_on(images: Images) -> None:
    seen = images.seen["weights"]
    assert not seen & (images.of("val") | images.of("test")), "an image of val or test was trained on"
    assert seen == images.of("train") | images.of("arch"), "retraining must use all of train and arch"


def searched(parts: Parts) -> Images:
    module, images = parts.search(), Images(parts.task)
    with images.watching(module):
        fit(module, parts.config.search.epochs)
    return images


def retrained(parts: Parts) -> Images:
    module, images = parts.retrain(), Images(parts.task)
    with images.watching(module):
        fit(module, parts.config.retrain.epochs)
    return images


def test_a_search_sees_train_and_arch_images_each_in_its_place(parts: Parts):
    check_searched_on(searched(parts))


def test_retraining_sees_train_and_arch_images_and_no_other(parts: Parts):
    check_retrained_on(retrained(parts))


def taking(patch: pytest.MonkeyPatch, task: Task, split: str, instead: str) -> None:
    """A defect: one split's loader gives another's images."""
    loader = task.loader

    def wrong(asked: Any, *, training: bool, **named: Any) -> Any:
        return loader(instead if training and asked == split else asked, training=training, **named)  # type: ignore[arg-type]

    patch.setattr(task, "loader", wrong)


@pytest.mark.parametrize(
    ("split", "instead", "message"),
    [
        ("arch", "val", "val or test was searched on"),
        ("train", "train+test", "val or test was searched on"),
        ("train", "train+arch", "drove both weights and logits"),
        ("train", "arch", "drove both weights and logits"),
    ],
)
def test_the_check_of_searched_images_finds_a_wrong_split(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, split: str, instead: str, message: str
):
    taking(monkeypatch, parts.task, split, instead)
    images = searched(parts)
    with pytest.raises(AssertionError, match=message):
        check_searched_on(images)


@pytest.mark.parametrize(
    ("instead", "message"), [("train+arch+val", "val or test was trained on"), ("train", "all of train and arch")]
)
def test_the_check_of_retrained_images_finds_a_wrong_split(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, instead: str, message: str
):
    taking(monkeypatch, parts.task, "train+arch", instead)
    images = retrained(parts)
    with pytest.raises(AssertionError, match=message):
        check_retrained_on(images)


def test_the_check_of_searched_images_finds_a_rule_that_exchanges_the_batches(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
):
    rule = type(build(parts.config.bilevel))
    step = rule.step

    def exchanged(self: Any, problem: Any, train_batch: Any, arch_batch: Any, **named: Any) -> Any:
        return step(self, problem, arch_batch, train_batch, **named)

    monkeypatch.setattr(rule, "step", exchanged)
    images = searched(parts)
    with pytest.raises(AssertionError, match="not of the train split drove the weights"):
        check_searched_on(images)


def test_the_check_of_images_finds_a_mosaic_with_a_stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    parts = made(tmp_path, *DETECTION)
    assert isinstance(parts.task, DetectionTask)
    stranger = parts.task.splits.records(parts.task.data, "val")[0]
    fetch = DetectionDataset._fetch

    def fetch_a_stranger(dataset: DetectionDataset, index: int) -> Any:
        own = fetch(dataset, index)
        return own if index else own._replace(image=dataset.cache.get(stranger))

    monkeypatch.setattr(DetectionDataset, "_fetch", fetch_a_stranger)
    images = searched(parts)
    with pytest.raises(AssertionError, match="val or test was searched on"):
        check_searched_on(images)


# -- hyperparameters -----------------------------------------------------------------------------------------------


class StepRecorder(pl.Callback):
    """Learning rates and momentum of every group at every step of each optimizer."""

    def __init__(self) -> None:
        self.steps: list[list[list[tuple[float, float]]]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for optimizer in trainer.optimizers:
            steps: list[list[tuple[float, float]]] = []
            self.steps.append(steps)
            optimizer.register_step_pre_hook(lambda inner, *_, steps=steps: steps.append(values_of(inner)))


def values_of(optimizer: Optimizer) -> list[tuple[float, float]]:
    groups = optimizer.param_groups
    return [(group["lr"], group["momentum"] if "momentum" in group else group["betas"][0]) for group in groups]


LR, MOMENTA = 0.0123, (0.3, 0.9876)  # the warm-up starts at 0.8


def check_values(steps: list[list[tuple[float, float]]], momentum: float, warmup: int) -> None:
    assert len(steps) > warmup
    assert all((lr, m) == (LR, momentum) for lr, m in steps[warmup]), "not what was configured, after warm-up"
    assert all(m == momentum for groups in steps[warmup:] for _, m in groups), "momentum changes after warm-up"
    assert steps[0] != steps[warmup], "there was no warm-up"


def steps_of(folder: Path, stage: str, *overrides: str) -> tuple[StepRecorder, int]:
    """What the optimizers were set to in two epochs, and the number of steps of the warm-up."""
    warmup = (f"{stage}.schedule.warmup_epochs=1", f"{stage}.schedule.warmup_min_steps=0")
    parts = made(folder, *TOY, f"{stage}.optimizer.lr={LR}", *warmup, *overrides)
    module = parts.search() if stage == "search" else parts.retrain()
    recorder = StepRecorder()
    fit(module, 2, recorder)
    return recorder, len(recorder.steps[0]) // 2


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("momentum", MOMENTA)
@pytest.mark.parametrize("stage", ["search", "retrain"])
def test_the_configured_values_are_in_the_optimizer_after_warm_up(
    tmp_path: Path, stage: str, momentum: float, optimizer: str
):
    settings = (f"{stage}.optimizer.momentum={momentum}", f"{stage}.optimizer.name={optimizer}")
    recorder, warmup = steps_of(tmp_path, stage, *settings, "search.arch_optimizer.lr=0.0456")
    check_values(recorder.steps[0], momentum, warmup)
    if stage == "search":
        assert {values for groups in recorder.steps[1] for values in groups} == {(0.0456, 0.5)}


@pytest.mark.parametrize("stage", ["search", "retrain"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: ScheduleValues(v.lr * 0.999, v.bias_lr, v.momentum), "not what was configured"),
        (lambda v: ScheduleValues(v.lr, 0.9 * v.bias_lr, v.momentum), "not what was configured"),
        (lambda v: ScheduleValues(v.lr, v.bias_lr, max(v.momentum, 0.8)), "not what was configured"),
        (lambda v: ScheduleValues(LR, LR, 0.3), "there was no warm-up"),
    ],
    ids=["decays during warm-up", "biases left behind", "never below the warm-up's momentum", "no warm-up"],
)
def test_the_check_of_values_finds_its_defects(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    spoil: Callable[[ScheduleValues], ScheduleValues],
    message: str,
):
    at = Schedule.at
    monkeypatch.setattr(Schedule, "at", lambda *arguments: spoil(at(*arguments)))
    recorder, warmup = steps_of(tmp_path, stage, f"{stage}.optimizer.momentum=0.3")
    with pytest.raises(AssertionError, match=message):
        check_values(recorder.steps[0], 0.3, warmup)
