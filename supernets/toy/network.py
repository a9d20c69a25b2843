"""A small searchable convolutional classifier, and the plain network it derives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from darts_hpo.errors import ConfigError, unknown_name
from darts_hpo.genotype import Genotype
from darts_hpo.space import Categorical, Space
from darts_hpo.supernet import CostUnit, Gates, MixedOp, Supernet

STAGES = ("stage1", "stage2", "stage3", "stage4")
"""Stages in order, one choice each; from the third on at half the resolution and twice the width."""
_HALVED_BEFORE = "stage3"


def _convolution(channels: int, affine: bool, *, kernel: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
        nn.ReLU(),
    )


def _depthwise_separable(channels: int, affine: bool, *, kernel: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
        nn.ReLU(),
    )


def _max_pool(channels: int, affine: bool, *, kernel: int) -> nn.Module:
    return nn.Sequential(
        nn.MaxPool2d(kernel, stride=1, padding=kernel // 2),
        nn.BatchNorm2d(channels, affine=affine),
    )


def _skip(channels: int, affine: bool) -> nn.Module:
    del channels, affine
    return nn.Identity()


OPTIONS: Mapping[str, Callable[[int, bool], nn.Module]] = {
    "conv3x3": partial(_convolution, kernel=3),
    "conv5x5": partial(_convolution, kernel=5),
    "depthwise3x3": partial(_depthwise_separable, kernel=3),
    "maxpool3x3": partial(_max_pool, kernel=3),
    "skip": _skip,
}
"""Builders of the options from their channels and whether normalization has weights; all keep the shape."""

REFERENCE = "conv3x3"


class ToyNetwork(nn.Module):
    """The plain classifier: a stem, four stages with one operation each, pooling and a linear layer.

    Args:
        operations: option of every stage, from :data:`OPTIONS`.
        num_classes: `C`, classes.
        in_channels: channels of an image.
        width: channels of the first two stages; the last two have twice as many.

    Raises:
        ConfigError: a stage is missing or unknown, or an option is.
    """

    def __init__(
        self, operations: Mapping[str, str], num_classes: int = 10, in_channels: int = 1, width: int = 16
    ) -> None:
        super().__init__()
        for stage in operations:
            if stage not in STAGES:
                raise ConfigError(unknown_name("stage of the toy network", stage, STAGES))
        for stage in STAGES:
            if stage not in operations:
                raise ConfigError(f"The toy network's {stage} has no operation; expected one of its options.")
            if operations[stage] not in OPTIONS:
                raise ConfigError(unknown_name(f"operation of {stage}", operations[stage], OPTIONS))
        self._operations = dict(operations)
        self._arguments = {"num_classes": num_classes, "in_channels": in_channels, "width": width}
        self.frame = _Frame(num_classes, in_channels, width, affine=True)
        self.stages = nn.ModuleDict(
            {stage: OPTIONS[operations[stage]](_channels(stage, width), True) for stage in STAGES}
        )

    def forward(self, x: Tensor) -> Tensor:
        """Class logits `B x C` of images `B x in_channels x H x W`."""
        return self.frame(x, [self.stages[stage] for stage in STAGES])

    def config(self) -> dict[str, Any]:
        """Plain data that :meth:`from_config` rebuilds the network from, weights aside."""
        return {"operations": dict(self._operations), **self._arguments}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ToyNetwork:
        """The network that :meth:`config` described, with fresh weights."""
        return cls(**config)


class ToySupernet(Supernet):
    """The classifier with one choice per stage.

    Normalization has no weights of its own, as in DARTS: an option must not scale itself up against its
    competitors.

    Args:
        num_classes: `C`, classes.
        in_channels: channels of an image.
        image_size: height and width of an image in pixels, even; it decides the costs only.
        width: channels of the first two stages.
    """

    name = "toy"

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int = 8, width: int = 16) -> None:
        super().__init__()
        self._arguments = {"num_classes": num_classes, "in_channels": in_channels, "width": width}
        self._width, self._image_size = width, image_size
        self._space = Space({f"{stage}.op": Categorical(tuple(OPTIONS)) for stage in STAGES})
        self.frame = _Frame(num_classes, in_channels, width, affine=False)
        self.stages = nn.ModuleDict(
            {
                stage: MixedOp(
                    f"{stage}.op",
                    {name: build(_channels(stage, width), False) for name, build in OPTIONS.items()},
                )
                for stage in STAGES
            }
        )

    @property
    def space(self) -> Space:
        """One choice ``<stage>.op`` per stage, among :data:`OPTIONS`."""
        return self._space

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Class logits `B x C` of images `B x in_channels x H x W` under the gates."""
        self.check_gates(gates)
        return self.frame(x, [partial(self.stages[stage], gate=gates[f"{stage}.op"]) for stage in STAGES])

    def derive(self, genotype: Genotype, *, inherit_weights: bool = False) -> ToyNetwork:
        """The plain network of a genotype; its normalization has weights, ones and zeros where it inherits.

        Raises:
            GenotypeError: the genotype belongs to another space.
        """
        choices = self.choices(genotype)
        network = ToyNetwork({stage: choices[f"{stage}.op"] for stage in STAGES}, **self._arguments)
        if inherit_weights:
            _inherit(network.frame, self.frame)
            for stage in STAGES:
                mixed = self.stages[stage]
                assert isinstance(mixed, MixedOp)
                _inherit(network.stages[stage], mixed.options[choices[f"{stage}.op"]])
        return network

    def reference_choices(self) -> Mapping[str, str]:
        """A plain 3x3 convolution in every stage."""
        return dict.fromkeys(self._space, REFERENCE)

    def cost_units(self) -> Sequence[CostUnit]:
        """One unit per stage: its operation."""
        return [self._cost_unit(stage) for stage in STAGES]

    def collapse_indicators(self, probabilities: Mapping[str, Tensor]) -> dict[str, float]:
        """How far the search drifts towards skips, the collapse of DARTS (https://arxiv.org/abs/1909.06035).

        Args:
            probabilities: `n_options` per choice.

        Returns:
            ``skip_weight``, the mean probability of a skip, and ``skip_share``, the share of choices whose
            most probable option is the skip; both in [0, 1].
        """
        position = list(OPTIONS).index("skip")
        rows = torch.stack([probabilities[name].detach().cpu() for name in self._space])
        return {
            "skip_weight": float(rows[:, position].mean()),
            "skip_share": float((rows.argmax(dim=1) == position).float().mean()),
        }

    def _cost_unit(self, stage: str) -> CostUnit:
        channels = _channels(stage, self._width)
        size = self._image_size if channels == self._width else self._image_size // 2

        def build(options: Mapping[str, str]) -> nn.Module:
            return OPTIONS[options[f"{stage}.op"]](channels, True)

        return CostUnit(stage, (f"{stage}.op",), build, (channels, size, size))


class _Frame(nn.Module):
    """What is the same in every architecture: stem, halving between the stages, classifier."""

    def __init__(self, num_classes: int, in_channels: int, width: int, *, affine: bool) -> None:
        super().__init__()
        self.stem = _block(in_channels, width, stride=1, affine=affine)
        self.halve = _block(width, 2 * width, stride=2, affine=affine)
        self.classifier = nn.Linear(2 * width, num_classes)

    def forward(self, x: Tensor, operations: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
        x = self.stem(x)
        for stage, operation in zip(STAGES, operations, strict=True):
            if stage == _HALVED_BEFORE:
                x = self.halve(x)
            x = operation(x)
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def _block(channels: int, out_channels: int, *, stride: int, affine: bool) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels, affine=affine),
        nn.ReLU(),
    )


def _channels(stage: str, width: int) -> int:
    return width if STAGES.index(stage) < STAGES.index(_HALVED_BEFORE) else 2 * width


def _inherit(plain: nn.Module, searched: nn.Module) -> None:
    """Copy weights and statistics; normalization weights that only the plain module has become 1 and 0."""
    ours, theirs = plain.state_dict(), searched.state_dict()
    for key, value in ours.items():
        value.copy_(theirs[key] if key in theirs else torch.full_like(value, key.endswith("weight")))
