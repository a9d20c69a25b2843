"""One HTML file about a sweep, built only from the sweep directory."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from darts_hpo.report.labels import cost_labels, metric_label
from darts_hpo.report.page import figures, header, page, table, tile, unreadable
from darts_hpo.report.quantities import MISSING, duration, quantity, ratio, score, signed
from darts_hpo.report.record import RunRecord, mapping, number, numbers
from darts_hpo.report.sweep.importance import Importance, sobol_indices
from darts_hpo.report.sweep.plots import (
    Surface,
    architecture_figures,
    parameter_figures,
    progress_figures,
    surrogate_figures,
)
from darts_hpo.report.sweep.record import SweepRecord
from darts_hpo.report.verdict import Level
from darts_hpo.runs import write_text
from darts_hpo.space import Point, Value
from darts_hpo.tuning.recommendation import PosteriorBest, Replicated
from darts_hpo.tuning.trial import Trial, TrialState

_SOON_LISTED = 30
"""Trials above which their table is folded away."""


def write_sweep_report(directory: Path) -> Path:
    """Write ``report.html`` into a sweep directory; the sweep may be unfinished.

    Args:
        directory: with ``journal.jsonl`` and one directory per trial (which may be absent).

    Returns:
        Path of the report.

    Raises:
        RunDirectoryError: there is no journal, or the report cannot be written.
    """
    record = SweepRecord.read(directory)
    surface, recommended = _surrogate(record)
    star = None if recommended is None else recommended.point
    importance = _importance(record, surface)
    sections = [
        _header(record),
        _verdict(record),
        _before_and_after(record),
        _answers(record, recommended),
        figures("How the sweep went", progress_figures(record)),
        figures("What the surrogate believes", surrogate_figures(record, surface, star)),
        figures("What mattered", parameter_figures(record, importance)),
        figures("Architectures", architecture_figures(record)),
        _failures(record),
        _trials(record),
    ]
    path = directory / "report.html"
    write_text(path, page(record.name, sections, "the journal of this sweep"))
    return path


def _surrogate(record: SweepRecord) -> tuple[Surface | None, PosteriorBest | None]:
    """A Gaussian process over the results so far, and where its mean is best; nothing where it cannot be fitted."""
    history = record.history
    if len(history.comparable(len(history.space) + 1)) <= len(history.space):
        return None, None
    from darts_hpo.tuning.surrogates.posterior import Posterior, PosteriorError

    try:
        posterior = Posterior(history)
    except PosteriorError:
        return None, None
    return posterior.at, posterior.best() if len(history.objectives) == 1 else None


def _importance(record: SweepRecord, surface: Surface | None) -> dict[str, Importance]:
    if surface is None or len(record.history.space) < 2:
        return {}
    return sobol_indices(record.history.space, lambda points: surface(points)[0])


# Header


def _header(record: SweepRecord) -> str:
    history = record.history
    running, failed = len(history.running), len(history.failed)
    state: tuple[str, Level] = ("RUNNING", "info") if running else ("ENDED", "good" if not failed else "caution")
    repetitions = len(history) - len(history.proposals)
    counts = [f"{len(history.proposals)} configurations", f"{len(history.observations)} results"]
    counts += [f"{repetitions} repetitions on fresh seeds"] if repetitions else []
    counts += [f"{failed} failed"] if failed else []
    counts += [f"{running} running"] if running else []
    parts = [header(record.name, *state, " · ".join(counts)), unreadable("Some lines of the journal", record.problems)]
    tiles = _tiles(record)
    if tiles:
        parts.append(f'<div class="tiles">{tiles}</div>')
    return "\n".join(part for part in parts if part)


def _tiles(record: SweepRecord) -> str:
    tiles = []
    before, after = record.before, record.after
    label = metric_label(record.metric)
    if after is not None:
        note = f"trial {after.trial.number}"
        if after.fresh:
            note += f", mean of {len(after.fresh)} fresh seeds"
        tiles.append(tile(f"{label}, after", score(_honest(after)), note))
    if before is not None and after is not None:
        note = f"{len(before.fresh)} fresh seeds" if before.fresh else "one run"
        tiles.append(tile(f"{label}, before", score(_honest(before)), note))
    if record.noise is not None:
        tiles.append(tile("seed to seed (sd)", score(record.noise), "pooled over repeated settings"))
    spent = [r.seconds for _, r in record.history.observations if r.seconds is not None]
    if spent:
        tiles.append(tile("work of all trials", duration(sum(spent)), f"median {duration(statistics.median(spent))}"))
    return "".join(tiles)


# Before and after


def _verdict(record: SweepRecord) -> str:
    """Whether the gain is more than luck, in one sentence."""
    before, after = record.before, record.after
    if before is None or after is None or before.trial.number == after.trial.number:
        return ""
    turned = record.history.objectives[0].gain
    gain = turned(_honest(after)) - turned(_honest(before))
    shown = f"{gain:+.4f}".replace("-", "&minus;")
    if not (after.fresh and before.fresh):
        level, text = (
            "caution",
            (
                f"The best trial is {shown} better than the settings it started from, on the very run it was selected "
                "by. Of many trials one is always lucky: repeat both on fresh seeds before believing it "
                "(<code>hydra.sweeper.replicates.top=3 hydra.sweeper.replicates.seeds=3</code>)."
            ),
        )
    else:
        noise = record.noise or 0.0
        error = noise * (1 / len(after.fresh) + 1 / len(before.fresh)) ** 0.5
        level = "good" if gain > 2 * error else "bad" if gain <= 0 else "caution"
        if gain <= 0:
            meaning = f"the settings found are no better ({shown}), with a standard error of {error:.4f}"
        elif not error:
            meaning = f"the gain is {shown}; the seed makes no difference at all"
        else:
            times = "more" if gain > 2 * error else "less"
            meaning = f"the gain is {shown}: {times} than twice its standard error ({error:.4f})"
        spread = f" The spread between seeds is {noise:.4f}." if error else ""
        text = f"On seeds that had no part in the selection {meaning}.{spread}"
    return f'<p class="banner {level}">{text}</p>'


def _honest(who: Replicated) -> float:
    """The mean on fresh seeds where there are any, else the value of the one run."""
    value = who.mean if who.fresh_mean is None else who.fresh_mean
    assert value is not None  # SweepRecord leaves out what has no value at all
    return value


def _before_and_after(record: SweepRecord) -> str:
    before, after = record.before, record.after
    if before is None or after is None or before.trial.number == after.trial.number:
        return ""
    heads = '<tr><th></th><th class="reference">before</th><th class="found">after</th><th></th></tr>'
    rows = [f'<tr class="primary"><td>{escape(metric_label(record.metric))}</td>{_means(before, after)}</tr>']
    for name in record.history.space:
        cells = "".join(f"<td>{escape(_shown(who.trial.point.get(name)))}</td>" for who in (before, after))
        rows.append(f"<tr><td><code>{escape(name)}</code></td>{cells}<td></td></tr>")
    left, right = (_metrics(record, who.trial) for who in (before, after))
    for split in ("val", "test"):
        ours, theirs = (dict(numbers(mapping(run, "found", split))) for run in (right, left))
        for name in [name for name in ours if "/" not in name and name in theirs]:
            cells = (
                f"<td>{score(theirs[name])}</td><td>{score(ours[name])}</td><td>{signed(ours[name], theirs[name])}</td>"
            )
            rows.append(f"<tr><td>{split} {escape(metric_label(name))}, one run</td>{cells}</tr>")
    new, old = (dict(numbers(_costs(run))) for run in (right, left))
    for name, label in cost_labels(left, right).items():
        if name not in new or name not in old:
            continue
        cells = f"<td>{quantity(old[name])}</td><td>{quantity(new[name])}</td><td>{ratio(new[name], old[name])}</td>"
        rows.append(f"<tr><td>{escape(label)}</td>{cells}</tr>")
    architectures = _two_architectures(record.choices(before.trial), record.choices(after.trial))
    return "\n".join(
        [
            "<h2>Before and after</h2>",
            table(heads, rows),
            '<p class="soft">Before: the settings given beforehand. Scores and costs stand in one table on purpose: a '
            "better score of a larger network is no gain of the settings.</p>",
            architectures,
        ]
    )


def _means(before: Replicated, after: Replicated) -> str:
    def shown(who: Replicated) -> str:
        spread = f" &plusmn; {who.deviation:.3f} (sd)" if who.deviation is not None else ""
        return f"<td>{score(_honest(who))}{spread}</td>"

    return f"{shown(before)}{shown(after)}<td>{signed(_honest(after), _honest(before))}</td>"


def _two_architectures(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    if not before or not after:
        return ""
    heads = '<tr><th>choice</th><th class="text reference">before</th><th class="text found">after</th></tr>'
    rows = []
    for name in dict.fromkeys([*before, *after]):
        left, right = before.get(name, ""), after.get(name, "")
        option = f"<strong>{escape(right)}</strong>" if left != right else escape(right)
        rows.append(
            f'<tr><td><code>{escape(name)}</code></td><td class="text">{escape(left)}</td>'
            f'<td class="text">{option}</td></tr>'
        )
    return f"<h3>Final architectures</h3>\n{table(heads, rows)}"


def _metrics(record: SweepRecord, trial: Trial) -> Mapping[str, Any]:
    """``metrics.json`` of a trial; empty where the trial left none."""
    directory = record.directory(trial)
    return RunRecord.read(directory).metrics if directory.is_dir() else {}


def _costs(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(metrics, "found", "costs") or mapping(metrics, "search", "costs")


# Answers


def _answers(record: SweepRecord, recommended: PosteriorBest | None) -> str:
    best = record.history.best()
    if best is None:
        return ""
    names = list(record.history.space)
    heads = f"<tr><th></th>{''.join(f'<th>{escape(name)}</th>' for name in names)}<th>{escape(record.metric)}</th></tr>"
    rows = [_answer(f"best observed (trial {best[0].number})", best[0].point, names, score(record.value(best[1])))]
    if recommended is not None:
        expected = f"{score(recommended.mean)} &plusmn; {recommended.deviation:.3f} (expected)"
        expected += "" if recommended.budget is None else f" at budget {recommended.budget:g}"
        rows.append(_answer("argmax of the posterior mean", recommended.point, names, expected))
    for repeated in [record.repeated(trial) for trial, _ in record.ranked]:
        if repeated.fresh:
            spread = f" &plusmn; {repeated.deviation:.3f} (sd)" if repeated.deviation is not None else ""
            title = f"trial {repeated.trial.number}, {len(repeated.fresh)} fresh seeds"
            rows.append(_answer(title, repeated.trial.point, names, f"{score(repeated.fresh_mean)}{spread}"))
    return "\n".join(
        [
            "<h2>The answer, twice</h2>",
            '<p class="soft">The best observed trial may be the luckiest; the surrogate averages over its '
            "neighbours. A bad sign: two answers far apart.</p>",
            table(heads, rows),
        ]
    )


def _answer(title: str, point: Point, names: list[str], value: str) -> str:
    cells = "".join(f"<td>{escape(_shown(point.get(name)))}</td>" for name in names)
    return f"<tr><td>{escape(title)}</td>{cells}<td>{value}</td></tr>"


def _shown(value: Value | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# Trials


def _failures(record: SweepRecord) -> str:
    failed = record.history.failed
    if not failed:
        return ""
    rows = [
        f'<tr><td>{trial.number}</td><td class="text">{escape(str(trial.reason or ""))}</td>'
        f'<td class="text">{escape(", ".join(f"{k}={_shown(v)}" for k, v in trial.point.items()))}</td></tr>'
        for trial in failed
    ]
    heads = '<tr><th>trial</th><th class="text">reason</th><th class="text">settings</th></tr>'
    return f"<h2>Failed trials</h2>\n{table(heads, rows)}"


def _trials(record: SweepRecord) -> str:
    names = list(record.history.space)
    heads = (
        f'<tr><th>trial</th><th class="text">source</th>{"".join(f"<th>{escape(n)}</th>" for n in names)}'
        f'<th>budget</th><th>{escape(record.metric)}</th><th>time</th><th class="text">state</th></tr>'
    )
    rows = [_trial_row(record, trial, names) for trial in record.history]
    listing = table(heads, rows)
    if len(rows) > _SOON_LISTED:
        listing = f"<details><summary>All {len(rows)} trials</summary>{listing}</details>"
    return f"<h2>Trials</h2>\n{listing}"


def _trial_row(record: SweepRecord, trial: Trial, names: list[str]) -> str:
    last = trial.last
    inner = record.path / str(trial.number) / "report.html"
    link = (
        f'<a href="{quote(str(trial.number))}/report.html">{trial.number}</a>' if inner.exists() else str(trial.number)
    )
    source = trial.source if trial.replicate_of is None else f"repeats {trial.replicate_of}, seed {trial.seed}"
    seconds = [r.seconds for r in trial.results if r.seconds is not None]
    reason = f": {trial.reason}" if trial.reason and trial.state is not TrialState.FAILED else ""
    cells = [
        f"<td>{link}</td>",
        f'<td class="text">{escape(source)}</td>',
        *(f"<td>{escape(_shown(trial.point.get(name)))}</td>" for name in names),
        f"<td>{MISSING if last is None or last.budget is None else f'{last.budget:g}'}</td>",
        f"<td>{score(number(record.value(last)) if last is not None else None)}</td>",
        f"<td>{duration(sum(seconds) if seconds else None)}</td>",
        f'<td class="text">{escape(trial.state.lower() + reason)}</td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"
