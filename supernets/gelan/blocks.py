"""The blocks of GELAN and YOLOv9 (https://arxiv.org/abs/2402.13616, section 3 and appendix A).

All of them map feature maps `B x C x H x W`. ``kernel`` is the side of every k x k convolution of a block;
``activation`` names an entry of :data:`~supernets.gelan.activations.ACTIVATIONS` and belongs to the instance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpo.errors import ConfigError
from supernets.gelan.activations import build_activation

BATCHNORM_EPS = 1e-3
BATCHNORM_MOMENTUM = 0.03


class Conv(nn.Module):
    """Convolution without bias, BatchNorm, activation.

    Fusion (:mod:`supernets.gelan.fuse`) folds the BatchNorm into the convolution and leaves an identity
    behind.

    Args:
        in_channels: of the input.
        out: channels of the output.
        kernel: side of the kernel; padded so that stride 1 keeps the size.
        stride: of the convolution.
        groups: of the convolution.
        activation: by name.
    """

    def __init__(
        self,
        in_channels: int,
        out: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(out, eps=BATCHNORM_EPS, momentum=BATCHNORM_MOMENTUM)
        self.act = build_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """`B x in x H x W` to `B x out x H/stride x W/stride`."""
        return self.act(self.bn(self.conv(x)))


class AConv(nn.Module):
    """Average pooling 2 x 2 with stride 1, then a convolution with stride 2.

    Args:
        in_channels: of the input.
        out: channels of the output.
        activation: by name.
    """

    def __init__(self, in_channels: int, out: int, *, activation: str = "silu") -> None:
        super().__init__()
        self.conv = Conv(in_channels, out, kernel=3, stride=2, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """`B x in x H x W` to `B x out x H/2 x W/2` for even sizes."""
        return self.conv(F.avg_pool2d(x, 2, stride=1))


class ADown(nn.Module):
    """Smoothed down-sampling in two halves: a strided convolution, and max pooling with a 1 x 1 convolution.

    Args:
        in_channels: of the input, even.
        out: channels of the output, even.
        activation: by name.
    """

    def __init__(self, in_channels: int, out: int, *, activation: str = "silu") -> None:
        super().__init__()
        self.strided = Conv(in_channels // 2, out // 2, kernel=3, stride=2, activation=activation)
        self.pooled = Conv(in_channels // 2, out // 2, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """`B x in x H x W` to `B x out x H/2 x W/2` for even sizes."""
        first, second = F.avg_pool2d(x, 2, stride=1).chunk(2, dim=1)
        return torch.cat([self.strided(first), self.pooled(F.max_pool2d(second, 3, stride=2, padding=1))], dim=1)


class RepConv(nn.Module):
    """Re-parameterizable convolution: a k x k and a 1 x 1 branch with BatchNorm each, added and activated.

    RepVGG (https://arxiv.org/abs/2101.03697, section 3.3) without its identity branch. Fusion turns both
    branches into one k x k convolution.

    Args:
        in_channels: of the input.
        out: channels of the output.
        kernel: side of the larger kernel.
        activation: by name.
    """

    def __init__(self, in_channels: int, out: int, *, kernel: int = 3, activation: str = "silu") -> None:
        super().__init__()
        self.spatial = Conv(in_channels, out, kernel=kernel, activation="identity")
        self.pointwise: Conv | None = Conv(in_channels, out, activation="identity")
        self.act = build_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """`B x in x H x W` to `B x out x H x W`."""
        out = self.spatial(x)
        if self.pointwise is not None:
            out = out + self.pointwise(x)
        return self.act(out)


class RepNBottleneck(nn.Module):
    """A RepConv and a convolution with a residual connection.

    Args:
        channels: of input, output and between.
        kernel: of both convolutions.
        activation: by name.
    """

    def __init__(self, channels: int, *, kernel: int = 3, activation: str = "silu") -> None:
        super().__init__()
        self.rep = RepConv(channels, channels, kernel=kernel, activation=activation)
        self.conv = Conv(channels, channels, kernel=kernel, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """`B x channels x H x W` to the same shape."""
        return x + self.conv(self.rep(x))


class RepNCSP(nn.Module):
    """Cross-stage partial block of re-parameterizable bottlenecks.

    Half the channels run through ``depth`` bottlenecks, the other half passes beside them (CSPNet,
    https://arxiv.org/abs/1911.11929).

    Args:
        in_channels: of the input.
        out: channels of the output, even.
        depth: number of bottlenecks.
        kernel: of the bottlenecks' convolutions.
        activation: by name.
    """

    def __init__(
        self, in_channels: int, out: int, *, depth: int = 1, kernel: int = 3, activation: str = "silu"
    ) -> None:
        super().__init__()
        hidden = out // 2
        self.enter = Conv(in_channels, hidden, activation=activation)
        self.bypass = Conv(in_channels, hidden, activation=activation)
        self.bottlenecks = nn.Sequential(
            *(RepNBottleneck(hidden, kernel=kernel, activation=activation) for _ in range(depth))
        )
        self.leave = Conv(2 * hidden, out, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """`B x in x H x W` to `B x out x H x W`."""
        return self.leave(torch.cat([self.bottlenecks(self.enter(x)), self.bypass(x)], dim=1))


class _ELAN(nn.Module):
    """The ELAN frame: two chained stages, and everything on the way concatenated (figure 3c of the GELAN paper).

    Args:
        in_channels: of the input.
        out: channels of the output.
        hidden: channels after the entry, even; half of them pass by.
        branch: channels of each stage.
        stage: makes a stage for its number of input channels.
        activation: of entry and exit, by name.
    """

    def __init__(
        self,
        in_channels: int,
        out: int,
        *,
        hidden: int,
        branch: int,
        stage: Callable[[int], nn.Module],
        activation: str,
    ) -> None:
        super().__init__()
        self.enter = Conv(in_channels, hidden, activation=activation)
        self.stage1 = stage(hidden // 2)
        self.stage2 = stage(branch)
        self.leave = Conv(hidden + 2 * branch, out, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """`B x in x H x W` to `B x out x H x W`."""
        entered = self.enter(x)
        first = self.stage1(entered.chunk(2, dim=1)[1])
        return self.leave(torch.cat([entered, first, self.stage2(first)], dim=1))


class RepNCSPELAN4(_ELAN):
    """GELAN's block: an ELAN frame whose stages are :class:`RepNCSP` blocks, each with a trailing convolution.

    Args:
        in_channels: of the input.
        out: channels of the output.
        hidden: channels after the entry, even; half of them pass by.
        branch: channels of each of the two stages.
        depth: bottlenecks per stage.
        kernel: of every k x k convolution: RepConv, the bottleneck's second and the stage's trailing one.
        activation: by name, of every convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out: int,
        *,
        hidden: int,
        branch: int,
        depth: int = 1,
        kernel: int = 3,
        activation: str = "silu",
    ) -> None:
        def stage(channels: int) -> nn.Module:
            return nn.Sequential(
                RepNCSP(channels, branch, depth=depth, kernel=kernel, activation=activation),
                Conv(branch, branch, kernel=kernel, activation=activation),
            )

        super().__init__(in_channels, out, hidden=hidden, branch=branch, stage=stage, activation=activation)


class ELAN1(_ELAN):
    """The ELAN frame of :class:`RepNCSPELAN4` with plain convolutions as stages.

    Args:
        in_channels: of the input.
        out: channels of the output.
        hidden: channels after the entry, even; half of them pass by.
        branch: channels of each stage.
        kernel: of the stages' convolutions.
        activation: by name, of every convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out: int,
        *,
        hidden: int,
        branch: int,
        kernel: int = 3,
        activation: str = "silu",
    ) -> None:
        def stage(channels: int) -> nn.Module:
            return Conv(channels, branch, kernel=kernel, activation=activation)

        super().__init__(in_channels, out, hidden=hidden, branch=branch, stage=stage, activation=activation)


class SPPELAN(nn.Module):
    """Spatial pyramid pooling in an ELAN frame: three chained 5 x 5 max poolings.

    Args:
        in_channels: of the input.
        out: channels of the output.
        hidden: channels while pooling.
        activation: by name.
    """

    def __init__(self, in_channels: int, out: int, *, hidden: int, activation: str = "silu") -> None:
        super().__init__()
        self.enter = Conv(in_channels, hidden, activation=activation)
        self.leave = Conv(4 * hidden, out, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """`B x in x H x W` to `B x out x H x W`."""
        pooled = [self.enter(x)]
        for _ in range(3):
            pooled.append(F.max_pool2d(pooled[-1], 5, stride=1, padding=2))
        return self.leave(torch.cat(pooled, dim=1))


class CBLinear(nn.Module):
    """A 1 x 1 convolution with bias whose channels are handed out as several maps (CBNet's linear taps).

    Args:
        in_channels: of the input.
        outs: channels of each map.
    """

    def __init__(self, in_channels: int, outs: Sequence[int]) -> None:
        super().__init__()
        self.outs = list(outs)
        self.conv = nn.Conv2d(in_channels, sum(self.outs), 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """`B x in x H x W` to one `B x outs[i] x H x W` for every ``i``."""
        return self.conv(x).split(self.outs, dim=1)


class CBFuse(nn.Module):
    """Sum of a feature map and taps of other levels, resized to it.

    Args:
        select: for every input but the last, which of its maps is taken.
    """

    def __init__(self, select: Sequence[int]) -> None:
        super().__init__()
        self.select = list(select)

    def forward(self, *inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Outputs of :class:`CBLinear`, one per entry of ``select``, then the map they are added to."""
        total = inputs[-1]
        if not isinstance(total, Tensor) or len(inputs) != len(self.select) + 1:
            raise ConfigError(
                f"CBFuse takes {len(self.select)} tapped inputs and one map to add to, not {len(inputs)}."
            )
        size = total.shape[2:]
        for tap, position in zip(inputs, self.select, strict=False):
            total = total + F.interpolate(tap[position], size=size, mode="nearest")
        return total


class Upsample(nn.Module):
    """Nearest-neighbour up-sampling by two."""

    def forward(self, x: Tensor) -> Tensor:
        """`B x C x H x W` to `B x C x 2H x 2W`."""
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Concat(nn.Module):
    """Concatenation along the channels."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Maps of equal height and width to one with the sum of their channels."""
        return torch.cat(inputs, dim=1)
