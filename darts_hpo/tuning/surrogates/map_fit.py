"""Hyperparameters of a Gaussian process at the maximum of their posterior."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch

from darts_hpo.tuning.surrogates.backend import botorch, gpytorch

FACTORIZATION_ERRORS: tuple[type[Exception], ...] = (
    botorch.optim.utils.common.NotPSDError,
    botorch.optim.utils.common.NanError,
    torch.linalg.LinAlgError,
)
"""What a covariance matrix raises that is not positive definite, however much is added to its diagonal."""

_FIT_ERRORS: tuple[type[Exception], ...] = (*FACTORIZATION_ERRORS, ValueError)


def map_fitted(model: Any, *, steps: int = 100) -> Any:
    """The model with fitted hyperparameters, ready to predict.

    One run of L-BFGS-B from where the model stands. A matrix that is not positive definite ends it; the model then
    keeps what it began with, which the priors chose.

    Args:
        model: of BoTorch, exact.
        steps: at most.
    """
    mll = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    before = copy.deepcopy(model.state_dict())
    mll.train()
    try:
        with warnings.catch_warnings():
            # That the steps are used up, or that a line search ended early, is no reason to discard the fit.
            warnings.simplefilter("ignore", category=botorch.exceptions.warnings.OptimizationWarning)
            botorch.optim.fit.fit_gpytorch_mll_scipy(mll, options={"maxiter": steps})
    except _FIT_ERRORS:
        model.load_state_dict(before)
    if not all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters()):
        model.load_state_dict(before)
    mll.eval()
    return model
