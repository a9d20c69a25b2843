"""Entropy search: what an answer would tell about where, or how good, the maximum is."""

from __future__ import annotations

import torch

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.acquisitions.base import Acquisition, Score, Situation
from darts_hpo.tuning.surrogates.backend import botorch


class MaxValueEntropy(Acquisition):
    """Information gained about the largest value (Wang and Jegelka 2017, "Max-value entropy search", eq. 6).

    Answers still out count as if they came exactly as expected, see :attr:`Situation.believed`.

    Args:
        samples: samples of the largest value, from its Gumbel approximation.

    Raises:
        ConfigError: fewer than one sample.
    """

    def __init__(self, samples: int = 16) -> None:
        self.samples = _checked(samples)

    def score(self, situation: Situation) -> Score:  # noqa: D102 - described by the base class
        process = situation.believed
        acquisition = botorch.acquisition.max_value_entropy_search.qMaxValueEntropy(
            process.model, torch.cat([situation.candidates, process.x]), num_mv_samples=self.samples
        )
        return lambda x: acquisition(x.unsqueeze(1))


class GIBBON(Acquisition):
    """A lower bound of that information for batches (Moss et al. 2021, "GIBBON", eq. 8), pending points included.

    Args:
        samples: samples of the largest value, from its Gumbel approximation.

    Raises:
        ConfigError: fewer than one sample.
    """

    def __init__(self, samples: int = 16) -> None:
        self.samples = _checked(samples)

    def score(self, situation: Situation) -> Score:  # noqa: D102
        process = situation.objectives[0]
        acquisition = botorch.acquisition.max_value_entropy_search.qLowerBoundMaxValueEntropy(
            process.model,
            torch.cat([situation.candidates, process.x]),
            num_mv_samples=self.samples,
            X_pending=situation.pending if len(situation.pending) else None,
        )
        return lambda x: acquisition(x.unsqueeze(1))


class JointEntropySearch(Acquisition):
    """Information gained about the maximum and its place together (Hvarfner et al. 2022; Tu et al. 2022).

    Answers still out count as if they came exactly as expected, see :attr:`Situation.believed`.

    Args:
        samples: samples of the maximum, each found on a sample path of the process.

    Raises:
        ConfigError: fewer than one sample.
    """

    def __init__(self, samples: int = 16) -> None:
        self.samples = _checked(samples)

    def score(self, situation: Situation) -> Score:  # noqa: D102
        model = situation.believed.model
        d = situation.observed.shape[1]
        bounds = torch.stack([torch.zeros(d, dtype=torch.float64), torch.ones(d, dtype=torch.float64)])
        rows, values = botorch.acquisition.utils.get_optimal_samples(
            model, bounds, num_optima=self.samples, raw_samples=256, num_restarts=4
        )
        acquisition = botorch.acquisition.joint_entropy_search.qJointEntropySearch(
            model, optimal_inputs=rows, optimal_outputs=values, estimation_type="LB"
        )
        return lambda x: acquisition(x.unsqueeze(1))


def _checked(samples: int) -> int:
    if samples < 1:
        raise ConfigError(f"samples={samples}; expected at least 1.")
    return samples
