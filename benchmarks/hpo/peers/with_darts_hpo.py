"""Our own studies, in memory like those of the others."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from serve import Tuner, serve

from darts_hpo.imports import locate
from darts_hpo.space import Space
from darts_hpo.tuning.objectives import Objective
from darts_hpo.tuning.study import Study


class StudyTuner(Tuner):
    """A study.

    Args:
        space: parameters as JSON.
        seed: of the study, and of the sampler where it takes one.
        trials: how many will be asked for.
        settings: ``_target_`` names the sampler's class; the rest are its arguments.
    """

    def __init__(self, space: Mapping[str, Any], seed: int, trials: int, settings: Mapping[str, Any]) -> None:
        arguments = dict(settings)
        kind = locate(arguments.pop("_target_"))
        # The sequences that some samplers begin with have seeds of their own: without them, all studies begin alike.
        arguments |= {name: seed for name in ("seed", "sobol_seed") if name in inspect.signature(kind).parameters}
        self.study = Study(
            Space.from_json(space),
            (Objective("loss", "minimize"),),
            sampler=kind(**arguments),
            n_trials=trials,
            seed=seed,
        )

    def ask(self) -> tuple[int, dict[str, Any]]:
        """See :class:`Tuner`."""
        trial = self.study.ask()
        if trial is None:
            raise RuntimeError("the study proposed no trial")
        self.study.started(trial.number)
        return trial.number, dict(trial.point)

    def tell(self, key: int, value: float | None) -> None:
        """See :class:`Tuner`."""
        if value is None:
            self.study.fail(key, "the training diverged")
        else:
            self.study.tell(key, value)


if __name__ == "__main__":
    serve(StudyTuner)
