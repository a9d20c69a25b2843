"""Relaxations: learnable logits over the choices of a space, one published method per file."""

from darts_hpo.relaxations.annealing import Annealing
from darts_hpo.relaxations.base import Phase, Relaxation
from darts_hpo.relaxations.binary_gates import BinaryGates
from darts_hpo.relaxations.gumbel import GumbelSoftmax
from darts_hpo.relaxations.sampled import SampledRelaxation
from darts_hpo.relaxations.score_function import ScoreFunction
from darts_hpo.relaxations.softmax import Softmax

__all__ = [
    "Annealing",
    "BinaryGates",
    "GumbelSoftmax",
    "Phase",
    "Relaxation",
    "SampledRelaxation",
    "ScoreFunction",
    "Softmax",
]
