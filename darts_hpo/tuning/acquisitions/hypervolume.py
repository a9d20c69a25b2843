"""Several objectives: improvement of the volume that the Pareto front dominates."""

from __future__ import annotations

import torch

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.acquisitions.base import Acquisition, Score, Situation
from darts_hpo.tuning.acquisitions.noisy_improvement import constraint_functions, joint_model
from darts_hpo.tuning.surrogates.backend import botorch


class QLogNoisyExpectedHypervolumeImprovement(Acquisition):
    """BoTorch's qLogNEHVI, pending points and outcome constraints included (Daulton et al. 2021; Ament et al. 2023).

    The default for two or more objectives. The reference point lies a tenth of the front's range below its worst
    values (Ishibuchi et al. 2011).

    Args:
        samples: joint samples; a power of two suits the Sobol sequence they come from.

    Raises:
        ConfigError: fewer than one sample.
    """

    several_objectives = True
    constrained = True

    def __init__(self, samples: int = 64) -> None:
        if samples < 1:
            raise ConfigError(f"samples={samples}; expected at least 1.")
        self.samples = samples

    def score(self, situation: Situation) -> Score:  # noqa: D102 - described by the base class
        if situation.constraints and not bool(situation.feasible.any()):
            return situation.log_feasibility
        values = situation.values[situation.feasible] if situation.constraints else situation.values
        front = values[botorch.utils.multi_objective.is_non_dominated(values)]
        reference = botorch.utils.multi_objective.infer_reference_point(front)
        outputs = list(range(len(situation.objectives)))
        acquisition = botorch.acquisition.multi_objective.logei.qLogNoisyExpectedHypervolumeImprovement(
            joint_model((*situation.objectives, *situation.constraints)),
            reference,
            situation.observed,
            sampler=botorch.sampling.SobolQMCNormalSampler(torch.Size([self.samples]), seed=situation.seed),
            objective=botorch.acquisition.multi_objective.IdentityMCMultiOutputObjective(
                outcomes=outputs, num_outcomes=len(outputs) + len(situation.constraints)
            ),
            constraints=constraint_functions(situation) or None,
            X_pending=situation.pending if len(situation.pending) else None,
            prune_baseline=True,
        )
        return lambda x: acquisition(x.unsqueeze(1))

    def log_score(self, situation: Situation) -> Score:  # noqa: D102
        return self.score(situation)
