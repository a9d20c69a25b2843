"""What a trial would cost at a budget: a process on logarithms (FABOLAS), or a line through the budgets."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize
from torch import Tensor

from darts_hpo.tuning.surrogates.backend import botorch
from darts_hpo.tuning.surrogates.fabolas_kernel import cost_basis, fabolas_gp
from darts_hpo.tuning.surrogates.map_fit import map_fitted


class LogCostModel(botorch.models.deterministic.DeterministicModel):
    """``exp`` of a Gaussian process on the logarithm of the cost, plus an overhead that every trial has.

    Args:
        model: fitted to the standardized logarithm.
        mean: of the logarithms.
        deviation: of the logarithms.
        overhead: in the unit of the costs.
    """

    def __init__(self, model: Any, mean: float, deviation: float, overhead: float) -> None:
        super().__init__()
        self.model, self.mean, self.deviation, self.overhead = model, mean, deviation, overhead
        self._num_outputs = 1

    def forward(self, X: Tensor) -> Tensor:  # noqa: N803 - BoTorch's name
        """Predicted costs: shape ``[..., q, d + 1]`` to ``[..., q, 1]``, positive."""
        return (self.model.posterior(X).mean * self.deviation + self.mean).exp() + self.overhead


class LogShareCostModel(botorch.models.deterministic.DeterministicModel):
    """``fixed + slope * share``, where the logarithmic position of the budget stands in the last column.

    Args:
        fixed: cost of every trial.
        slope: cost of a full budget besides.
        span: full budget over smallest budget.
    """

    def __init__(self, fixed: float, slope: float, span: float) -> None:
        super().__init__()
        self.fixed, self.slope, self.span = fixed, slope, span
        self._num_outputs = 1

    def forward(self, X: Tensor) -> Tensor:  # noqa: N803 - BoTorch's name
        """Costs: shape ``[..., q, d + 1]`` to ``[..., q, 1]``, positive."""
        return self.fixed + self.slope * self.span ** (X[..., -1:] - 1.0)


def proportional_costs(cost: NDArray[np.float64], budget: NDArray[np.float64]) -> NDArray[np.float64]:
    """The costs with unknown ones filled in, in proportion to the budget.

    Args:
        cost: shape ``[n]``, NaN where unknown.
        budget: shape ``[n]``, positive.

    Returns:
        Shape ``[n]``, positive. Where nothing is known, the budgets themselves.
    """
    known = np.isfinite(cost) & (cost > 0)
    rate = float(np.median(cost[known] / budget[known])) if known.any() else 1.0
    return np.where(known, cost, rate * budget)


def log_cost_model(
    x: Tensor, cost: NDArray[np.float64], full: Tensor, overhead: float, steps: int = 100
) -> LogCostModel:
    """The cost model of FABOLAS (section 4.1): a second process with basis ``(1, s)``, in logarithms.

    Args:
        x: shape ``[n, d + 1]``, ``s`` in the last column.
        cost: shape ``[n]``, positive.
        full: shape ``[m, d + 1]``, points at the full budget.
        overhead: of every trial, as a share of the median predicted cost of ``full``.
        steps: of the fit, at most.
    """
    logs = np.log(cost)
    mean, deviation = float(logs.mean()), float(logs.std())
    deviation = deviation if deviation > 1e-9 else 1.0
    y = torch.as_tensor((logs - mean) / deviation).unsqueeze(-1)
    model = map_fitted(fabolas_gp(x, y, cost_basis), steps=steps)
    without = LogCostModel(model, mean, deviation, 0.0)
    with torch.no_grad():
        whole = float(without(full).median())
    return LogCostModel(model, mean, deviation, overhead * whole)


def affine_coefficients(share: NDArray[np.float64], cost: NDArray[np.float64], overhead: float) -> tuple[float, float]:
    """Fixed cost and cost per unit of the budget, both as shares of a full trial's cost; they add up to 1.

    Least squares with both coefficients at least 0. The fixed cost is at least ``overhead``: were it next to nothing,
    a sampler that weighs gain against cost would choose the smallest budget forever.

    Args:
        share: shape ``[n]``, of the full budget, in (0, 1].
        cost: shape ``[n]``, NaN where unknown.
        overhead: smallest fixed cost, in [0, 1).
    """
    known = np.isfinite(cost) & (cost > 0)
    if len(np.unique(share[known])) < 2:
        return overhead, 1.0 - overhead
    # Relative errors: a large trial's seconds vary more than a small one's.
    design = np.stack([np.ones(int(known.sum())), share[known]], axis=1) / cost[known, None]
    coefficients, _ = optimize.nnls(design, np.ones(int(known.sum())))
    total = float(coefficients.sum())
    fixed = min(max(float(coefficients[0]) / total, overhead), 0.95) if total > 0 else overhead
    return fixed, 1.0 - fixed


def affine_cost_model(column: int, fixed: float, slope: float) -> Any:
    """BoTorch's ``fixed + slope * share``, where ``share`` stands in one column."""
    return botorch.models.cost.AffineFidelityCostModel(fidelity_weights={column: slope}, fixed_cost=fixed)


class TaskCostModel(botorch.models.deterministic.DeterministicModel):
    """A cost per task, whose index stands in the last column.

    Args:
        costs: shape ``[T]``, positive.
    """

    def __init__(self, costs: Tensor) -> None:
        super().__init__()
        self.costs = costs
        self._num_outputs = 1

    def forward(self, X: Tensor) -> Tensor:  # noqa: N803 - BoTorch's name
        """Costs: shape ``[..., q, d + 1]`` to ``[..., q, 1]``."""
        return self.costs[X[..., -1:].round().long()]
