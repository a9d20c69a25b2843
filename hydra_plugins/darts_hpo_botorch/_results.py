"""The answer of a sweep: ``optimization_results.yaml``, and a few lines to read."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from darts_hpo.runs.files import write_text
from darts_hpo.space import Value
from darts_hpo.tuning.answer import described
from darts_hpo.tuning.history import History
from darts_hpo.tuning.recommendation import Recommendation, Replicated, recommend, replicated
from darts_hpo.tuning.trial import WARM_START

log = logging.getLogger(__name__)

RESULTS_FILE = "optimization_results.yaml"
_MOST_REASONS = 5


def write_results(directory: Path, history: History, answer: Recommendation | None = None) -> None:
    """Write the results so far, under the names that Hydra's sweepers use, in one step.

    Args:
        directory: of the sweep.
        history: of its study.
        answer: with the posterior, at the end; None leaves that out.
    """
    answer = recommend(history, model=False) if answer is None else answer
    results: dict[str, Any] = {"name": "botorch", **_best(history, answer)}
    if answer.posterior is not None:
        posterior = answer.posterior
        results["posterior_mean"] = {
            "params": dict(posterior.point),
            "mean": posterior.mean,
            "deviation": posterior.deviation,
            "budget": posterior.budget,
            "best_trial": posterior.trial,
            "best_trial_mean": posterior.trial_mean,
            "best_trial_deviation": posterior.trial_deviation,
        }
    if answer.incumbent is not None:
        results["incumbent"] = {"params": dict(answer.incumbent.point), "predicted": answer.incumbent.value}
    if repeated := replicated(history):
        results["replicates"] = [_plain(entry) for entry in repeated]
    states = Counter(str(trial.state) for trial in history)
    results["trials"] = {"total": len(history), **{state.lower(): count for state, count in sorted(states.items())}}
    write_text(directory / RESULTS_FILE, yaml.safe_dump(results, sort_keys=False, allow_unicode=True))


def _best(history: History, answer: Recommendation) -> dict[str, Any]:
    solutions = [
        {"trial": number, "params": dict(trial.point), "values": dict(result.values)}
        for number in answer.pareto
        if (result := (trial := history.trials[number]).last) is not None
    ]
    if len(history.objectives) > 1:
        return {"solutions": solutions}
    if answer.best_observed is None:
        return {"best_evaluated_params": None, "best_evaluated_result": None}
    number, value = answer.best_observed
    params = dict(history.trials[number].point)
    return {"best_evaluated_params": params, "best_evaluated_result": value, "best_evaluated_trial": number}


def _plain(entry: Replicated) -> dict[str, Any]:
    return {
        "trial": entry.trial.number,
        "runs": len(entry.values),
        "mean": entry.mean,
        "standard_error": entry.standard_error,
        "fresh_mean": entry.fresh_mean,
    }


def write_report(directory: Path) -> bool:
    """Write ``report.html``; whether that worked. A picture that cannot be drawn must not cost the answer."""
    try:
        from darts_hpo.report.sweep import write_sweep_report

        write_sweep_report(directory)
    except Exception as error:
        log.warning("The report could not be written: %s", described(error))
        log.debug("The report could not be written.", exc_info=True)
        return False
    return True


def say_answer(history: History, answer: Recommendation) -> None:
    """Say what came out: where the sweep began, the answer twice, repetitions and failures."""
    for line in _lines(history, answer):
        log.info("%s", line)


def _lines(history: History, answer: Recommendation) -> list[str]:
    name = history.objectives[0].name
    lines = []
    first = next((trial for trial in history if trial.source == WARM_START and trial.last is not None), None)
    if first is not None and first.last is not None:
        values = {objective.name: first.last.values[objective.name] for objective in history.objectives}
        lines.append(f"{'started from:':<23} {_values(values)}, trial {first.number}: {_shown(first.point)}")
    if len(history.objectives) > 1:
        lines.append(f"Pareto front ({', '.join(objective.name for objective in history.objectives)}):")
        for number in answer.pareto:
            trial = history.trials[number]
            result = trial.last
            values = {} if result is None else {o.name: result.values[o.name] for o in history.objectives}
            lines.append(f"  {_values(values)}, trial {number}: {_shown(trial.point)}")
    elif answer.best_observed is None:
        lines.append("No trial gave a value.")
    else:
        number, value = answer.best_observed
        lines.append(
            f"best observed:          {name} {value:.6g}, trial {number}: {_shown(history.trials[number].point)}"
        )
    if answer.posterior is not None:
        best = answer.posterior
        where = "" if best.budget is None else f" at budget {best.budget:g}"
        lines.append(
            f"best by posterior mean: {name} {best.mean:.6g} +- {best.deviation:.2g}{where}, anywhere: "
            f"{_shown(best.point)}"
        )
        lines.append(
            f"                        {name} {best.trial_mean:.6g} +- {best.trial_deviation:.2g}, trial {best.trial}: "
            f"{_shown(history.trials[best.trial].point)}"
        )
    if answer.incumbent is not None:
        best_whole = answer.incumbent
        lines.append(f"best at full budget:    {name} {best_whole.value:.6g} (predicted): {_shown(best_whole.point)}")
    for entry in replicated(history):
        spread = "" if entry.deviation is None else f" (standard deviation {entry.deviation:.2g} over all)"
        lines.append(
            f"{f'trial {entry.trial.number} repeated:':<23} {name} {entry.fresh_mean:.6g} on {len(entry.fresh)} "
            f"fresh seeds{spread}"
        )
    if history.failed:
        reasons = Counter(trial.reason or "no reason was given" for trial in history.failed)
        lines.append(f"{len(history.failed)} of {len(history)} trials failed:")
        lines += [f"  {count} x {reason}" for reason, count in reasons.most_common(_MOST_REASONS)]
        if len(reasons) > _MOST_REASONS:
            lines.append(f"  and {len(reasons) - _MOST_REASONS} other reasons, in the journal")
    return lines


def _values(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in values.items())


def _shown(point: Mapping[str, Value]) -> str:
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in point.items()
    )
