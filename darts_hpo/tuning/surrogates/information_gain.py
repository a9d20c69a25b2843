"""What an observation would tell about the best of finitely many points: plain algebra on Gaussian vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Belief:
    """A joint Gaussian over ``R`` representer points at the full budget and ``C`` possible observations.

    Args:
        mean: shape ``[F, R]``: one row per fantasy of the answers still out; they share all covariances.
        covariance: shape ``[R, R]``, between the representers.
        cross: shape ``[C, R]``, between observations and representers.
        variance: shape ``[C]``, of the observations, their noise included.
    """

    mean: Tensor
    covariance: Tensor
    cross: Tensor
    variance: Tensor

    def after(self, cross: Tensor, between: Tensor, covariance: Tensor, draws: Tensor) -> Belief:
        """The belief once ``P`` answers that are still out have come in, as drawn from their predictions.

        Args:
            cross: shape ``[P, R]``, covariances of the answers with the representers.
            between: shape ``[P, C]``, with the observations.
            covariance: shape ``[P, P]``, of the answers, their noise included.
            draws: shape ``[F, P]``, standard normal.
        """
        lower = cholesky(covariance)
        left = torch.linalg.solve_triangular(lower, cross, upper=False)
        right = torch.linalg.solve_triangular(lower, between, upper=False)
        return replace(
            self,
            mean=self.mean[:1] + draws @ left,
            covariance=self.covariance - left.T @ left,
            cross=self.cross - right.T @ left,
            variance=(self.variance - (right**2).sum(0)).clamp_min(1e-12),
        )


def cholesky(matrix: Tensor) -> Tensor:
    """The lower factor, with as little added to the diagonal as it takes."""
    scale = float(matrix.diagonal(dim1=-2, dim2=-1).mean().clamp_min(1e-12))
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype)
    for jitter in (0.0, 1e-10, 1e-8, 1e-6, 1e-4):
        lower, info = torch.linalg.cholesky_ex(matrix + jitter * scale * eye)
        if not bool(info.any()):
            return lower
    return torch.linalg.cholesky(matrix + 1e-2 * scale * eye)


def quantiles(count: int) -> Tensor:
    """``count`` equally likely values of a standard normal: the middles, by probability, of as many slices."""
    middles = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return math.sqrt(2.0) * torch.erfinv(2.0 * middles - 1.0)


def normal_grid(count: int, reach: float = 6.0) -> tuple[Tensor, Tensor]:
    """Equally spaced values of a standard normal with their probabilities.

    Unlike :func:`quantiles` they reach far into the tails, where a rare outcome may be all that tells points apart.

    Args:
        count: of values.
        reach: of the outermost ones, in standard deviations.
    """
    z = torch.linspace(-reach, reach, count, dtype=torch.float64)
    return z, torch.softmax(-0.5 * z**2, dim=0)


def entropy(probabilities: Tensor) -> Tensor:
    """``-sum p ln p`` over the last dimension, in nats."""
    return torch.special.entr(probabilities).sum(-1)


def best_probabilities(samples: Tensor) -> Tensor:
    """How often each point is the best one.

    Args:
        samples: shape ``[..., S, R]``, more is better.

    Returns:
        Shape ``[..., R]``; sums to 1. The paper's ``p_min``, for a loss.
    """
    count, points = samples.shape[-2:]
    chosen = samples.argmax(-1)
    empty = torch.zeros(*chosen.shape[:-1], points, dtype=samples.dtype)
    return empty.scatter_add_(-1, chosen, torch.ones_like(chosen, dtype=samples.dtype)) / count


def information_gain(belief: Belief, base: Tensor, noise: Tensor, outcomes: Tensor) -> Tensor:
    """Expected decrease of the entropy of "which point is the best" (Hennig and Schuler 2012; FABOLAS, eq. 6).

    Every sample of the representers is updated to each fantasized outcome ``y`` by Matheron's rule,
    ``f + k (y - y_f) / v``, where ``y_f`` is the outcome that belongs to the sample. Only one factorization is
    needed, and an observation that is independent of the representers changes no sample: its gain is exactly 0.

    The density from which representers were drawn would enter the paper's relative entropy as ``sum p ln q``. In
    the expectation over outcomes ``p`` stays what it was, so that this term cancels and is left out.

    Args:
        belief: over R representers and C observations.
        base: shape ``[S, R]``, standard normal.
        noise: shape ``[S]``, standard normal.
        outcomes: shape ``[Z]``, standardized outcomes, equally likely.

    Returns:
        Shape ``[C]``, nats; about 0 or more, up to sampling error.
    """
    lower = cholesky(belief.covariance)
    deviation = base @ lower.T
    weights = torch.linalg.solve_triangular(lower, belief.cross.T, upper=False)  # [R, C]
    rest = (belief.variance - (weights**2).sum(0)).clamp_min(0.0).sqrt()
    own = base @ weights + noise[:, None] * rest  # [S, C]: outcomes that belong to the samples, less their mean
    spread = belief.variance.sqrt()
    slope = belief.cross / belief.variance[:, None]  # [C, R]
    total = torch.zeros(len(belief.variance), dtype=base.dtype)
    for mean in belief.mean:
        samples = mean + deviation
        prior = entropy(best_probabilities(samples))
        for z in outcomes:
            shift = (z * spread - own).T.unsqueeze(-1) * slope.unsqueeze(1)  # [C, S, R]
            total += prior - entropy(best_probabilities(samples + shift))
    return total / (len(belief.mean) * len(outcomes))


def knowledge_gradient(
    belief: Belief,
    outcomes: Tensor,
    probabilities: Tensor,
    own_mean: Tensor | None = None,
    own_cross: Tensor | None = None,
) -> Tensor:
    """Expected increase of the largest posterior mean (Frazier et al. 2009; across fidelities Poloczek et al. 2017).

    Args:
        belief: over R representers and C observations.
        outcomes: shape ``[Z]``, standardized outcomes.
        probabilities: shape ``[Z]``, of the outcomes.
        own_mean: shape ``[F, C]``: each observation's own point at the full budget joins the representers.
        own_cross: shape ``[C]``, its covariance with the observation.

    Returns:
        Shape ``[C]``, at least 0.
    """
    spread = belief.variance.sqrt()
    slope = belief.cross / spread[:, None]
    total = torch.zeros_like(spread)
    for row, mean in enumerate(belief.mean):
        now = mean.max().expand_as(spread)
        after = (mean + outcomes[:, None, None] * slope).amax(-1)  # [Z, C]
        if own_mean is not None and own_cross is not None:
            now = torch.maximum(now, own_mean[row])
            after = torch.maximum(after, own_mean[row] + outcomes[:, None] * own_cross / spread)
        total += (probabilities @ after - now).clamp_min(0.0)
    return total / len(belief.mean)
