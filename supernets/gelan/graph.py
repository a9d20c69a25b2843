"""Networks built from their description: a graph of blocks with one or two detection heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from darts_hpo.errors import ConfigError, unknown_name
from supernets.detection.image_size import check_image_size
from supernets.detection.predictions import DetectorOutput, RawPredictions
from supernets.gelan import blocks
from supernets.gelan.description import IMAGE, Description, Node, load_description
from supernets.gelan.fuse import fuse, fuse_in_place
from supernets.gelan.head import DetectionHead
from supernets.gelan.options import BlockOption
from supernets.gelan.registry import Registry


@dataclass(frozen=True)
class Feature:
    """What flows along an edge of the graph.

    Args:
        channels: of each map; several where a block hands out several.
        stride: pixels of the image per cell.
    """

    channels: tuple[int, ...]
    stride: int


@dataclass(frozen=True)
class BlockKind:
    """How one kind of block is built.

    Args:
        build: takes the features of the inputs, and by keyword the arguments of the description and
            ``activation``.
        outcome: takes the features of the inputs and the arguments of the description, gives the output's
            feature.
        searchable: whether the block takes ``kernel`` and ``activation`` as a whole and keeps its input's
            size.
    """

    build: Callable[..., nn.Module]
    outcome: Callable[[Sequence[Feature], Mapping[str, Any]], Feature]
    searchable: bool = False


BLOCKS: Registry[BlockKind] = Registry("kind of block")
"""Kinds of block by the names that descriptions use; register another to use it in a layout."""


def register_block(name: str, cls: Callable[..., nn.Module], *, stride: int = 1, searchable: bool = False) -> None:
    """Register a block of one input, built as ``cls(in_channels, **arguments, activation=...)``.

    Args:
        name: for descriptions; ``out`` among the arguments must be the channels of the output.
        cls: the class.
        stride: factor by which it shrinks height and width, times the argument ``stride`` where there is one.
        searchable: whether it takes ``kernel`` and keeps the size.
    """

    def build(inputs: Sequence[Feature], **arguments: Any) -> nn.Module:
        return cls(_single(inputs).channels[0], **arguments)

    def outcome(inputs: Sequence[Feature], arguments: Mapping[str, Any]) -> Feature:
        shrink = stride * int(arguments.get("stride", 1))
        return Feature((int(arguments["out"]),), _single(inputs).stride * shrink)

    BLOCKS.register(name, BlockKind(build, outcome, searchable))


def _single(inputs: Sequence[Feature]) -> Feature:
    if len(inputs) != 1 or len(inputs[0].channels) != 1:
        raise ConfigError("it takes exactly one feature map")
    return inputs[0]


def _same_stride(inputs: Sequence[Feature]) -> int:
    strides = {feature.stride for feature in inputs}
    if len(strides) != 1:
        raise ConfigError(f"its inputs have different strides: {sorted(strides)}")
    return strides.pop()


def _fused_feature(inputs: Sequence[Feature], arguments: Mapping[str, Any]) -> Feature:
    target = inputs[-1]
    for tap, position in zip(inputs, arguments["select"], strict=False):
        if tap.channels[position] != target.channels[0]:
            raise ConfigError(
                f"map {position} of a tap has {tap.channels[position]} channels, not {target.channels[0]}"
            )
    return target


register_block("Conv", blocks.Conv)
register_block("AConv", blocks.AConv, stride=2)
register_block("ADown", blocks.ADown, stride=2)
register_block("RepConv", blocks.RepConv)
register_block("RepNCSP", blocks.RepNCSP)
register_block("RepNCSPELAN4", blocks.RepNCSPELAN4, searchable=True)
register_block("ELAN1", blocks.ELAN1, searchable=True)
register_block("SPPELAN", blocks.SPPELAN)
BLOCKS.register(
    "CBLinear",
    BlockKind(
        lambda inputs, activation, outs: blocks.CBLinear(_single(inputs).channels[0], outs),
        lambda inputs, arguments: Feature(tuple(arguments["outs"]), _single(inputs).stride),
    ),
)
BLOCKS.register("CBFuse", BlockKind(lambda inputs, activation, select: blocks.CBFuse(select), _fused_feature))
BLOCKS.register(
    "Upsample",
    BlockKind(
        lambda inputs, activation: blocks.Upsample(),
        lambda inputs, arguments: Feature(_single(inputs).channels, _single(inputs).stride // 2),
    ),
)
BLOCKS.register(
    "Concat",
    BlockKind(
        lambda inputs, activation: blocks.Concat(),
        lambda inputs, arguments: Feature((sum(sum(f.channels) for f in inputs),), _same_stride(inputs)),
    ),
)


class GelanNetwork(nn.Module):
    """A YOLOv9 / GELAN detector.

    Blocks are found under their roles: ``network.get_submodule("neck.p4")``. In training mode the output is a
    :class:`~supernets.detection.predictions.DetectorOutput`, in evaluation mode one tensor `B x (4 + C) x A`
    of boxes (centre x, y, width, height in pixels) and scores; the auxiliary branch is then not computed.

    Args:
        description: the layout.
        num_classes: number of classes `C`.
        width: multiplier of all channels of the layout, rounded to multiples of 8.
        activation: of every block without an option of its own, by name.
        options: role to kernel and activation, for searchable blocks.
        in_channels: of the image.

    Raises:
        ConfigError: the layout does not fit together, a role or name is unknown, or a number is out of range.
    """

    def __init__(
        self,
        description: Description,
        num_classes: int,
        *,
        width: float = 1.0,
        activation: str = "silu",
        options: Mapping[str, BlockOption] | None = None,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ConfigError(f"num_classes={num_classes}: a detector needs at least one class.")
        self.description = description
        self.num_classes = num_classes
        self.width = width
        self.activation = activation
        self.in_channels = in_channels
        self.options = dict(options or {})
        self.fused = False
        self._nodes = description.scaled(width).nodes
        self.features: dict[str, Feature] = {IMAGE: Feature((in_channels,), 1)}
        """Channels and stride of every block's output, by role."""
        self.backbone = nn.ModuleDict()
        self.neck = nn.ModuleDict()
        self.auxiliary: nn.ModuleDict | None = nn.ModuleDict() if description.has_auxiliary else None
        for role in self.options:
            self.require_searchable(role)
        for node in self._nodes:
            inputs = [self.features[source] for source in node.inputs]
            try:
                self.features[node.role] = BLOCKS[node.block].outcome(inputs, node.arguments)
                self._section(node.section)[node.tag] = self.build_block(node.role, self.options.get(node.role))
            except (ConfigError, KeyError, TypeError) as error:
                raise ConfigError(f"Layout {description.name!r}, {node.role} ({node.block}): {error}.") from None
        self.strides = tuple(self.features[role].stride for role in description.main)
        """Pixels per cell on every level of the main head."""
        self.head = self._head(description.main)
        self.auxiliary_head = self._head(description.auxiliary) if description.auxiliary else None

    def _section(self, name: str) -> nn.ModuleDict:
        section = getattr(self, name)
        assert isinstance(section, nn.ModuleDict)
        return section

    def _head(self, roles: Sequence[str]) -> DetectionHead:
        levels = [self.features[role] for role in roles]
        return DetectionHead(
            [level.channels[0] for level in levels],
            [level.stride for level in levels],
            self.num_classes,
            activation=self.activation,
        )

    # -- structure -------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the layout."""
        return self.description.name

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The blocks in order of execution, channels scaled."""
        return self._nodes

    @property
    def has_auxiliary(self) -> bool:
        """Whether the training-only branch is there."""
        return self.auxiliary_head is not None

    @property
    def searchable_roles(self) -> tuple[str, ...]:
        """Roles of the blocks that take an option, in order of execution."""
        return tuple(node.role for node in self._nodes if BLOCKS[node.block].searchable)

    def require_searchable(self, role: str) -> Node:
        """The node of a searchable block.

        Raises:
            ConfigError: there is no such block, or it takes no option.
        """
        if role not in self.searchable_roles:
            raise ConfigError(unknown_name(f"searchable block of {self.name}", role, self.searchable_roles))
        return next(node for node in self._nodes if node.role == role)

    def input_feature(self, role: str) -> Feature:
        """Channels and stride of the input of a block that has one input."""
        node = next(node for node in self._nodes if node.role == role)
        return _single([self.features[source] for source in node.inputs])

    def build_block(self, role: str, option: BlockOption | None = None) -> nn.Module:
        """A fresh module for a role.

        Args:
            role: which block.
            option: kernel and activation, for searchable blocks; left out, the layout's own kernel and the
                network's activation.
        """
        node = next(node for node in self._nodes if node.role == role)
        arguments = dict(node.arguments)
        activation = self.activation
        if option is not None:
            arguments["kernel"], activation = option.kernel, option.activation
        inputs = [self.features[source] for source in node.inputs]
        return BLOCKS[node.block].build(inputs, activation=activation, **arguments)

    # -- computation -----------------------------------------------------------------------------------------

    def forward(self, image: Tensor) -> DetectorOutput | Tensor:
        """Detect.

        Args:
            image: `B x in_channels x H x W`, RGB in [0, 1], height and width multiples of the largest stride
                (32).

        Raises:
            ConfigError: the image size is not a multiple of the largest stride.
        """
        return self.run(image, {})

    def run(self, image: Tensor, extra: Mapping[str, tuple[Any, ...]]) -> DetectorOutput | Tensor:
        """:meth:`forward` with further arguments for some blocks.

        Args:
            image: as in :meth:`forward`.
            extra: role to arguments that follow the block's inputs; the gates of searched blocks.
        """
        if not torch.compiler.is_exporting():
            check_image_size(image.shape[-2:], max(self.strides))
        with_auxiliary = self.training and self.auxiliary is not None
        features: dict[str, Any] = {IMAGE: image}
        for node in self._nodes:
            if node.section == "auxiliary" and not with_auxiliary:
                continue
            block = self._section(node.section)[node.tag]
            features[node.role] = block(*(features[source] for source in node.inputs), *extra.get(node.role, ()))
        main = self.head([features[role] for role in self.description.main])
        if not isinstance(main, RawPredictions):
            return main
        if not with_auxiliary or self.auxiliary_head is None:
            return DetectorOutput(main)
        auxiliary = self.auxiliary_head.predict([features[role] for role in self.description.auxiliary])
        return DetectorOutput(main, auxiliary)

    # -- deployment ------------------------------------------------------------------------------------------

    def drop_auxiliary(self) -> GelanNetwork:
        """Remove the training-only branch, in place; the main output stays bit-identical.

        Returns:
            The network itself.
        """
        self.description = self.description.without_auxiliary()
        self._nodes = tuple(node for node in self._nodes if node.section != "auxiliary")
        kept = {node.role for node in self._nodes}
        self.options = {role: option for role, option in self.options.items() if role in kept}
        self.features = {role: f for role, f in self.features.items() if role == IMAGE or role in kept}
        self.auxiliary, self.auxiliary_head = None, None
        return self

    def fuse(self) -> GelanNetwork:
        """A copy in evaluation mode, BatchNorm and parallel branches folded into the convolutions."""
        network = fuse(self)
        network.fused = True
        return network

    def deploy(self) -> GelanNetwork:
        """A fused copy without the auxiliary branch: what is exported and measured."""
        return self.fuse().drop_auxiliary()

    # -- plain data ------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """JSON-able containers from which :meth:`from_config` rebuilds the network, weights aside.

        The layout travels along, so a bundle does not depend on the files of a later version of this package.
        """
        return {
            "name": self.name,
            "num_classes": self.num_classes,
            "width": self.width,
            "activation": self.activation,
            "in_channels": self.in_channels,
            "auxiliary": self.has_auxiliary,
            "fused": self.fused,
            "options": {
                role: {"kernel": option.kernel, "activation": option.activation}
                for role, option in sorted(self.options.items())
            },
            "description": self.description.to_plain(),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> GelanNetwork:
        """The network that :meth:`config` described, with fresh weights.

        Raises:
            ConfigError: a key is missing or something in it is invalid.
        """
        try:
            network = cls(
                Description.from_plain(config["description"]),
                config["num_classes"],
                width=config["width"],
                activation=config["activation"],
                options={role: BlockOption(**option) for role, option in config["options"].items()},
                in_channels=config["in_channels"],
            )
            fused = bool(config["fused"])
        except KeyError as error:
            raise ConfigError(f"The description of a network lacks the key {error}.") from None
        if fused:
            fuse_in_place(network.eval())
            network.fused = True
        return network


def build_network(
    name: str,
    num_classes: int,
    width: float = 1.0,
    activation: str = "silu",
    *,
    options: Mapping[str, BlockOption] | None = None,
    in_channels: int = 3,
) -> GelanNetwork:
    """A plain network by name.

    Args:
        name: ``gelan-<scale>``, ``yolov9-<scale>`` (with auxiliary branch) or the path of a layout; see
            :func:`~supernets.gelan.description.load_description`.
        num_classes: number of classes.
        width: multiplier of all channels.
        activation: by name.
        options: role to kernel and activation, for searchable blocks.
        in_channels: of the image.

    Raises:
        ConfigError: a name is unknown or a number out of range.
    """
    return GelanNetwork(
        load_description(name),
        num_classes,
        width=width,
        activation=activation,
        options=options,
        in_channels=in_channels,
    )
