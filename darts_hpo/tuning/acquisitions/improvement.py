"""Expected and probable improvement over the best value so far, in closed form.

Answers still out count as if they came exactly as expected, see :attr:`Situation.believed`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.acquisitions.base import Acquisition, Score, Situation


class ExpectedImprovement(Acquisition):
    """``E[max(f(x) - f* - xi, 0)]`` (Jones et al. 1998, eq. 15).

    It underflows to exactly 0 far below the best value, where :class:`LogExpectedImprovement` still knows which
    way is up; that one is the better choice to optimize.

    Args:
        xi: least improvement worth anything, in standard deviations of the outcomes; more explores more.
    """

    def __init__(self, xi: float = 0.0) -> None:
        self.xi = _checked(xi)

    def score(self, situation: Situation) -> Score:  # noqa: D102 - described by the base class
        log_score = self.log_score(situation)
        return lambda x: log_score(x).exp()

    def log_score(self, situation: Situation) -> Score:  # noqa: D102
        def log_score(x: Tensor) -> Tensor:
            z, deviation = _standardized(situation, self.xi, x)
            return log_h(z) + deviation.log()

        return log_score


class LogExpectedImprovement(ExpectedImprovement):
    """Logarithm of the expected improvement (Ament et al. 2023, eq. 8).

    Args:
        xi: least improvement worth anything, in standard deviations of the outcomes; more explores more.
    """

    def score(self, situation: Situation) -> Score:  # noqa: D102
        return self.log_score(situation)


class ProbabilityOfImprovement(Acquisition):
    """``P(f(x) > f* + xi)`` (Kushner 1964).

    Args:
        xi: least improvement that counts, in standard deviations of the outcomes; at 0 it hardly explores.
    """

    def __init__(self, xi: float = 0.01) -> None:
        self.xi = _checked(xi)

    def score(self, situation: Situation) -> Score:  # noqa: D102
        log_score = self.log_score(situation)
        return lambda x: log_score(x).exp()

    def log_score(self, situation: Situation) -> Score:  # noqa: D102
        return lambda x: torch.special.log_ndtr(_standardized(situation, self.xi, x)[0])


class LogProbabilityOfImprovement(ProbabilityOfImprovement):
    """Logarithm of the probability of improvement; its maximum is the same and easier to find.

    Args:
        xi: least improvement that counts, in standard deviations of the outcomes.
    """

    def score(self, situation: Situation) -> Score:  # noqa: D102
        return self.log_score(situation)


def _standardized(situation: Situation, xi: float, x: Tensor) -> tuple[Tensor, Tensor]:
    """``z = (mu - f* - xi) / sigma``, and sigma."""
    mean, variance = situation.believed.posterior(x)
    deviation = variance.sqrt()
    return (mean - situation.best - xi) / deviation, deviation


def _checked(xi: float) -> float:
    if not 0.0 <= xi < math.inf:
        raise ConfigError(f"xi={xi} is no improvement to wait for; expected a number of at least 0, for example 0.01.")
    return float(xi)


def log_h(z: Tensor) -> Tensor:
    """``log(phi(z) + z Phi(z))`` without underflow; any shape.

    Ament et al. 2023, "Unexpected improvements to expected improvement for Bayesian optimization", eq. 9.
    """
    # Each branch is clamped a little beyond where it is used: at a clamp's own edge the slope would be lost.
    near = z.clamp_min(-1.1)
    direct = torch.log(torch.exp(-0.5 * near.square()) / math.sqrt(2 * math.pi) + near * torch.special.ndtr(near))
    # phi(z) + z Phi(z) = phi(z) (1 - |z| R(|z|)) with Mills' ratio R. The bracket tends to 1 / z^2, so that the
    # difference cancels far out; its asymptotic series is exact to rounding there.
    middle = z.clamp(-41.0, -0.9).abs()
    ratio = middle * torch.special.erfcx(middle / math.sqrt(2)) * math.sqrt(math.pi / 2)
    far = z.clamp_max(-39.0).abs()
    square = far.square().reciprocal()
    series = -2 * torch.log(far) + torch.log1p(square * (-3 + square * (15 - 105 * square)))
    bracket = torch.where(z < -40.0, series, torch.log1p(-ratio))
    tail = bracket - 0.5 * z.clamp_max(-0.9).square() - 0.5 * math.log(2 * math.pi)
    return torch.where(z > -1.0, direct, tail)
