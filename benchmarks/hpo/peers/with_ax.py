"""Ax: the generation strategy that its client chooses by itself.

Two settings are ours. Ax refuses to propose a model's point before enough initial points have answers; with 40 trials
at once it is told to go on with initial points meanwhile. And its seed is set.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from serve import Tuner, serve


class AxTuner(Tuner):
    """A client, asked for one trial at a time.

    Args:
        space: parameters as JSON.
        seed: of the client.
        trials: how many will be asked for; Ax doesn't need to know.
        settings: of ``Client.configure_generation_strategy``.
    """

    def __init__(self, space: Mapping[str, Any], seed: int, trials: int, settings: Mapping[str, Any]) -> None:
        logging.disable(logging.WARNING)
        self.client = Client(random_seed=seed)
        self.client.configure_experiment([_config(parameter) for parameter in space["parameters"]])
        self.client.configure_optimization("-loss")
        self.client.configure_generation_strategy(
            initialization_random_seed=seed, allow_exceeding_initialization_budget=True, **settings
        )

    def ask(self) -> tuple[int, dict[str, Any]]:
        """See :class:`Tuner`."""
        trials = self.client.get_next_trials(max_trials=1)
        if not trials:
            raise RuntimeError("Ax proposed no trial")
        ((key, point),) = trials.items()
        return key, dict(point)

    def tell(self, key: int, value: float | None) -> None:
        """See :class:`Tuner`."""
        if value is None:
            self.client.mark_trial_failed(key)
        else:
            self.client.complete_trial(key, raw_data={"loss": value})


def _config(parameter: Mapping[str, Any]) -> RangeParameterConfig | ChoiceParameterConfig:
    name = parameter["name"]
    if parameter["type"] == "categorical":
        return ChoiceParameterConfig(name=name, values=parameter["options"], parameter_type="str", is_ordered=False)
    return RangeParameterConfig(
        name=name,
        bounds=(parameter["low"], parameter["high"]),
        parameter_type=parameter["type"],
        scaling="log" if parameter["log"] else "linear",
    )


if __name__ == "__main__":
    serve(AxTuner)
