"""A Gaussian process of BoTorch's with point estimates of its hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from darts_hpo.tuning.surrogates.backend import botorch, gpytorch
from darts_hpo.tuning.surrogates.density import Density, most_probable
from darts_hpo.tuning.surrogates.mixed_kernel import Kernel, LengthScalePrior, MixedKernel, OneHot

Hyperparameters: TypeAlias = Mapping[str, Tensor]
"""The state of a model, as ``state_dict`` gives it."""

Warp: TypeAlias = bool | Literal["auto"]
"""Whether numbers are warped; ``auto``: where the data say so, see :attr:`GaussianProcess.log_evidence`."""

_LEAST_NOISE = 1e-6
"""Variance; keeps matrices regular, and is far below what changes a decision."""


class FitError(Exception):
    """No hyperparameters could be fitted, or the model cannot be conditioned on the data with these."""


@dataclass(frozen=True)
class ModelSettings:
    """What kind of Gaussian process.

    Args:
        kernel: ``rbf`` or ``matern`` (smoothness 5/2), with a length scale per parameter. The prior of the length
            scales grows with the number of parameters (Hvarfner et al. 2024, "Vanilla Bayesian optimization performs
            great in high dimensions", eq. 8).
        warp: learn a monotone map of every number (Kumaraswamy's; Snoek et al. 2014), for objectives that change
            fast at one end of a parameter and slowly at the other. ``auto`` leaves the choice to whoever fits.
        steps: at most so many steps of L-BFGS-B.
        one_hot: first column and width of every categorical.
    """

    kernel: Kernel = "matern"
    warp: Warp = False
    steps: int = 100
    one_hot: OneHot = ()

    def numbers(self, width: int) -> list[int]:
        """The columns of a row that hold numbers and not a categorical, of so many in all."""
        hot = {column for start, options in self.one_hot for column in range(start, start + options)}
        return [column for column in range(width) if column not in hot]


def build(x: Tensor, y: Tensor, settings: ModelSettings) -> botorch.models.SingleTaskGP:
    """An unfitted model.

    Args:
        x: rows of the unit cube, shape ``[n, d]``, float64.
        y: values of about zero mean and unit variance, shape ``[n]``.
        settings: its kind; to ``auto`` it is without a warp.
    """
    d = x.shape[1]
    if settings.one_hot:
        covariance = MixedKernel(settings.kernel, d, settings.one_hot)
    else:
        covariance = botorch.models.utils.gpytorch_modules.get_covar_module_with_dim_scaled_prior(
            ard_num_dims=d, use_rbf_kernel=settings.kernel == "rbf"
        )
        covariance.register_prior("lengthscale_prior", LengthScalePrior(d), "lengthscale")
    numbers = settings.numbers(d)
    warp = None
    if settings.warp is True and numbers:
        prior = gpytorch.priors.LogNormalPrior(0.0, 0.75**0.5)
        # Of the whole cube: by itself it would take the smallest and largest number of the data for the ends, and
        # could not tell those beyond from one another.
        cube = torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, d)
        warp = botorch.models.transforms.Warp(
            d=d, indices=numbers, concentration0_prior=prior, concentration1_prior=prior, bounds=cube
        )
    return botorch.models.SingleTaskGP(
        x,
        y.unsqueeze(-1),
        likelihood=_likelihood(),
        covar_module=covariance,
        outcome_transform=None,
        input_transform=warp,
    )


def _likelihood() -> gpytorch.likelihoods.GaussianLikelihood:
    """Noise whose variance may be anything from a millionth of that of the outcomes upwards.

    BoTorch's prior, LogNormal(-4, 1), is so sure of its hundredths that it takes many results without any noise to
    get below a thousandth: a search then cannot tell the best few points apart. This one has the same median and twice
    the width; its density changes by little between 1e-5 and 1e-2.
    """
    prior = gpytorch.priors.LogNormalPrior(-4.0, 2.0)
    bound = gpytorch.constraints.GreaterThan(_LEAST_NOISE, transform=None, initial_value=math.exp(-5.0))
    return gpytorch.likelihoods.GaussianLikelihood(noise_prior=prior, noise_constraint=bound)


def fit(x: Tensor, y: Tensor, settings: ModelSettings) -> Hyperparameters:
    """Hyperparameters of greatest posterior density, found from the modes of their priors.

    Always from the same start: what comes out depends on the data alone, not on earlier fits.

    Raises:
        FitError: the covariance matrix is positive definite nowhere on the way, or nothing finite came out.
    """
    model = build(x, y, settings)
    density = Density(model, x, y)
    try:
        theta = most_probable(density, settings.steps)
    except (RuntimeError, ValueError, ArithmeticError) as error:
        raise FitError(str(error)) from error
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return state | density.state(theta)


class GaussianProcess:
    """A model with given hyperparameters, conditioned on data.

    Args:
        x: rows of the unit cube, shape ``[n, d]``, float64.
        y: shape ``[n]``.
        hyperparameters: of :func:`fit`; None takes the modes of the priors.
        settings: must be those of the fit.
        noise_factor: multiplies the noise variance; above 1 where the matrix is near singular.

    Raises:
        FitError: the covariance matrix of the data is not positive definite.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        hyperparameters: Hyperparameters | None,
        settings: ModelSettings,
        noise_factor: float = 1.0,
    ) -> None:
        self.x, self.y = x, y
        self.settings, self.noise_factor = settings, noise_factor
        self.model = build(x, y, settings)
        self.hyperparameters: Hyperparameters = hyperparameters or {
            name: value.detach().clone() for name, value in self.model.state_dict().items()
        }
        self.model.load_state_dict(dict(self.hyperparameters))
        self.model.likelihood.noise_covar.noise = self.noise * noise_factor
        self.model.requires_grad_(False)
        self.model.eval()
        self._rows = self.model.transform_inputs(x)
        matrix = self._covariance(self._rows, self._rows)
        matrix.diagonal().add_(self.noise)
        factor, info = torch.linalg.cholesky_ex(matrix)
        if int(info) != 0 or not bool(torch.isfinite(factor).all()):
            raise FitError("the covariance matrix of the data is not positive definite")
        self._factor = factor
        self._weights = torch.cholesky_solve((y - self._mean).unsqueeze(-1), factor)

    @property
    def log_evidence(self) -> float:
        """How well a process of this kind explains its data: approximate log-probability of ``y``.

        The log marginal likelihood at the hyperparameters, less half the logarithm of the number of results for each
        of these (Schwarz 1978, "Estimating the dimension of a model").
        """
        n, hyperparameters = len(self.y), sum(parameter.numel() for parameter in self.model.parameters())
        fit = -0.5 * float((self.y - self._mean) @ self._weights.squeeze(-1))
        size = -float(self._factor.diagonal().log().sum()) - 0.5 * n * math.log(2.0 * math.pi)
        return fit + size - 0.5 * hyperparameters * math.log(n)

    @property
    def noise(self) -> Tensor:
        """Variance of the noise, a scalar."""
        return self.model.likelihood.noise.detach().reshape(())

    @property
    def _mean(self) -> Tensor:
        return self.model.mean_module.constant.detach().reshape(())

    def _covariance(self, a: Tensor, b: Tensor) -> Tensor:
        return self.model.covar_module(a, b).to_dense()

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the noise-free function, each of shape ``[k]``, at rows of shape ``[k, d]``."""
        mean, variance, _ = self._posterior(self.model.transform_inputs(x))
        return mean, variance

    def _posterior(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variance and the whitened covariance with the data, shape ``[n, k]``."""
        cross = self._covariance(self._rows, rows)
        mean = self._mean + (cross.T @ self._weights).squeeze(-1)
        white = torch.linalg.solve_triangular(self._factor, cross, upper=False)
        prior = self.model.covar_module(rows, diag=True)
        return mean, (prior - white.square().sum(0)).clamp_min(1e-12), white

    def joint(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Joint mean, shape ``[k]``, and covariance, shape ``[k, k]``, of the noise-free function."""
        rows = self.model.transform_inputs(x)
        mean, _, white = self._posterior(rows)
        return mean, self._covariance(rows, rows) - white.T @ white

    def influence(self, x: Tensor, elsewhere: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How an answer at ``x`` that is one standard deviation above its expectation would move the mean.

        Args:
            x: shape ``[k, d]``, one further answer at each.
            elsewhere: shape ``[a, d]``.

        Returns:
            The mean at ``x``, shape ``[k]``; by how much the mean moves ``elsewhere``, shape ``[k, a]``; and at
            ``x`` itself, shape ``[k]``.
        """
        rows, others = self.model.transform_inputs(x), self.model.transform_inputs(elsewhere)
        mean, variance, white = self._posterior(rows)
        _, _, white_others = self._posterior(others)
        covariance = self._covariance(rows, others) - white.T @ white_others
        deviation = (variance + self.noise).sqrt()
        return mean, covariance / deviation.unsqueeze(-1), variance / deviation

    def with_believed(self, x: Tensor) -> GaussianProcess:
        """The process as if the answers at some rows had come in exactly as its mean expects them.

        The mean stays as it is, the variance shrinks there (the "kriging believer" of Ginsbourger et al. 2010).

        Args:
            x: shape ``[k, d]``.
        """
        if not len(x):
            return self
        mean, _ = self.posterior(x)
        return GaussianProcess(
            torch.cat([self.x, x]),
            torch.cat([self.y, mean]),
            self.hyperparameters,
            self.settings,
            self.noise_factor,
        )

    def given(self, x: Tensor, values: Tensor) -> Fantasies:
        """The process under several assumptions about its noise-free values at some rows.

        Args:
            x: where, shape ``[k, d]``.
            values: shape ``[s, k]``, one row per assumption.
        """
        return Fantasies(self, x, values)


class Fantasies:
    """A Gaussian process conditioned on assumed noise-free values; see :meth:`GaussianProcess.given`.

    All assumptions share their rows, so that one variance serves them all.
    """

    def __init__(self, process: GaussianProcess, x: Tensor, values: Tensor) -> None:
        self._process = process
        self._rows = process.model.transform_inputs(x)
        mean, _, self._white = process._posterior(self._rows)
        covariance = process._covariance(self._rows, self._rows) - self._white.T @ self._white
        self._factor = stable_cholesky(covariance)
        self._weights = torch.cholesky_solve((values - mean).T, self._factor)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means, shape ``[s, k]``, and the variance, shape ``[k]``, at rows of shape ``[k, d]``."""
        process = self._process
        rows = process.model.transform_inputs(x)
        mean, variance, white = process._posterior(rows)
        cross = process._covariance(self._rows, rows) - self._white.T @ white
        means = mean + self._weights.T @ cross
        further = torch.linalg.solve_triangular(self._factor, cross, upper=False)
        return means, (variance - further.square().sum(0)).clamp_min(1e-12)


def stable_cholesky(covariance: Tensor) -> Tensor:
    """The Cholesky factor of a covariance matrix, with as little jitter as it takes.

    Raises:
        FitError: even a hundredth of the mean variance is not enough.
    """
    size = covariance.diagonal().mean().clamp_min(1e-12)
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    for jitter in (1e-8, 1e-6, 1e-4, 1e-2):
        factor, info = torch.linalg.cholesky_ex(covariance + jitter * size * identity)
        if int(info) == 0 and bool(torch.isfinite(factor).all()):
            return factor
    raise FitError("the posterior covariance is not positive definite")
