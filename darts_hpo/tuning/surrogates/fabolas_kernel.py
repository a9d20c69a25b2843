"""The Gaussian process of FABOLAS (Klein et al. 2017): how a loss, or a cost, grows with the share of the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darts_hpo.tuning.surrogates.backend import botorch, gpytorch

Basis: TypeAlias = Callable[[Tensor], Tensor]


def log_share(budget: NDArray[np.float64] | float, minimum: float, maximum: float) -> NDArray[np.float64]:
    """Budgets on a logarithmic scale from 0 (the minimum) to 1 (the maximum); 1 where both are equal.

    Args:
        budget: any shape, positive.
        minimum: smallest budget.
        maximum: full budget.
    """
    position = np.asarray(budget, dtype=np.float64)
    if minimum == maximum:
        return np.ones_like(position)
    return np.asarray((np.log2(position) - np.log2(minimum)) / (np.log2(maximum) - np.log2(minimum)))


def budget_of_share(position: NDArray[np.float64] | float, minimum: float, maximum: float) -> NDArray[np.float64]:
    """The inverse of :func:`log_share`."""
    return np.asarray(minimum * (maximum / minimum) ** np.asarray(position, dtype=np.float64))


def loss_basis(s: Tensor) -> Tensor:
    """``(1, (1 - s)^2)``: flat at ``s = 1``, for a loss stops falling with more data (section 4.1 of the paper).

    Args:
        s: shape ``[..., n]``.

    Returns:
        Shape ``[..., n, 2]``.
    """
    return torch.stack([torch.ones_like(s), (1.0 - s) ** 2], dim=-1)


def cost_basis(s: Tensor) -> Tensor:
    """``(1, s)``: the logarithm of the cost grows with the logarithm of the budget, which is a power law.

    Args:
        s: shape ``[..., n]``.

    Returns:
        Shape ``[..., n, 2]``.
    """
    return torch.stack([torch.ones_like(s), s], dim=-1)


class LinearBasisKernel(gpytorch.kernels.Kernel):
    """``k(s, s') = phi(s)^T Sigma phi(s')`` with ``Sigma = L L^T`` learned: Bayesian linear regression on a basis.

    ``L`` is lower triangular with standard normal priors on its three entries, so ``Sigma`` is positive semidefinite
    by construction.

    Args:
        basis: ``phi``, from shape ``[..., n]`` to ``[..., n, 2]``.
        active_dims: the one column that holds ``s``.
    """

    def __init__(self, basis: Basis, active_dims: tuple[int, ...]) -> None:
        super().__init__(active_dims=active_dims)
        self.basis = basis
        self.register_parameter("factor", torch.nn.Parameter(torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)))
        self.register_prior("factor_prior", gpytorch.priors.NormalPrior(0.0, 1.0), "factor")

    @property
    def sigma(self) -> Tensor:
        """Shape ``[2, 2]``."""
        first, below, second = self.factor
        lower = torch.stack([torch.stack([first, torch.zeros_like(first)]), torch.stack([below, second])])
        return lower @ lower.T

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
        """Covariances.

        Args:
            x1: shape ``[..., n, 1]``.
            x2: shape ``[..., m, 1]``.
            diag: only between rows of equal index.

        Returns:
            Shape ``[..., n, m]``, or ``[..., n]`` with ``diag``.
        """
        left, right = self.basis(x1.squeeze(-1)) @ self.sigma, self.basis(x2.squeeze(-1))
        return (left * right).sum(-1) if diag else left @ right.transpose(-1, -2)


def fabolas_gp(x: Tensor, y: Tensor, basis: Basis) -> Any:
    """An unfitted Gaussian process on ``(x, s)`` with kernel ``Matern-5/2(x) * phi(s)^T Sigma phi(s')``.

    Priors: amplitude LogNormal(-2, 1), entries of the factor of ``Sigma`` N(0, 1), noise variance Horseshoe(0.001), as
    in the authors' code; for the lengthscales not their flat prior but LogNormal(sqrt(2) + ln(d)/2, sqrt(3)) of
    Hvarfner et al. 2024, because the hyperparameters here are one maximum a posteriori estimate and not an average
    over Markov chains: a flat prior then lets few points choose a lengthscale of zero.

    Args:
        x: shape ``[n, d + 1]``, float64, in the unit cube; ``s`` is the last column.
        y: shape ``[n, 1]``, standardized.
        basis: :func:`loss_basis` or :func:`cost_basis`.
    """
    width = x.shape[-1] - 1
    matern = botorch.models.utils.gpytorch_modules.get_covar_module_with_dim_scaled_prior(
        ard_num_dims=width, use_rbf_kernel=False, active_dims=tuple(range(width))
    )
    covariance = gpytorch.kernels.ScaleKernel(
        matern * LinearBasisKernel(basis, active_dims=(width,)),
        outputscale_prior=gpytorch.priors.LogNormalPrior(-2.0, 1.0),
    )
    covariance.outputscale = 0.5
    likelihood = gpytorch.likelihoods.GaussianLikelihood(
        noise_prior=gpytorch.priors.HorseshoePrior(0.001),
        noise_constraint=gpytorch.constraints.GreaterThan(1e-6, transform=None, initial_value=1e-3),
    )
    return botorch.models.SingleTaskGP(x, y, covar_module=covariance, likelihood=likelihood, outcome_transform=None)
