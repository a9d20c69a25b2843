"""Optuna: its TPE and its Gaussian process, with their default settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from serve import Tuner, serve


class OptunaTuner(Tuner):
    """A study in memory.

    Args:
        space: parameters as JSON.
        seed: of the sampler.
        trials: how many will be asked for; Optuna doesn't need to know.
        settings: ``sampler`` names a class of ``optuna.samplers``.
    """

    def __init__(self, space: Mapping[str, Any], seed: int, trials: int, settings: Mapping[str, Any]) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = getattr(optuna.samplers, settings["sampler"])(seed=seed)
        self.study = optuna.create_study(sampler=sampler)
        self.distributions = {parameter["name"]: _distribution(parameter) for parameter in space["parameters"]}

    def ask(self) -> tuple[int, dict[str, Any]]:
        """See :class:`Tuner`."""
        trial = self.study.ask(self.distributions)
        return trial.number, trial.params

    def tell(self, key: int, value: float | None) -> None:
        """See :class:`Tuner`."""
        if value is None:
            self.study.tell(key, state=optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(key, value)


def _distribution(parameter: Mapping[str, Any]) -> optuna.distributions.BaseDistribution:
    if parameter["type"] == "categorical":
        return optuna.distributions.CategoricalDistribution(parameter["options"])
    if parameter["type"] == "int":
        return optuna.distributions.IntDistribution(parameter["low"], parameter["high"], log=parameter["log"])
    return optuna.distributions.FloatDistribution(parameter["low"], parameter["high"], log=parameter["log"])


if __name__ == "__main__":
    serve(OptunaTuner)
