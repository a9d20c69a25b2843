"""Expected improvement over a best value that is itself uncertain: noise, and answers still out."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.acquisitions.base import Acquisition, Score, Situation
from darts_hpo.tuning.acquisitions.improvement import log_h
from darts_hpo.tuning.surrogates.backend import botorch
from darts_hpo.tuning.surrogates.gaussian_process import GaussianProcess, stable_cholesky


class LogNoisyExpectedImprovement(Acquisition):
    """Logarithm of the noisy expected improvement, pending answers integrated out. The default.

    Joint samples of the function at the pending rows and at the best observed ones say what the best value may
    turn out to be; given one sample, the improvement at a further row has a closed form (Letham et al. 2019,
    "Constrained Bayesian optimization with noisy experiments", eq. 7-9). The samples are averaged in the logarithm
    (Ament et al. 2023). It is the quantity that qLogNEI estimates for one further point, but only the known rows
    are sampled: smoother, and several times faster.

    Outcome constraints are taken as independent of the objective: a sample's best value is the best among rows
    that are feasible in it, and the improvement is weighted by the probability of being feasible (Letham et al.
    2019, eq. 5). While no row is feasible in any sample, that probability is the score.

    Args:
        samples: joint samples; a power of two suits the Sobol sequence they come from.
        baseline: at most so many observed rows may turn out to be the best; the most promising are kept.

    Raises:
        ConfigError: a number is below 1.
    """

    constrained = True

    def __init__(self, samples: int = 64, baseline: int = 32) -> None:
        if samples < 1 or baseline < 1:
            raise ConfigError(f"samples={samples}, baseline={baseline}: expected at least one of each.")
        self.samples, self.baseline = samples, baseline

    def score(self, situation: Situation) -> Score:  # noqa: D102 - described by the base class
        process = situation.objectives[0]
        rows = torch.cat([self._contenders(situation), situation.pending])
        draws = self._draws(situation, rows)
        values = draws[0]
        valid = torch.ones_like(values, dtype=torch.bool)
        for drawn, bound in zip(draws[1:], situation.bounds, strict=True):
            valid &= drawn <= bound
        if not bool(valid.any()):
            return situation.log_feasibility
        # Where a sample has no feasible row, any feasible one would improve on the worst.
        best = torch.where(valid, values, values.min()).max(dim=1, keepdim=True).values
        fantasies = process.given(rows, values)

        def score(x: Tensor) -> Tensor:
            means, variance = fantasies.posterior(x)
            deviation = variance.sqrt()
            logs = log_h((means - best) / deviation) + deviation.log()
            improvement = torch.logsumexp(logs, dim=0) - math.log(self.samples)
            return improvement + situation.log_feasibility(x)

        return score

    def log_score(self, situation: Situation) -> Score:  # noqa: D102
        return self.score(situation)

    def _contenders(self, situation: Situation) -> Tensor:
        """Observed rows that may be the best feasible ones."""
        mean, variance = situation.objectives[0].posterior(situation.observed)
        promise = mean + 2.0 * variance.sqrt() + situation.log_feasibility(situation.observed)
        order = promise.argsort(descending=True, stable=True)
        return situation.observed[order[: self.baseline]]

    def _draws(self, situation: Situation, rows: Tensor) -> list[Tensor]:
        """Samples of the objective and of every constraint at some rows, each of shape ``[samples, rows]``."""
        processes = (situation.objectives[0], *situation.constraints)
        normal = botorch.utils.sampling.draw_sobol_normal_samples(
            d=len(rows) * len(processes), n=self.samples, dtype=torch.float64, seed=situation.seed
        )
        draws = []
        for process, part in zip(processes, normal.split(len(rows), dim=1), strict=True):
            mean, covariance = process.joint(rows)
            draws.append(mean + part @ stable_cholesky(covariance).T)
        return draws


class QLogNoisyExpectedImprovement(Acquisition):
    """BoTorch's qLogNEI: the same quantity by sampling the further point too (Ament et al. 2023, eq. 12).

    Args:
        samples: joint samples; a power of two suits the Sobol sequence they come from.

    Raises:
        ConfigError: fewer than one sample.
    """

    constrained = True

    def __init__(self, samples: int = 128) -> None:
        if samples < 1:
            raise ConfigError(f"samples={samples}; expected at least 1.")
        self.samples = samples

    def score(self, situation: Situation) -> Score:  # noqa: D102
        if situation.constraints and not bool(situation.feasible.any()):
            return situation.log_feasibility
        acquisition = botorch.acquisition.logei.qLogNoisyExpectedImprovement(
            joint_model((situation.objectives[0], *situation.constraints)),
            situation.observed,
            sampler=botorch.sampling.SobolQMCNormalSampler(torch.Size([self.samples]), seed=situation.seed),
            objective=botorch.acquisition.LinearMCObjective(_first_of(1 + len(situation.constraints))),
            constraints=constraint_functions(situation) or None,
            X_pending=situation.pending if len(situation.pending) else None,
        )
        return lambda x: acquisition(x.unsqueeze(1))

    def log_score(self, situation: Situation) -> Score:  # noqa: D102
        return self.score(situation)


def joint_model(processes: tuple[GaussianProcess, ...]) -> botorch.models.model.Model:
    """BoTorch's model of several independent outputs."""
    models = [process.model for process in processes]
    return models[0] if len(models) == 1 else botorch.models.ModelListGP(*models)


def constraint_functions(situation: Situation) -> list[Callable[[Tensor], Tensor]]:
    """As BoTorch wants constraints: functions of samples, the outputs last, at most 0 where they hold."""
    first = len(situation.objectives)

    def function(output: int, bound: float) -> Callable[[Tensor], Tensor]:
        return lambda samples: samples[..., output] - bound

    return [function(first + index, bound) for index, bound in enumerate(situation.bounds)]


def _first_of(outputs: int) -> Tensor:
    """Weights that pick the first output."""
    return torch.eye(outputs, dtype=torch.float64)[0]
