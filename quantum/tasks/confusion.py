"""The confusion matrix of a classifier, for the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from darts_hpo.report import Figure
from darts_hpo.report.figure import FOUND, drawing
from quantum.tasks.batches import FeatureBatch

_DENSEST = 0.7
"""Opacity of a place that holds its whole class."""


@torch.no_grad()
def confusion_matrix(network: nn.Module, batches: Iterable[FeatureBatch], n_classes: int) -> Tensor:
    """Counts `C x C` of samples by true class (rows) and predicted class (columns).

    Args:
        network: in evaluation mode, on the CPU.
        batches: of a split.
        n_classes: number of classes, `C`.
    """
    counts = torch.zeros(n_classes * n_classes, dtype=torch.int64)
    for batch in batches:
        predicted = network(batch.features).argmax(dim=1)
        counts += torch.bincount(batch.labels * n_classes + predicted, minlength=n_classes * n_classes)
    return counts.reshape(n_classes, n_classes)


def confusion_figure(network: nn.Module, batches: Iterable[FeatureBatch], class_names: Sequence[str]) -> Figure:
    """The matrix of :func:`confusion_matrix`, every row as shares of its class.

    Args:
        network: in evaluation mode, on the CPU.
        batches: of the val split.
        class_names: by class index.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure as MatplotlibFigure

    counts = confusion_matrix(network, batches, len(class_names))
    shares = (counts / counts.sum(dim=1, keepdim=True).clamp(min=1)).tolist()
    side = 1.6 + 0.34 * len(class_names)
    with drawing():
        figure = MatplotlibFigure(figsize=(side, side - 0.2), layout="constrained")
        axis = figure.add_subplot()
        # One colour, more or less transparent: the ink is legible on it on a light page and on a dark one.
        axis.imshow([[(*to_rgb(FOUND), _DENSEST * share) for share in row] for row in shares])
        for row, values in enumerate(counts.tolist()):
            for column, count in enumerate(values):
                if count:
                    axis.text(column, row, str(count), ha="center", va="center", fontsize=7)
        axis.set_xticks(range(len(class_names)), class_names, rotation=0 if len(max(class_names, key=len)) < 4 else 45)
        axis.set_yticks(range(len(class_names)), class_names)
        axis.set_xlabel("predicted")
        axis.set_ylabel("true")
        axis.grid(visible=False)
        return Figure.from_matplotlib(
            figure,
            "Confusion of classes on the val split",
            "Samples by true and predicted class; the shade is the share of the true class. "
            "A bad sign: a column that collects samples of every class, or an empty place on the diagonal.",
        )
