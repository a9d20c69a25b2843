"""Figures drawn from what a run logged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from darts_hpo.report.figure import FOUND, INK, RANDOM, REFERENCE, Figure, drawing, option_colours
from darts_hpo.report.record import (
    Row,
    RunRecord,
    column,
    mapping,
    number,
    numbers,
    probabilities,
    random_networks,
)
from darts_hpo.report.spread import spread

MOST_AREAS = 24
"""Choices up to which each gets its own area chart; beyond, a heat map shows them all."""

MOST_CURVES = 9

PAGE_WIDTH = 10.2  # inches; as wide as the page, so that text in figures is as large as text beside them


@dataclass(frozen=True)
class _Curve:
    label: str
    colour: str
    epochs: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class _Panel:
    title: str
    curves: Sequence[_Curve]
    limits: tuple[float, float] | None = None
    bars: bool = False


def search_figures(record: RunRecord) -> list[Figure]:
    """Option probabilities, and how the search behaved, over epochs."""
    if not record.alphas:
        return []
    with drawing():
        return [*_probability_figures(record), *_dynamics(record), *_search_training(record)]


def training_figures(record: RunRecord) -> list[Figure]:
    """Losses and scores of the found and of the reference network over epochs."""
    stages = [
        ("found", FOUND, record.tables["retrain"]),
        ("reference", REFERENCE, record.tables["reference"]),
    ]
    panels = []
    for name in _training_columns(record):
        curves = [_Curve(label, colour, *column(rows, name)) for label, colour, rows in stages]
        curves = [curve for curve in curves if curve.values]
        if curves:
            panels.append(_Panel(name, curves))
    if not panels:
        return []
    shown = {curve.label: curve.colour for panel in panels for curve in panel.curves}
    with drawing():
        return [
            Figure.from_matplotlib(
                _draw_panels(panels[:MOST_CURVES], columns=3),
                "Training, found and reference",
                "Both networks are trained by the same recipe. A bad sign: a val score that falls while "
                "the train loss still falls (overfitting), a score still rising at the end (trained too "
                "briefly to compare), or a jump in a loss.",
                legend=list(shown.items()),
            )
        ]


def comparison_figures(record: RunRecord) -> list[Figure]:
    """Scores of random networks on a line, with those of the found and of the reference network."""
    metric, networks = record.primary_metric, random_networks(record.metrics)
    splits = [split for split in ("test", "val") if metric and spread(networks, split, metric)]
    if metric is None or not splits:
        return []
    with drawing():
        return [
            Figure.from_matplotlib(
                _strip(record, metric, splits),
                "Random architectures, found and reference",
                f"{metric} of networks trained the same way; the bar is the mean of the random ones with twice its "
                "standard error to both sides. A bad sign: a found network within the cloud of random ones.",
                legend=[("random", RANDOM), ("found", FOUND), ("reference", REFERENCE)],
            )
        ]


def _strip(record: RunRecord, metric: str, splits: Sequence[str]) -> Any:
    from matplotlib.figure import Figure as MatplotlibFigure

    height = 0.6 + 0.55 * len(splits)
    figure = MatplotlibFigure(figsize=(PAGE_WIDTH, height))
    axis = figure.add_axes((0.06, 0.45 / height, 0.92, 1 - 0.5 / height))
    for row, split in enumerate(splits):
        random = spread(random_networks(record.metrics), split, metric)
        if random is not None:
            # In steps across the line, so that equal scores remain visible.
            heights = [row + 0.09 * (position % 3 - 1) for position in range(len(random.values))]
            axis.scatter(random.values, heights, color=RANDOM, s=16, alpha=0.75, linewidths=0)
            error = 2 * (random.standard_error or 0.0)
            axis.errorbar(random.mean, row, xerr=error, color=RANDOM, capsize=5, marker="|", markersize=16)
        for who, colour in (("reference", REFERENCE), ("found", FOUND)):
            value = number(mapping(record.metrics, who, split).get(metric))
            if value is not None:
                axis.scatter([value], [row], color=colour, marker="D", s=30, zorder=3)
    axis.set_yticks(range(len(splits)), splits)
    axis.set_ylim(-0.5, len(splits) - 0.5)
    axis.set_xlabel(metric, labelpad=1.5)
    return figure


# Probabilities


def _probability_figures(record: RunRecord) -> list[Figure]:
    trajectory = [probabilities(row) for row in record.alphas]
    epochs = [number(row.get("epoch")) for row in record.alphas]
    steps = [float(i) if epoch is None else epoch for i, epoch in enumerate(epochs)]
    names = [name for name in trajectory[-1] if all(name in epoch for epoch in trajectory)]
    if not names:
        return []
    if len(names) > MOST_AREAS:
        return [_heat_map(trajectory, steps, names)]
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        groups.setdefault(tuple(trajectory[-1][name]), []).append(name)
    return [_areas(trajectory, steps, group, options) for options, group in groups.items()]


def _areas(
    trajectory: Sequence[dict[str, dict[str, float]]],
    steps: Sequence[float],
    names: Sequence[str],
    options: Sequence[str],
) -> Figure:
    colours = option_colours(len(options))
    figure, axes = panel_grid(len(names), columns=4, height=1.55)
    for axis, name in zip(axes, names, strict=True):
        layers = [[epoch[name].get(option, 0.0) for epoch in trajectory] for option in options]
        x = steps
        if len(steps) == 1:  # one epoch is drawn as a block
            x, layers = [steps[0] - 0.5, steps[0] + 0.5], [layer * 2 for layer in layers]
        axis.stackplot(x, layers, colors=colours, linewidth=0)
        best = max(trajectory[-1][name], key=trajectory[-1][name].__getitem__)
        axis.set_title(short(name, 26), pad=14)
        outcome = short(f"→ {best}, {trajectory[-1][name][best]:.2f}", 34)
        axis.text(0, 1.03, outcome, transform=axis.transAxes, fontsize=7.5)
        axis.set_xlim(x[0], x[-1])
        axis.set_ylim(0, 1)
        axis.set_yticks([0, 0.5, 1])
        axis.grid(visible=False)
        _whole_epochs(axis)
    return Figure.from_matplotlib(
        figure,
        "Option probabilities" if len(options) != 1 else "Fixed choices",
        "The share of each option of each choice, over epochs of search. A bad sign: bands that stay equally "
        "wide (nothing was learned), bands that cross at the very end (not settled), or one colour that "
        "takes every choice (collapse).",
        legend=list(zip(options, colours, strict=True)),
    )


def _heat_map(
    trajectory: Sequence[dict[str, dict[str, float]]], steps: Sequence[float], names: Sequence[str]
) -> Figure:
    from matplotlib.figure import Figure as MatplotlibFigure

    winners = {name: max(trajectory[-1][name], key=trajectory[-1][name].__getitem__) for name in names}
    values = [[epoch[name].get(winners[name], 0.0) for epoch in trajectory] for name in names]
    height = 0.9 + 0.16 * len(names)
    figure = MatplotlibFigure(figsize=(PAGE_WIDTH, height))
    axis = figure.add_axes((0.3, 0.5 / height, 0.62, 1 - 0.7 / height))
    extent = (steps[0] - 0.5, steps[-1] + 0.5, len(names) - 0.5, -0.5)
    image = axis.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=1, extent=extent, interpolation="nearest")
    labels = [short(f"{name} → {option}", 46) for name, option in winners.items()]
    axis.set_yticks(range(len(names)), labels, fontsize=7)
    axis.grid(visible=False)
    _whole_epochs(axis)
    bar = figure.colorbar(image, cax=figure.add_axes((0.94, 0.5 / height, 0.012, 1 - 0.7 / height)))
    bar.outline.set_visible(False)
    return Figure.from_matplotlib(
        figure,
        "Probability of the finally chosen option",
        "One row per choice, over epochs of search. A bad sign: rows that never brighten (undecided) or that "
        "brighten only in the last epochs (not settled).",
    )


# Dynamics


def _dynamics(record: RunRecord) -> list[Figure]:
    rows = record.alphas
    panels = [
        _single("entropy (1: uniform)", rows, "entropy", limits=(0.0, 1.03)),
        _single("flips of best options", rows, "flips", bars=True),
        _single("discretized score, val", rows, "score"),
        _costs(rows),
        *(_indicator(rows, name) for name in _names(rows, "indicators")),
    ]
    drawn = [panel for panel in panels if any(curve.values for curve in panel.curves)]
    if not drawn:
        return []
    return [
        Figure.from_matplotlib(
            _draw_panels(drawn[: 4 * 3], columns=3 if len(drawn) in (5, 6, 9) else 4),
            "How the search behaved",
            "A bad sign: entropy that stays at 1 (no learning) or drops to 0 in the first epochs (decided "
            "before the weights knew anything); flips that do not die out; a discretized score that falls "
            "while the search goes on; a collapse indicator that only climbs.",
        )
    ]


def _single(
    title: str, rows: list[Row], name: str, limits: tuple[float, float] | None = None, *, bars: bool = False
) -> _Panel:
    return _Panel(title, [_Curve(name, FOUND, *column(rows, name))], limits, bars)


def _indicator(rows: list[Row], name: str) -> _Panel:
    flat = [{"epoch": row.get("epoch"), **dict(numbers(mapping(row, "indicators")))} for row in rows]
    return _Panel(f"indicator: {name}", [_Curve(name, FOUND, *column(flat, name))])


def _costs(rows: list[Row]) -> _Panel:
    """Costs in units of their first value: parameters and FLOPs share one axis."""
    flat = [{"epoch": row.get("epoch"), **dict(numbers(mapping(row, "costs")))} for row in rows]
    names = _names(rows, "costs")
    curves = []
    for name, colour in zip(names, option_colours(len(names) + 1)[1:], strict=True):
        epochs, values = column(flat, name)
        if values and values[0] > 0:
            curves.append(_Curve(name, colour, epochs, [value / values[0] for value in values]))
    return _Panel("cost / first epoch", curves)


def _names(rows: list[Row], key: str) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name, _ in numbers(mapping(row, key))))


def _search_training(record: RunRecord) -> list[Figure]:
    rows = record.tables["search"]
    names = [name for name in _columns(rows) if "/" in name]
    panels = [_Panel(name, [_Curve(name, FOUND, *column(rows, name))]) for name in names]
    panels = [panel for panel in panels if panel.curves[0].values]
    if not panels:
        return []
    return [
        Figure.from_matplotlib(
            _draw_panels(panels[:MOST_CURVES], columns=4),
            "Training of the supernet",
            "Losses of the shared weights and of the architecture batches. A bad sign: an arch loss that "
            "rises while the train loss falls (the architecture is fitted to memorized weights), or a loss "
            "that jumps.",
        )
    ]


# Drawing


def _training_columns(record: RunRecord) -> list[str]:
    """Every logged curve, the most telling first: train loss, the primary metric, then as logged."""
    names = list(dict.fromkeys([*_columns(record.tables["retrain"]), *_columns(record.tables["reference"])]))
    first = ["train/loss", f"val/{record.primary_metric}", "val/loss"]
    ordered = [name for name in first if name in names]
    return [*ordered, *(name for name in names if ("/" in name or name == "lr") and name not in ordered)]


def _columns(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row if name))


def panel_grid(count: int, columns: int, height: float) -> tuple[Any, list[Any]]:
    """A figure of small multiples and its axes.

    Margins are in inches, so that panels are equally large however many there are.
    """
    from matplotlib.figure import Figure as MatplotlibFigure

    rows = math.ceil(count / columns)
    row_height = height + 0.88
    figure = MatplotlibFigure(figsize=(PAGE_WIDTH, rows * row_height))
    column_width = PAGE_WIDTH / columns
    axes = []
    for index in range(count):
        row, col = divmod(index, columns)
        left, bottom = col * column_width + 0.5, (rows - 1 - row) * row_height + 0.43
        axes.append(
            figure.add_axes(
                (
                    left / PAGE_WIDTH,
                    bottom / (rows * row_height),
                    (column_width - 0.68) / PAGE_WIDTH,
                    height / (rows * row_height),
                )
            )
        )
    return figure, axes


def _draw_panels(panels: Sequence[_Panel], columns: int) -> Any:
    figure, axes = panel_grid(len(panels), columns, height=1.6 if columns < 4 else 1.4)
    for axis, panel in zip(axes, panels, strict=True):
        axis.set_title(short(panel.title, 30 if columns > 3 else 42))
        for curve in panel.curves:
            if panel.bars:
                axis.bar(curve.epochs, curve.values, color=curve.colour, width=0.8)
                axis.set_ylim(0, max(1.0, 1.1 * max(curve.values)))
            else:
                marker = "o" if len(curve.values) < 3 else None
                axis.plot(curve.epochs, curve.values, color=curve.colour, marker=marker, markersize=4)
        if len(panel.curves) > 1 and {curve.colour for curve in panel.curves} != {FOUND, REFERENCE}:
            for position, curve in enumerate(panel.curves):
                axis.text(
                    0.98,
                    0.96 - 0.12 * position,
                    short(curve.label, 20),
                    color=curve.colour,
                    transform=axis.transAxes,
                    ha="right",
                    va="top",
                    fontsize=7.5,
                )
        if panel.limits is not None:
            axis.set_ylim(*panel.limits)
        _whole_epochs(axis)
    return figure


def _whole_epochs(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    axis.set_xlabel("epoch", labelpad=1.5)
    for spine in axis.spines.values():
        spine.set_color(INK)


def short(text: str, length: int) -> str:
    """The text, or its beginning where it is longer than ``length``."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
