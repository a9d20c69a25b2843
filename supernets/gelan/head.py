"""The anchor-free detection head with distributional box regression."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from supernets.detection.boxes import expected_distances
from supernets.detection.predictions import RawPredictions
from supernets.gelan.blocks import Conv

REG_MAX = 16
"""Number of bins of a side's distance: 0, 1, ..., 15 strides."""

_GROUPS = 4  # one group of channels per side of the box
_PRIOR_IMAGE = 640  # image side that the class prior was tuned for
_PRIOR_OBJECTS = 5  # objects expected on such an image


class DetectionHead(nn.Module):
    """Decoupled box and class branches on every level (``DDetect`` in YOLOv9's layouts).

    In training mode the output is raw (:class:`~supernets.detection.predictions.RawPredictions`), in
    evaluation mode decoded: one tensor `B x (4 + C) x A`, box centre x, y, width, height in pixels of the
    network's input, then the class scores in [0, 1].

    Args:
        in_channels: of every level.
        strides: of every level, in pixels, for example ``(8, 16, 32)``.
        num_classes: number of classes `C`.
        activation: by name.
        reg_max: number of bins of a side's distance.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        activation: str = "silu",
        reg_max: int = REG_MAX,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.num_classes = num_classes
        self.reg_max = reg_max
        # Both widths follow the first (finest) level and are used on all of them.
        box_width = _GROUPS * math.ceil(max(in_channels[0] / 4, 4 * reg_max, 16) / _GROUPS)
        class_width = max(in_channels[0], min(2 * num_classes, 128))
        self.box_branches = nn.ModuleList(
            nn.Sequential(
                Conv(channels, box_width, kernel=3, activation=activation),
                Conv(box_width, box_width, kernel=3, groups=_GROUPS, activation=activation),
                nn.Conv2d(box_width, 4 * reg_max, 1, groups=_GROUPS),
            )
            for channels in in_channels
        )
        self.class_branches = nn.ModuleList(
            nn.Sequential(
                Conv(channels, class_width, kernel=3, activation=activation),
                Conv(class_width, class_width, kernel=3, activation=activation),
                nn.Conv2d(class_width, num_classes, 1),
            )
            for channels in in_channels
        )
        # Fixed, but counted among the parameters, as in the published parameter counts.
        self.projection: Tensor = nn.Parameter(
            torch.arange(reg_max, dtype=torch.get_default_dtype()), requires_grad=False
        )
        self._initialize_biases()

    def _initialize_biases(self) -> None:
        """Start with boxes near 1 stride to each side and with a rare-object prior on the scores."""
        for box, scores, stride in zip(self.box_branches, self.class_branches, self.strides, strict=True):
            cells = (_PRIOR_IMAGE / stride) ** 2
            nn.init.constant_(_last_bias(box), 1.0)
            nn.init.constant_(_last_bias(scores), math.log(_PRIOR_OBJECTS / self.num_classes / cells))

    def forward(self, features: Sequence[Tensor]) -> RawPredictions | Tensor:
        """Predictions in the form of the module's mode.

        Args:
            features: one `B x in_channels[i] x H_i x W_i` per level.
        """
        raw = self.predict(features)
        return raw if self.training else self.decode(raw)

    def predict(self, features: Sequence[Tensor]) -> RawPredictions:
        """Undecoded predictions of all levels, in the order of the levels, row by row."""
        boxes, scores, anchors, strides = [], [], [], []
        for level, feature in enumerate(features):
            boxes.append(self.box_branches[level](feature).flatten(2))
            scores.append(self.class_branches[level](feature).flatten(2))
            grid = self._grid(feature.shape[2], feature.shape[3])
            anchors.append(grid)
            strides.append(grid.new_full((grid.shape[0],), self.strides[level]))
        return RawPredictions(
            torch.cat(boxes, 2).transpose(1, 2),
            torch.cat(scores, 2).transpose(1, 2),
            torch.cat(anchors),
            torch.cat(strides),
        )

    def decode(self, raw: RawPredictions) -> Tensor:
        """`B x (4 + C) x A`: centre x, y, width, height in pixels, then class scores."""
        distances = expected_distances(raw.box_logits.to(self.projection.dtype), self.projection)
        before, after = distances.chunk(2, dim=-1)
        centre = raw.anchors + (after - before) / 2
        boxes = torch.cat([centre, before + after], dim=-1) * raw.strides.unsqueeze(-1)
        return torch.cat([boxes, raw.class_logits.to(boxes.dtype).sigmoid()], dim=-1).transpose(1, 2)

    def _grid(self, height: int, width: int) -> Tensor:
        """`(height * width) x 2` centres (x, y) of the cells, in strides."""
        like = self.projection  # parameters keep their precision under autocast, feature maps do not
        x = torch.arange(width, dtype=like.dtype, device=like.device) + 0.5
        y = torch.arange(height, dtype=like.dtype, device=like.device) + 0.5
        return torch.stack(
            [x.unsqueeze(0).expand(height, width), y.unsqueeze(1).expand(height, width)], dim=-1
        ).reshape(-1, 2)


def _last_bias(branch: nn.Module) -> Tensor:
    last = branch[-1] if isinstance(branch, nn.Sequential) else branch
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    return last.bias
