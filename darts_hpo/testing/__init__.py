"""Conformance suites and closed-form problems that every implementation inherits. Needs pytest."""

import pytest

# Assertions are rewritten at import, so pytest must know the suites first: hence the order here.
pytest.register_assert_rewrite(
    *(f"{__name__}.{suite}" for suite in ("executors", "relaxation", "rule", "samplers", "schedulers", "supernet"))
)

from darts_hpo.testing.memory import saved_tensor_bytes  # noqa: E402
from darts_hpo.testing.problems import Batch, BilevelCase, Quadratic, SmoothNetwork, SmoothProblem  # noqa: E402
from darts_hpo.testing.relaxation import RelaxationConformance  # noqa: E402
from darts_hpo.testing.rule import BilevelRuleConformance  # noqa: E402
from darts_hpo.testing.supernet import SupernetConformance  # noqa: E402

__all__ = [
    "Batch",
    "BilevelCase",
    "BilevelRuleConformance",
    "Quadratic",
    "RelaxationConformance",
    "SmoothNetwork",
    "SmoothProblem",
    "SupernetConformance",
    "saved_tensor_bytes",
]
