"""The posterior density of a Gaussian process's hyperparameters, its slope written out, and where it is largest.

These processes are small and of one form. Nearly all the time that a general library needs to evaluate one goes into
building graphs and walking them backwards, which the same number and slope written out do without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize
from torch import Tensor

from darts_hpo.tuning.surrogates.backend import botorch
from darts_hpo.tuning.surrogates.mixed_kernel import LengthScalePrior, MixedKernel, columns

_EDGE = 1e-7
"""By how much BoTorch's warp keeps numbers away from 0 and 1, where its powers have no slope."""
_UNREACHABLE = 1e25
"""In place of a density where the covariance matrix is not positive definite: a line search turns back there."""


@dataclass(frozen=True)
class _Prior:
    """``LogNormal(centre, width)`` times ``exp(-push / value^2)``."""

    centre: float
    width: float
    push: float = 0.0

    @classmethod
    def of(cls, module: torch.nn.Module, name: str) -> _Prior:
        """The one that a module has registered."""
        prior = getattr(module, name)
        push = prior.push if isinstance(prior, LengthScalePrior) else 0.0
        return cls(float(prior.loc), float(prior.scale), push)

    def log_density(self, logs: Tensor) -> tuple[float, Tensor]:
        """Summed over some values, and its slope by their logarithms, which it takes."""
        distance, push = (logs - self.centre) / self.width, self.push * torch.exp(-2.0 * logs)
        constant = math.log(self.width) + 0.5 * math.log(2.0 * math.pi)
        return float((-0.5 * distance.square() - logs - push - constant).sum()), -distance / self.width - 1.0 + 2 * push


class Density:
    """Logarithm of the posterior density of hyperparameters given results: marginal likelihood times priors.

    Hyperparameters are a vector ``theta``: the constant mean, then logarithms of the noise variance, of the length
    scales, and of both exponents of every warped number. The density is one of the values, not of their logarithms:
    where it is largest does not depend on that choice of coordinates.

    Args:
        model: BoTorch's, untrained; its priors, bounds and initial values hold.
        x: rows, shape ``[n, d]``.
        y: shape ``[n]``.
    """

    def __init__(self, model: botorch.models.SingleTaskGP, x: Tensor, y: Tensor) -> None:
        self._x, self._y = x, y
        kernel, noise, warp = model.covar_module, model.likelihood.noise_covar, getattr(model, "input_transform", None)
        if isinstance(kernel, MixedKernel):
            name, squared, one_hot = "length_scales", kernel.kernel == "rbf", kernel.one_hot
        else:
            name, squared, one_hot = "lengthscale", not hasattr(kernel, "nu"), ()
        self._squared = squared
        self._owner, self._factor = columns(x.shape[1], one_hot)
        raw = name if one_hot else f"raw_{name}"
        # Where in a state each part of theta belongs, and its prior.
        self._parts: list[tuple[str, torch.nn.Parameter, float, _Prior]] = [
            ("likelihood.noise_covar.raw_noise", noise.raw_noise, _floor(noise), _Prior.of(noise, "noise_prior")),
            (f"covar_module.{raw}", getattr(kernel, raw), _floor(kernel), _Prior.of(kernel, f"{name}_prior")),
        ]
        self._numbers = torch.empty(0, dtype=torch.int64)
        if warp is not None:
            self._numbers = warp.indices
            self._logs = (x[:, self._numbers] * (1.0 - 2.0 * _EDGE) + _EDGE).log()
            for which in ("concentration0", "concentration1"):
                part = (
                    f"input_transform.{which}",
                    getattr(warp, which),
                    _floor(warp),
                    _Prior.of(warp, f"{which}_prior"),
                )
                self._parts.append(part)

    @property
    def start(self) -> NDArray[np.float64]:
        """``theta`` of the model as it was built: the modes of the priors."""
        logs = [parameter.detach().reshape(-1).log() for _, parameter, _, _ in self._parts]
        return torch.cat([torch.zeros(1, dtype=torch.float64), *logs]).numpy()

    @property
    def bounds(self) -> list[tuple[float | None, float | None]]:
        """Of every entry of ``theta``."""
        found: list[tuple[float | None, float | None]] = [(None, None)]
        for _, parameter, least, _ in self._parts:
            found += [(math.log(least), None)] * parameter.numel()
        return found

    def state(self, theta: NDArray[np.float64]) -> dict[str, Tensor]:
        """The entries of the model's state that ``theta`` decides."""
        values = torch.from_numpy(theta)
        state, position = {"mean_module.raw_constant": values[0].clone()}, 1
        for name, parameter, least, _ in self._parts:
            end = position + parameter.numel()
            state[name] = values[position:end].exp().clamp_min(least).reshape(parameter.shape)
            position = end
        return state

    def negative(self, theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Minus the logarithm of the density per result, and its slope."""
        values, n = torch.from_numpy(theta), len(self._y)
        pieces = list(values[1:].split([parameter.numel() for _, parameter, _, _ in self._parts]))
        noise, lengths = pieces[0].exp(), pieces[1]
        x = self._x
        if len(self._numbers):
            outer, inner = pieces[2].exp(), pieces[3].exp()
            power = torch.exp(inner * self._logs)
            log_rest = torch.log1p(-power)
            rest = torch.exp(outer * log_rest)
            x = x.index_copy(1, self._numbers, 1.0 - rest)
        multiple = self._factor * torch.exp(-lengths)[self._owner]
        rows = (x - x.mean(0)) * multiple
        matrix, by_distance = self._kernel(rows)
        matrix.diagonal().add_(noise)
        factor, info = torch.linalg.cholesky_ex(matrix)
        if int(info) != 0:
            return _UNREACHABLE, np.zeros_like(theta)
        inverse = torch.cholesky_inverse(factor)
        residual = self._y - values[0]
        weights = inverse @ residual
        log_density = -0.5 * float(residual @ weights) - float(factor.diagonal().log().sum())
        log_density -= 0.5 * n * math.log(2.0 * math.pi)
        # Slope by every entry of the matrix (Rasmussen and Williams 2006, "Gaussian processes for machine learning",
        # eq. 5.9); by squared distances; by scaled rows.
        by_entry = 0.5 * (torch.outer(weights, weights) - inverse)
        by_distance.mul_(by_entry).fill_diagonal_(0.0)
        by_row = 4.0 * (by_distance.sum(1, keepdim=True) * rows - by_distance @ rows)
        slopes = [noise * by_entry.diagonal().sum()]
        slopes.append(torch.zeros_like(lengths).index_add_(0, self._owner, -(by_row * rows).sum(0)))
        if len(self._numbers):
            by_rest = -(by_row * multiple)[:, self._numbers] * rest
            slopes.append((by_rest * log_rest).sum(0) * outer)
            slopes.append((by_rest * power / (power - 1.0) * self._logs).sum(0) * inner * outer)
        for index, (_, _, _, prior) in enumerate(self._parts):
            addition, slope = prior.log_density(pieces[index])
            log_density += addition
            slopes[index] = slopes[index] + slope
        return -log_density / n, (-torch.cat([weights.sum().reshape(1), *slopes]) / n).numpy()

    def _kernel(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The matrix of scaled rows, and the slope of its entries by the squared distances of these."""
        norms = rows.square().sum(1)
        distances = (norms.unsqueeze(1) + norms - 2.0 * rows @ rows.T).clamp_min_(0.0).fill_diagonal_(0.0)
        if self._squared:
            matrix = torch.exp(-0.5 * distances)
            return matrix, -0.5 * matrix
        root = (5.0 * distances).sqrt()
        decay = torch.exp(-root)
        return (1.0 + root + 5.0 / 3.0 * distances) * decay, -5.0 / 6.0 * (1.0 + root) * decay


def most_probable(density: Density, steps: int) -> NDArray[np.float64]:
    """``theta`` where a density is largest, found by L-BFGS-B from the modes of the priors.

    Args:
        density: of the hyperparameters.
        steps: at most.

    Raises:
        ArithmeticError: the covariance matrix is positive definite nowhere on the way, or nothing finite came out.
    """
    found = optimize.minimize(
        density.negative, density.start, jac=True, method="L-BFGS-B", bounds=density.bounds, options={"maxiter": steps}
    )
    if not np.isfinite(found.x).all():
        raise ArithmeticError("the hyperparameters are not finite")
    if not found.fun < _UNREACHABLE:
        raise ArithmeticError("the covariance matrix of the data is not positive definite")
    return np.asarray(found.x, dtype=np.float64)


def _floor(module: Any) -> float:
    """The lower bound of a module's one kind of hyperparameter."""
    return max(float(constraint.lower_bound) for _, constraint in module.named_constraints())
