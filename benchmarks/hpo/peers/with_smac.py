"""SMAC3: random forest or Gaussian process, as its facades set them up.

A failed trial is told with the status CRASHED. Its cost has to be finite, because SMAC's own default of infinity ends
in NaN and an error when the forest is fitted; we take the worst value seen so far.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ConfigSpace import (
    CategoricalHyperparameter,
    ConfigurationSpace,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from serve import Tuner, serve
from smac import Scenario
from smac.runhistory import StatusType, TrialInfo, TrialValue


class SMACTuner(Tuner):
    """A facade, asked and told.

    Args:
        space: parameters as JSON.
        seed: of the scenario.
        trials: that SMAC sizes its initial design by.
        settings: ``facade`` names a class of ``smac``.
    """

    def __init__(self, space: Mapping[str, Any], seed: int, trials: int, settings: Mapping[str, Any]) -> None:
        configspace = ConfigurationSpace(seed=seed)
        configspace.add([_hyperparameter(parameter) for parameter in space["parameters"]])
        self.folder = Path(tempfile.mkdtemp(prefix="smac-"))
        scenario = Scenario(configspace, deterministic=True, n_trials=trials, seed=seed, output_directory=self.folder)
        facade = getattr(importlib.import_module("smac"), settings["facade"])
        self.facade = facade(scenario, _never_called, overwrite=True, logging_level=False)
        self.pending: dict[int, TrialInfo] = {}
        self.asked = 0
        self.worst: float | None = None

    def ask(self) -> tuple[int, dict[str, Any]]:
        """See :class:`Tuner`."""
        info = self.facade.ask()
        key, self.asked = self.asked, self.asked + 1
        self.pending[key] = info
        return key, {name: _plain(value) for name, value in dict(info.config).items()}

    def tell(self, key: int, value: float | None) -> None:
        """See :class:`Tuner`."""
        info = self.pending.pop(key)
        if value is None:
            crashed = TrialValue(cost=1.0 if self.worst is None else self.worst, status=StatusType.CRASHED)
            self.facade.tell(info, crashed, save=False)
            return
        self.worst = value if self.worst is None else max(self.worst, value)
        self.facade.tell(info, TrialValue(cost=value, status=StatusType.SUCCESS), save=False)

    def close(self) -> None:
        """Remove the folder that SMAC writes to."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _never_called(config: Any, seed: int = 0) -> float:
    raise RuntimeError("the harness evaluates; SMAC only asks")


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _hyperparameter(parameter: Mapping[str, Any]) -> Any:
    name = parameter["name"]
    if parameter["type"] == "categorical":
        return CategoricalHyperparameter(name, parameter["options"])
    kind = UniformIntegerHyperparameter if parameter["type"] == "int" else UniformFloatHyperparameter
    return kind(name, parameter["low"], parameter["high"], log=parameter["log"])


if __name__ == "__main__":
    serve(SMACTuner)
