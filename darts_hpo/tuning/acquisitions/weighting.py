"""An acquisition weighted by something else: the probability of being feasible, what a user believes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darts_hpo.space import Float
from darts_hpo.tuning.acquisitions.base import Score
from darts_hpo.tuning.encoding import Encoding
from darts_hpo.tuning.samplers.ranking import LogBias


def product(log_score: Score, *log_weights: Score) -> Score:
    """The logarithm of a score multiplied by weights."""

    def total(x: Tensor) -> Tensor:
        value = log_score(x)
        for log_weight in log_weights:
            value = value + log_weight(x)
        return value

    return total


def biased(log_bias: LogBias, encoding: Encoding) -> Score:
    """A bias over points as a score of rows, such as what a user believes about good values.

    Args:
        log_bias: of points.
        encoding: of the rows.
    """

    def log_weight(x: Tensor) -> Tensor:
        weight: Tensor = _RowBias.apply(x, log_bias, encoding)
        return weight

    return log_weight


class _RowBias(torch.autograd.Function):
    """A bias is plain Python; its slope along the real parameters is taken by central differences."""

    @staticmethod
    def forward(context: Any, x: Tensor, log_bias: LogBias, encoding: Encoding) -> Tensor:
        context.save_for_backward(x)
        context.log_bias, context.encoding = log_bias, encoding
        return torch.from_numpy(_at_rows(log_bias, encoding, x.detach().numpy()))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = context.saved_tensors
        rows: NDArray[np.float64] = x.detach().numpy()
        slopes = np.zeros_like(rows)
        for column in context.encoding.columns:
            if not isinstance(column.parameter, Float):
                continue
            high, low = rows.copy(), rows.copy()
            high[:, column.start] = np.minimum(high[:, column.start] + 1e-5, 1.0)
            low[:, column.start] = np.maximum(low[:, column.start] - 1e-5, 0.0)
            rise = _at_rows(context.log_bias, context.encoding, np.concatenate([high, low]))
            run = high[:, column.start] - low[:, column.start]
            slopes[:, column.start] = (rise[: len(rows)] - rise[len(rows) :]) / run
        return gradient.unsqueeze(-1) * torch.from_numpy(slopes), None, None


def _at_rows(log_bias: LogBias, encoding: Encoding, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return log_bias([encoding.decode(row) for row in rows])
