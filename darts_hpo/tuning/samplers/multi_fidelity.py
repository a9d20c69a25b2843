"""Multi-fidelity Bayesian optimization with BoTorch's kernels (Wu et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darts_hpo.errors import ConfigError, unknown_name
from darts_hpo.tuning.acquisitions.per_cost import GainPerCost, KnowledgeGradient
from darts_hpo.tuning.objectives import Fidelity
from darts_hpo.tuning.samplers.fidelity_aware import FidelityAwareSampler, Models, checked_design
from darts_hpo.tuning.surrogates.backend import botorch
from darts_hpo.tuning.surrogates.cost_model import LogShareCostModel, affine_coefficients, affine_cost_model
from darts_hpo.tuning.surrogates.fabolas_kernel import budget_of_share, log_share
from darts_hpo.tuning.surrogates.fidelity_data import FidelityData
from darts_hpo.tuning.surrogates.map_fit import map_fitted

Kernel: TypeAlias = Literal["linear_truncated", "exponential_decay"]


class MultiFidelitySampler(FidelityAwareSampler):
    """BoTorch's multi-fidelity Gaussian process, and the knowledge gradient or an entropy per cost.

    The fidelity is the share of the full budget; for the kernel ``linear_truncated`` its logarithm from 0 to 1, because
    on a linear scale all small shares look the same, and there losses change most. The cost is
    ``fixed + slope * share``, fitted to the seconds of the results where they are known, with a fixed part of at
    least ``overhead``: with a smaller one, the smallest budget is chosen over and over.

    Args:
        acquisition: gain per cost; the knowledge gradient by default.
        kernel: ``linear_truncated`` suits shares of the data, ``exponential_decay`` epochs.
        n_initial: trials before the model takes over.
        design: budgets of the first trials, as positions on the logarithmic scale from the minimum (0) to the
            maximum (1).
        overhead: what a trial costs at least, besides its budget, as a share of a full trial.
        log: model the logarithm of the objective, where that is a loss to be minimized and all values are positive;
            otherwise, and with False, the value itself.
        candidates: pairs of point and budget that compete, before the best ones are refined.
        fit_steps: of L-BFGS-B at most, for every model.

    Raises:
        ConfigError: an argument is out of range, or there is no such kernel.
    """

    def __init__(
        self,
        acquisition: GainPerCost | None = None,
        kernel: Kernel = "linear_truncated",
        n_initial: int = 9,
        design: Sequence[float] = (0.0, 1 / 3, 2 / 3),
        overhead: float = 0.02,
        log: bool = True,
        candidates: int = 240,
        fit_steps: int = 100,
    ) -> None:
        super().__init__(acquisition or KnowledgeGradient(), n_initial, overhead, log, candidates, fit_steps)
        self.design = checked_design(design)
        kernels = ("linear_truncated", "exponential_decay")
        if kernel not in kernels:
            raise ConfigError(unknown_name("kernel", str(kernel), kernels))
        self.kernel = kernel

    def coordinate(self, budget: NDArray[np.float64], fidelity: Fidelity) -> NDArray[np.float64]:
        """The share of the full budget for ``exponential_decay``, else its logarithm from 0 to 1."""
        if self.kernel == "exponential_decay":
            return np.asarray(budget / fidelity.maximum)
        return log_share(budget, fidelity.minimum, fidelity.maximum)

    def first_budgets(self, fidelity: Fidelity) -> NDArray[np.float64]:
        """Those of ``design``."""
        return budget_of_share(np.array(self.design), fidelity.minimum, fidelity.maximum)

    def budgets(self, fidelity: Fidelity, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Uniform in the logarithm, one in eight of them the full budget."""
        share = np.where(rng.random(count) < 1 / 8, 1.0, rng.random(count))
        return budget_of_share(share, fidelity.minimum, fidelity.maximum)

    def fit(self, rows: Tensor, data: FidelityData, fidelity: Fidelity) -> Models:
        """The process and the affine cost; see :class:`FidelityAwareSampler`."""
        column = rows.shape[-1] - 1
        epochs = self.kernel == "exponential_decay"
        model = botorch.models.SingleTaskMultiFidelityGP(
            rows,
            torch.as_tensor(data.y).unsqueeze(-1),
            data_fidelities=None if epochs else [column],
            iteration_fidelity=column if epochs else None,
            linear_truncated=not epochs,
            outcome_transform=None,
        )
        fixed, slope = affine_coefficients(data.budget / fidelity.maximum, data.cost, self.overhead)
        span = fidelity.maximum / fidelity.minimum
        cost = affine_cost_model(column, fixed, slope) if epochs else LogShareCostModel(fixed, slope, span)
        return Models(map_fitted(model, steps=self.fit_steps), cost)
