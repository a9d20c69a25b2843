"""FABOLAS: Bayesian optimization on subsets of the data (Klein et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darts_hpo.tuning.acquisitions.per_cost import EntropySearch, GainPerCost
from darts_hpo.tuning.objectives import Fidelity
from darts_hpo.tuning.samplers.fidelity_aware import FidelityAwareSampler, Models, checked_design
from darts_hpo.tuning.surrogates.cost_model import LogShareCostModel, log_cost_model, proportional_costs
from darts_hpo.tuning.surrogates.fabolas_kernel import budget_of_share, fabolas_gp, log_share, loss_basis
from darts_hpo.tuning.surrogates.fidelity_data import FidelityData
from darts_hpo.tuning.surrogates.map_fit import map_fitted


class FabolasSampler(FidelityAwareSampler):
    """Learns how loss and cost grow with the budget, and looks where a cheap trial tells most about full ones.

    The loss is a Gaussian process with kernel ``Matern-5/2(x) * phi(s)^T Sigma phi(s')``, ``phi(s) = (1, (1-s)^2)``,
    where ``s`` in [0, 1] is the logarithm of the budget; the logarithm of the cost another with ``phi(s) = (1, s)``,
    fitted to the seconds of the results; where there are none, the cost is proportional to the budget. A loss to be
    minimized whose values are all positive is modelled by its logarithm, as in the paper; anything else, an accuracy
    for example, as it is. Hyperparameters are maximum a posteriori estimates (the paper averages over Markov chains,
    which takes many times as long).

    The first trials run each point at several small budgets. Then a trial is chosen by ``acquisition``: entropy
    search as in the paper (default), or :class:`~darts_hpo.tuning.acquisitions.per_cost.MaxValueEntropy`, which is
    cheaper. :meth:`incumbent` is the paper's: the observed point with the best prediction at the full budget.

    Args:
        acquisition: gain per cost.
        n_initial: trials before the model takes over.
        design: budgets of the first trials, as positions on the logarithmic scale from the minimum (0) to the
            maximum (1). With a minimum of 1/64, the default is the paper's 1/64, 1/32, 1/16, 1/8.
        overhead: what a trial costs at least, besides its budget, as a share of a full trial.
        log: see above; False models the values as they are.
        candidates: pairs of point and budget that compete, before the best ones are refined.
        fit_steps: of L-BFGS-B at most, for every model.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        acquisition: GainPerCost | None = None,
        n_initial: int = 12,
        design: Sequence[float] = (0.0, 1 / 6, 1 / 3, 1 / 2),
        overhead: float = 0.01,
        log: bool = True,
        candidates: int = 240,
        fit_steps: int = 100,
    ) -> None:
        super().__init__(acquisition or EntropySearch(), n_initial, overhead, log, candidates, fit_steps)
        self.design = checked_design(design)

    def coordinate(self, budget: NDArray[np.float64], fidelity: Fidelity) -> NDArray[np.float64]:
        """The logarithm of the budget, 0 at the minimum, 1 at the maximum."""
        return log_share(budget, fidelity.minimum, fidelity.maximum)

    def first_budgets(self, fidelity: Fidelity) -> NDArray[np.float64]:
        """Those of ``design``."""
        return budget_of_share(np.array(self.design), fidelity.minimum, fidelity.maximum)

    def budgets(self, fidelity: Fidelity, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Uniform in the logarithm, one in eight of them the full budget."""
        share = np.where(rng.random(count) < 1 / 8, 1.0, rng.random(count))
        return budget_of_share(share, fidelity.minimum, fidelity.maximum)

    def fit(self, rows: Tensor, data: FidelityData, fidelity: Fidelity) -> Models:
        """Both processes; see :class:`FidelityAwareSampler`."""
        gain = map_fitted(fabolas_gp(rows, torch.as_tensor(data.y).unsqueeze(-1), loss_basis), steps=self.fit_steps)
        if not np.isfinite(data.cost).any():
            return Models(gain, LogShareCostModel(self.overhead, 1.0, fidelity.maximum / fidelity.minimum))
        full = rows.clone()
        full[:, -1] = 1.0
        cost = proportional_costs(data.cost, data.budget)
        return Models(gain, log_cost_model(rows, cost, full, self.overhead, self.fit_steps))
