"""The report of a run: one HTML file that needs nothing else, built only from the run directory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from darts_hpo.report.figure import Figure
from darts_hpo.report.labels import cost_labels, metric_label
from darts_hpo.report.page import figures as page_figures
from darts_hpo.report.page import header, page, table, tile, unreadable
from darts_hpo.report.plots import comparison_figures, search_figures, training_figures
from darts_hpo.report.quantities import MISSING, difference, duration, file_size, quantity, ratio, score
from darts_hpo.report.record import RunRecord, mapping, number
from darts_hpo.report.results import results
from darts_hpo.report.verdict import Level, judge, lead, summary
from darts_hpo.runs import write_text

_STATUS_LEVELS: Mapping[str, Level] = {
    "COMPLETED": "good",
    "RUNNING": "info",
    "NEW": "info",
    "STOPPED": "caution",
    "INTERRUPTED": "caution",
    "FAILED": "bad",
}

_STATUS_TEXTS = {
    "RUNNING": "The run is not finished: this report shows what there was when it was written.",
    "NEW": "Nothing has been run in this directory yet.",
    "STOPPED": "The run was stopped on request; the same command continues it.",
    "INTERRUPTED": "The run ended without saying why (killed, or the machine went down); "
    "the same command continues it.",
    "FAILED": "The run failed.",
}

_LONG_TABLE = 24
"""Rows above which a table is folded away."""

_SECRET = re.compile(r"(?im)^(\s*[\w.-]*(?:api_?key|token|secret|passw)[\w.-]*\s*:[ \t]*)\S.*$")
_SECRET_ARGUMENT = re.compile(r"(?i)([\w.-]*(?:api_?key|token|secret|passw)[\w.-]*=)\S+")


def write_report(run_dir: Path, figures: Sequence[Figure] = (), network_figures: Sequence[Figure] = ()) -> Path:
    """Write ``report.html`` from what the run directory holds; every part may be absent.

    The file loads nothing: styles and pictures are inside, there is no script. All texts are escaped and
    pictures are images, so names from data and configuration stay names.

    Args:
        run_dir: the run directory; a failed or unfinished run is reported too.
        figures: figures of the task, for example detections on test images.
        network_figures: figures of the space, for example a drawing of the found circuit.

    Returns:
        Path of the report.

    Raises:
        RunDirectoryError: there is no such directory, or the report cannot be written.
    """
    record = RunRecord.read(run_dir)
    sections = [
        _header(record),
        results(record),
        page_figures("Against random architectures", comparison_figures(record)),
        _verdict(record),
        _architecture(record),
        page_figures("The found network", network_figures),
        page_figures("How the search went", search_figures(record)),
        page_figures("How the networks trained", training_figures(record)),
        page_figures("Examples", figures),
        _stages(record),
        _reproduce(record),
    ]
    path = run_dir / "report.html"
    write_text(path, page(record.name, sections, "the files of this run directory"))
    return path


# Header


def _header(record: RunRecord) -> str:
    level = _STATUS_LEVELS[record.status]
    parts = [header(record.name, record.status, level, _subtitle(record))]
    if record.status in _STATUS_TEXTS:
        reason = f" {escape(record.reason)}" if record.reason else ""
        parts.append(f'<p class="banner {level}"><strong>{_STATUS_TEXTS[record.status]}</strong>{reason}</p>')
    parts.append(unreadable("Some files", record.notes))
    tiles = _tiles(record)
    if tiles:
        parts.append(f'<div class="tiles">{"".join(tiles)}</div>')
    return "\n".join(part for part in parts if part)


def _subtitle(record: RunRecord) -> str:
    provenance = record.provenance
    git = mapping(provenance, "git")
    parts = [
        str(provenance["started"]).replace("T", " ").replace("+00:00", " UTC") if provenance.get("started") else "",
        f"seed {provenance['seed']}" if provenance.get("seed") is not None else "",
        f"space {record.genotype['space']}" if record.genotype.get("space") else "",
        f"commit {str(git['sha'])[:10]}{_dirty(git)}" if git.get("sha") else "",
    ]
    return " · ".join(escape(part) for part in parts if part)


def _dirty(git: Mapping[str, Any]) -> str:
    return " (with local changes)" if git.get("dirty") else ""


def _tiles(record: RunRecord) -> list[str]:
    found, reference = mapping(record.metrics, "found"), mapping(record.metrics, "reference")
    tiles = []
    name = record.primary_metric or ""
    for split in ("val", "test"):
        value, other = number(mapping(found, split).get(name)), number(mapping(reference, split).get(name))
        if name and value is not None:
            note = f"reference {score(other)} ({difference(value, other)})" if other is not None else ""
            tiles.append(tile(f"{metric_label(name)}, {split}", score(value), note))
    for key, label in cost_labels(record.metrics).items():
        value, other = number(mapping(found, "costs").get(key)), number(mapping(reference, "costs").get(key))
        if value is not None and key != "params_train":
            note = f"reference {quantity(other)} ({ratio(value, other)})" if other else ""
            tiles.append(tile(label, quantity(value), note))
    return tiles


# Search


def _verdict(record: RunRecord) -> str:
    findings = judge(record)
    if not findings:
        return ""
    overall = summary(findings)
    items = "".join(
        f'<li class="{f.level}"><strong>{escape(f.title)}</strong><p>{escape(f.text)}</p></li>' for f in findings
    )
    return (
        "<h2>Can you trust this search?</h2>\n"
        f'<p class="banner {overall.level}"><strong>{escape(overall.title)}.</strong> '
        f"{escape(overall.text)}</p>\n"
        f'<ul class="findings">{items}</ul>'
    )


def _architecture(record: RunRecord) -> str:
    choices = record.choices
    if not choices:
        return ""
    final = record.final_probabilities
    provisional = "" if mapping(record.genotype, "choices") else " so far"
    reference = mapping(record.metrics, "reference", "genotype", "choices") or mapping(
        record.metrics, "reference", "genotype"
    )
    heads = '<tr><th>choice</th><th class="text">option</th>'
    heads += '<th class="text">reference</th>' if reference else ""
    heads += '<th class="text">probability</th><th class="text">runner-up</th><th>lead</th></tr>'
    rows = []
    for name, option in choices.items():
        options = final.get(name, {})
        others = {other: p for other, p in options.items() if other != option}
        runner_up = max(others, key=others.__getitem__, default=None)
        second = f"{runner_up} {others[runner_up]:.2f}" if runner_up is not None else ""
        cells = [
            f"<td><code>{escape(name)}</code></td>",
            f'<td class="text"><strong>{escape(option)}</strong></td>',
            f'<td class="text soft">{escape(str(reference.get(name, "")))}</td>' if reference else "",
            f'<td class="text">{_bar(options.get(option))}</td>',
            f'<td class="text">{escape(second) or MISSING}</td>',
            f"<td>{f'{lead(options):.2f}' if len(options) > 1 else MISSING}</td>",
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    same = sum(str(reference.get(name)) == option for name, option in choices.items())
    notes = [f"{len(choices)} choices" + (f", {same} of them as in the reference network." if reference else ".")]
    notes.append("A bad sign: small leads, where the runner-up would be as good a guess.")
    listing = table(heads, rows)
    if len(rows) > _LONG_TABLE:
        listing = f"<details><summary>All {len(rows)} choices</summary>{listing}</details>"
    heading = f"<h2>The architecture found{provisional}</h2>"
    return "\n".join([heading, f'<p class="soft">{" ".join(notes)}</p>', listing])


def _bar(probability: float | None) -> str:
    if probability is None:
        return MISSING
    width = 100 * min(max(probability, 0.0), 1.0)
    return f'<span class="bar"><i style="width:{width:.1f}%"></i></span> {probability:.2f}'


# Cost of the run, and how to repeat it


def _stages(record: RunRecord) -> str:
    stages = mapping(record.metrics, "stages")
    rows, total = [], 0.0
    for name in stages:
        seconds = number(mapping(stages, name).get("seconds"))
        memory = number(mapping(stages, name).get("peak_memory_mb"))
        total += seconds or 0.0
        rows.append(
            f"<tr><td>{escape(str(name))}</td><td>{duration(seconds)}</td>"
            f"<td>{f'{memory:,.0f} MB' if memory is not None else MISSING}</td></tr>"
        )
    if not rows:
        return ""
    rows.append(f'<tr class="primary"><td>total</td><td>{duration(total)}</td><td></td></tr>')
    return "<h2>Time and memory</h2>\n" + table("<tr><th>stage</th><th>time</th><th>peak memory</th></tr>", rows)


def _reproduce(record: RunRecord) -> str:
    parts = ["<h2>Reproduce</h2>"]
    command = record.provenance.get("command")
    if command:
        shown = _SECRET_ARGUMENT.sub(r"\1(hidden)", str(command))
        parts.append(f'<pre class="command">{escape(shown)}</pre>')
    facts = _facts(record.provenance)
    if facts:
        items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
        parts.append(f'<dl class="facts">{items}</dl>')
    if record.config:
        config = escape(_SECRET.sub(r"\1(hidden)", record.config))
        parts.append(f"<details><summary>Resolved configuration</summary><pre>{config}</pre></details>")
    if record.files:
        items = ", ".join(
            f'<a href="{quote(name)}">{escape(name)}</a> ({file_size(size)})' for name, size in record.files
        )
        parts.append(f'<p class="soft">Files beside this report: {items}.</p>')
    return "\n".join(parts) if len(parts) > 1 else ""


def _facts(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    cpu, git = mapping(provenance, "cpu"), mapping(provenance, "git")
    packages = mapping(provenance, "packages")
    gpus = provenance.get("gpus")
    facts = [
        ("Commit", f"{git.get('sha')}{_dirty(git)}" if git else ""),
        ("Python", str(provenance.get("python") or "")),
        ("Packages", ", ".join(f"{name} {version}" for name, version in packages.items())),
        ("Processor", f"{cpu.get('model', '')}, {cpu.get('count', '?')} cores" if cpu else ""),
        ("GPU", ", ".join(map(str, gpus)) if isinstance(gpus, list) else ""),
        ("System", str(provenance.get("platform") or "")),
    ]
    return [(name, value) for name, value in facts if value]
