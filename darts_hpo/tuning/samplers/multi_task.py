"""Multi-task Bayesian optimization (Swersky et al. 2013): a few budgets as related tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.acquisitions.per_cost import EntropySearch, GainPerCost
from darts_hpo.tuning.objectives import Fidelity
from darts_hpo.tuning.samplers.fidelity_aware import FidelityAwareSampler, Models
from darts_hpo.tuning.surrogates.backend import botorch
from darts_hpo.tuning.surrogates.cost_model import TaskCostModel, proportional_costs
from darts_hpo.tuning.surrogates.fabolas_kernel import log_share
from darts_hpo.tuning.surrogates.fidelity_data import FidelityData
from darts_hpo.tuning.surrogates.map_fit import map_fitted


class MultiTaskSampler(FidelityAwareSampler):
    """Knows only a few budgets, and learns how they are correlated: the method that FABOLAS is compared with.

    The model is BoTorch's multi-task Gaussian process (intrinsic coregionalization: one kernel over points times a
    matrix over tasks; a mean and a noise per task). The cost of a task is the median of what was seen on it.

    Args:
        acquisition: gain on the full task per cost; entropy search, as in the paper, by default.
        shares: of the full budget, which make the tasks, smallest first. 1 is added where it's missing; those below the
            minimum of the study become the minimum.
        n_initial: trials before the model takes over; each point runs on every task in turn.
        overhead: what a trial costs at least, besides its budget, as a share of a full trial.
        log: model the logarithm of the objective, where that is a loss to be minimized and all values are positive;
            otherwise, and with False, the value itself.
        candidates: pairs of point and budget that compete, before the best ones are refined.
        fit_steps: of L-BFGS-B at most, for every model.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        acquisition: GainPerCost | None = None,
        shares: Sequence[float] = (1 / 64, 1 / 16, 1 / 4, 1.0),
        n_initial: int = 8,
        overhead: float = 0.01,
        log: bool = True,
        candidates: int = 240,
        fit_steps: int = 100,
    ) -> None:
        if not shares or not all(0.0 < share <= 1.0 for share in shares):
            raise ConfigError(f"shares={list(shares)}: expected shares of the full budget, above 0, at most 1.")
        super().__init__(acquisition or EntropySearch(), n_initial, overhead, log, candidates, fit_steps)
        self.shares = tuple(sorted({*shares, 1.0}))

    def tasks(self, fidelity: Fidelity) -> NDArray[np.float64]:
        """The budgets of the tasks, smallest first, the full one last; each once."""
        return np.unique([fidelity.rounded(share * fidelity.maximum) for share in self.shares])

    def coordinate(self, budget: NDArray[np.float64], fidelity: Fidelity) -> NDArray[np.float64]:
        """The index of the nearest task, by the logarithm of its budget."""
        tasks = log_share(self.tasks(fidelity), fidelity.minimum, fidelity.maximum)
        position = log_share(budget, fidelity.minimum, fidelity.maximum)
        return np.abs(position[..., None] - tasks).argmin(-1).astype(np.float64)

    def first_budgets(self, fidelity: Fidelity) -> NDArray[np.float64]:
        """Those of the tasks, smallest first."""
        return self.tasks(fidelity)

    def budgets(self, fidelity: Fidelity, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Those of the tasks, equally often."""
        return np.asarray(rng.choice(self.tasks(fidelity), size=count))

    def allowed(self, budget: float, fidelity: Fidelity) -> float:
        """That of the nearest task."""
        return float(self.tasks(fidelity)[int(self.coordinate(np.array(budget), fidelity))])

    def fit(self, rows: Tensor, data: FidelityData, fidelity: Fidelity) -> Models:
        """The process and a cost per task; see :class:`FidelityAwareSampler`."""
        tasks = self.tasks(fidelity)
        model = botorch.models.MultiTaskGP(
            rows,
            torch.as_tensor(data.y).unsqueeze(-1),
            task_feature=-1,
            all_tasks=list(range(len(tasks))),
            output_tasks=[len(tasks) - 1],
            outcome_transform=None,
        )
        return Models(map_fitted(model, steps=self.fit_steps), TaskCostModel(self._costs(data, tasks, fidelity)))

    def _costs(self, data: FidelityData, tasks: NDArray[np.float64], fidelity: Fidelity) -> Tensor:
        cost, task = proportional_costs(data.cost, data.budget), self.coordinate(data.budget, fidelity)
        rate = float(np.median(cost / data.budget))
        medians = [
            float(np.median(cost[task == index])) if (task == index).any() else rate * budget
            for index, budget in enumerate(tasks)
        ]
        return torch.tensor(medians) + self.overhead * medians[-1]
