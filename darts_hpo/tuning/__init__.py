"""The outer loop: studies that tune anybody's program. It imports nothing heavy until a sampler needs it."""

from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity, Objective, ObjectiveError, OutcomeConstraint
from darts_hpo.tuning.study import Study
from darts_hpo.tuning.trial import Result, Trial, TrialState

__all__ = [
    "Fidelity",
    "History",
    "Objective",
    "ObjectiveError",
    "OutcomeConstraint",
    "Result",
    "Study",
    "Trial",
    "TrialState",
]
