"""BoTorch and GPyTorch, imported and run the way this package needs them: quiet, exact, on one thread, repeatable.

Other modules take both libraries from here, so that what is known about them stands in one place.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

with warnings.catch_warnings():
    # linear_operator still compiles a function that we never use with a deprecated call when it is imported.
    warnings.filterwarnings("ignore", message=r".*torch\.jit\.script.* is deprecated", category=FutureWarning)
    import botorch
    import botorch.acquisition.joint_entropy_search
    import botorch.acquisition.max_value_entropy_search
    import botorch.acquisition.multi_objective.logei
    import botorch.models.transforms.input
    import botorch.optim.batched_lbfgs_b
    import botorch.optim.fit
    import botorch.utils.multi_objective
    import botorch.utils.sampling
    import gpytorch
    import linear_operator

# BoTorch would compile a C++ kernel when the first hypervolume is asked for: minutes, a compiler, and a build for
# this very processor. Its Python form gives the same numbers.
botorch.acquisition.multi_objective.logei._load_attempted = True

__all__ = ["botorch", "gpytorch", "numerics"]


@contextmanager
def numerics(seed: int) -> Iterator[None]:
    """One thread, Cholesky factors instead of iterative solvers, random numbers from ``seed``; restored afterwards.

    More threads slow down matrices of this size where trials share the machine. GPyTorch's iterative solvers,
    which it prefers from 800 points on, draw random probes: no two runs would agree.

    Args:
        seed: of the global generator of PyTorch on the CPU while the block runs.
    """
    threads = torch.get_num_threads()
    settings = linear_operator.settings
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        # Jitter on the diagonal is the remedy for nearly repeated points, not a problem to report.
        warnings.filterwarnings(
            "ignore", message="A not p.d., added jitter", category=linear_operator.utils.warnings.NumericalWarning
        )
        # Rows lie in the unit cube by construction, outcomes are standardized by us: BoTorch cannot see either
        # where a constant column or an imputed value is among them.
        warnings.filterwarnings("ignore", category=botorch.exceptions.warnings.InputDataWarning)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(settings.fast_computations(False, False, False))
        stack.enter_context(settings.max_cholesky_size(100_000))
        torch.random.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
