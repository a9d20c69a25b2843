"""Bilevel rules: how one train batch and one arch batch update weights and logits. One rule per file."""

from darts_hpo.bilevel.base import BilevelProblem, BilevelRule, StepLosses
from darts_hpo.bilevel.first_order import FirstOrder
from darts_hpo.bilevel.single_level import SingleLevel
from darts_hpo.bilevel.unrolled import Unrolled

__all__ = ["BilevelProblem", "BilevelRule", "FirstOrder", "SingleLevel", "StepLosses", "Unrolled"]
