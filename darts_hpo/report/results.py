"""The tables of results: scores and costs of the found network, of the reference and of random ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from darts_hpo.report.discretization import Discretization
from darts_hpo.report.labels import cost_labels, metric_label
from darts_hpo.report.page import table
from darts_hpo.report.quantities import MISSING, difference, quantity, ratio, score, signed
from darts_hpo.report.record import RunRecord, mapping, numbers, random_networks
from darts_hpo.report.spread import spread


@dataclass(frozen=True)
class _Networks:
    """What is compared; the reference is empty and the random ones are none where they were not trained."""

    found: Mapping[str, Any]
    reference: Mapping[str, Any]
    random: Sequence[Mapping[str, Any]]

    @property
    def all(self) -> list[Mapping[str, Any]]:
        return [self.found, self.reference, *self.random]

    def values(self, group: str) -> tuple[dict[str, float | None], dict[str, float | None]]:
        """Numbers of one group of the found and of the reference network."""
        return dict(numbers(mapping(self.found, group))), dict(numbers(mapping(self.reference, group)))

    def random_heading(self) -> str:
        number = len(self.random)
        shown = f"random<br>mean &plusmn; sd of {number}" if number > 1 else "random (one)"
        return f'<th class="random">{shown}</th>' if number else ""

    def random_cell(self, group: str, name: str, shown: Callable[[float | None], str]) -> str:
        if not self.random:
            return ""
        values = spread(self.random, group, name)
        if values is None:
            return f"<td>{MISSING}</td>"
        deviation = f" &plusmn; {shown(values.deviation)}" if values.deviation is not None else ""
        return f"<td>{shown(values.mean)}{deviation}</td>"


def results(record: RunRecord) -> str:
    """The section of a report that compares the networks, as HTML; empty where none was trained."""
    metrics = record.metrics
    networks = _Networks(mapping(metrics, "found"), mapping(metrics, "reference"), random_networks(metrics))
    if not any(networks.all):
        return ""
    scores, per_class = _split_scores(networks)
    parts = ["<h2>Result</h2>"]
    if scores:
        parts.append(_score_table(scores, networks, record.primary_metric))
        seeds = "One run of each: a difference below the spread between seeds means nothing. "
        parts.append(
            f'<p class="soft">{seeds if networks.reference else ""}Selections were made on val; test was read once. '
            "A bad sign: a score on test far below the one on val.</p>"
        )
    for group, names in per_class.items():
        parts += [f"<h3>Per class: {escape(metric_label(group))}</h3>", _score_table(names, networks, None)]
    parts += [_cost_table(metrics, networks), _before_retraining(metrics)]
    return "\n".join(part for part in parts if part)


def _split_scores(networks: _Networks) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Metrics of the whole split, and by group those of its classes: full name to the name shown."""
    scores: dict[str, str] = {}
    per_class: dict[str, dict[str, str]] = {}
    for network in networks.all:
        for split in ("val", "test"):
            for name, _ in numbers(mapping(network, split)):
                group, slash, label = name.partition("/")
                if slash:
                    per_class.setdefault(group, {})[name] = label
                else:
                    scores[name] = metric_label(name)
    return scores, per_class


def _score_table(names: Mapping[str, str], networks: _Networks, primary: str | None) -> str:
    splits = [split for split in ("val", "test") if any(mapping(network, split) for network in networks.all)]
    values = {split: networks.values(split) for split in splits}
    heading = '<th class="found">found</th>'
    if networks.reference:
        heading += '<th class="reference">reference</th><th>difference</th>'
    heading += networks.random_heading()
    columns = heading.count("<th")
    if columns > 1:
        groups = "".join(f'<th colspan="{columns}">{split}</th>' for split in splits)
        heads = f'<tr class="group"><th></th>{groups}</tr><tr><th>metric</th>{heading * len(splits)}</tr>'
    else:
        heads = f"<tr><th>metric</th>{''.join(f'<th>{split}</th>' for split in splits)}</tr>"
    rows = []
    for name, label in names.items():
        cells = []
        for split in splits:
            ours, theirs = (network.get(name) for network in values[split])
            cells.append(f"<td>{score(ours)}</td>")
            if networks.reference:
                cells.append(f"<td>{score(theirs)}</td><td>{signed(ours, theirs)}</td>")
            cells.append(networks.random_cell(split, name, score))
        shown = f"<code>{escape(label)}</code>" if label == name else escape(label)
        kind = ' class="primary"' if name == primary else ""
        rows.append(f"<tr{kind}><td>{shown}</td>{''.join(cells)}</tr>")
    return table(heads, rows)


def _cost_table(metrics: Mapping[str, Any], networks: _Networks) -> str:
    present = {name for network in networks.all for name, _ in numbers(mapping(network, "costs"))}
    if not present:
        return ""
    ours, theirs = networks.values("costs")
    heads = '<tr><th></th><th class="found">found</th>'
    heads += '<th class="reference">reference</th><th>found / reference</th>' if networks.reference else ""
    rows = []
    for name, label in cost_labels(metrics).items():
        if name not in present:
            continue
        cells = f"<td>{quantity(ours.get(name))}</td>"
        if networks.reference:
            cells += f"<td>{quantity(theirs.get(name))}</td><td>{ratio(ours.get(name), theirs.get(name))}</td>"
        rows.append(f"<tr><td>{escape(label)}</td>{cells}{networks.random_cell('costs', name, quantity)}</tr>")
    return "<h3>Cost</h3>\n" + table(f"{heads}{networks.random_heading()}</tr>", rows)


def _before_retraining(metrics: Mapping[str, Any]) -> str:
    parts = []
    discretized = dict(numbers(mapping(metrics, "search", "discretized_val")))
    if discretized:
        named = {escape(metric_label(name)): score(value) for name, value in discretized.items()}
        listed = ", ".join(f"<code>{name}</code> {value}" for name, value in named.items())
        parts.append(f'<p class="soft">Before retraining, with the weights of the supernet (val): {listed}.</p>')
    scores = Discretization.of(metrics)
    if scores is not None:
        name = escape(metric_label(scores.metric))
        values = (
            f"relaxed {score(scores.relaxed)}, discretized {score(scores.discretized)}, "
            f"gap {difference(scores.relaxed, scores.discretized)}"
        )
        parts.append(
            f'<p class="soft">The supernet itself on val, <code>{name}</code>: {values}. '
            "A bad sign: a large gap; what was searched is then not what was taken from it.</p>"
        )
    return "\n".join(parts)
