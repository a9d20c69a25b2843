"""A stationary kernel for numbers and one-hot categoricals, with one length scale per parameter."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from darts_hpo.tuning.surrogates.backend import gpytorch

Kernel: TypeAlias = Literal["rbf", "matern"]
OneHot: TypeAlias = tuple[tuple[int, int], ...]


_TOO_SHORT = 0.1
"""Length at which :class:`LengthScalePrior` falls to ``exp(-10)`` of what it would be, in units of the cube's edge."""


class LengthScalePrior(gpytorch.priors.LogNormalPrior):
    """A log-normal density times ``exp(-10 (0.1 / l)^2)``.

    The log-normal alone, whose scale grows with the number of parameters (Hvarfner et al. 2024, "Vanilla Bayesian
    optimization performs great in high dimensions", eq. 8), says next to nothing against short lengths. But a function
    that changes within a twentieth of every parameter cannot be learned from the tens of results that a study has:
    where these are noisy, a fit would take such a length in place of the noise, pass through every result and
    expect nothing in between. The factor is 0.08 at a length of 0.2, and 0.67 at 0.5.

    Args:
        parameters: number of them.
    """

    def __init__(self, parameters: int) -> None:
        super().__init__(math.sqrt(2.0) + 0.5 * math.log(parameters), math.sqrt(3.0))
        self.push = 10.0 * _TOO_SHORT**2

    def log_prob(self, value: Tensor) -> Tensor:
        """Up to a constant."""
        density: Tensor = super().log_prob(value)
        return density - self.push / value.square()


class MixedKernel(gpytorch.kernels.Kernel):
    """A squared exponential or Matern kernel of ``r^2 = sum_i d_i^2 / l_i^2``, one term per parameter ``i``.

    Of a number, ``d_i`` is the difference in the unit cube. Of a categorical it is the Hamming distance: 0 between
    equal options and 1 between any others, however many there are. So a categorical has one length scale as a number
    has, and the prior of the length scales grows with the number of parameters (Hvarfner et al. 2024, eq. 8), not
    with that of the one-hot columns. Being Euclidean in these columns, the distance keeps the kernel positive definite.

    Args:
        kernel: ``rbf`` or ``matern`` (smoothness 5/2).
        width: columns of a row.
        one_hot: first column and width of every categorical.
    """

    def __init__(self, kernel: Kernel, width: int, one_hot: OneHot) -> None:
        super().__init__()
        self.kernel, self.one_hot = kernel, one_hot
        owner, factor = columns(width, one_hot)
        parameters = int(owner[-1]) + 1
        self._owner, self._factor = owner, factor  # as buffers they would be part of the hyperparameters
        prior = LengthScalePrior(parameters)
        self.register_parameter("length_scales", torch.nn.Parameter(torch.ones(parameters, dtype=torch.float64)))
        self.register_prior("length_scales_prior", prior, "length_scales")
        bound = gpytorch.constraints.GreaterThan(2.5e-2, transform=None, initial_value=prior.mode)
        self.register_constraint("length_scales", bound)

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: Any) -> Tensor:
        """See GPyTorch's kernels."""
        scale = self._factor / self.length_scales[self._owner]
        squared = self.kernel == "rbf"
        distance = self.covar_dist(x1 * scale, x2 * scale, diag=diag, square_dist=squared, **params)
        if squared:
            return torch.exp(-0.5 * distance)
        root = math.sqrt(5.0) * distance
        return (1.0 + root + root.square() / 3.0) * torch.exp(-root)


def columns(width: int, one_hot: OneHot) -> tuple[Tensor, Tensor]:
    """The parameter that each column belongs to, and what the column is multiplied by, each of shape ``[width]``.

    Args:
        width: columns of a row.
        one_hot: first column and width of every categorical.
    """
    first, factor = torch.ones(width, dtype=torch.int64), torch.ones(width, dtype=torch.float64)
    for start, options in one_hot:
        first[start + 1 : start + options] = 0
        # Two one-hot rows are the root of 2 apart, two options shall be 1.
        factor[start : start + options] = math.sqrt(0.5)
    return first.cumsum(0) - 1, factor
