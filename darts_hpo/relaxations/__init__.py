"""Relaxations: learnable logits over the choices of a space, one published method per file."""

from darts_hpo.relaxations.base import Phase, Relaxation
from darts_hpo.relaxations.binary_gates import BinaryGates
from darts_hpo.relaxations.softmax import Softmax

__all__ = ["BinaryGates", "Phase", "Relaxation", "Softmax"]
