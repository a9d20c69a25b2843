"""Figures of a sweep."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from darts_hpo.report.figure import FOUND, INK, REFERENCE, Figure, drawing, option_colours
from darts_hpo.report.plots import PAGE_WIDTH, panel_grid, short
from darts_hpo.report.sweep.importance import Importance
from darts_hpo.report.sweep.record import SweepRecord
from darts_hpo.space import Categorical, Point, Space, Value
from darts_hpo.tuning.trial import Result, Trial, as_amount

Surface: TypeAlias = Callable[[Sequence[Point]], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Posterior mean and standard deviation at points, in units of the first objective; each of shape ``[n]``."""

MOST_SLICES = 8
MOST_COLUMNS = 12
MOST_TRIALS = 60
"""Trials of the architecture map, the best ones."""

_CONTOUR = 41
_SLICE = 101


def progress_figures(record: SweepRecord) -> list[Figure]:
    """Values in the order of arrival with the best so far, and how trials fared over budgets."""
    with drawing():
        return [*_incumbents(record), *_budgets(record)]


def surrogate_figures(record: SweepRecord, surface: Surface | None, at: Point | None) -> list[Figure]:
    """What the surrogate believes: slices through its best point, and a map over the two leading parameters.

    Args:
        record: of the sweep.
        surface: the surrogate; None where there are too few results for one.
        at: where the slices meet.
    """
    if surface is None or at is None:
        return []
    with drawing():
        return [*_slices(record, surface, at), *_map(record, surface, at)]


def parameter_figures(record: SweepRecord, importance: dict[str, Importance]) -> list[Figure]:
    """Which parameters mattered, and every trial as a line across them."""
    with drawing():
        return [*_importance(importance), *_parallel(record)]


def architecture_figures(record: SweepRecord) -> list[Figure]:
    """Which option every trial chose, best trials first."""
    with drawing():
        return _architectures(record)


# Progress


def _incumbents(record: SweepRecord) -> list[Figure]:
    if not record.scored:
        return []
    history = record.history
    figure, (axis,) = panel_grid(1, columns=1, height=2.3)
    order = {trial.number: position for position, (trial, _) in enumerate(record.scored, start=1)}
    values = [record.value(result) for _, result in record.scored]
    colours = [REFERENCE if trial.source == "warm_start" else FOUND for trial, _ in record.scored]
    axis.scatter(range(1, len(values) + 1), values, s=26, color=colours, alpha=0.8, linewidths=0)
    best: list[float] = []
    for _, result in record.scored:
        value = record.value(result)
        better = history.feasible(result) and (
            not best or math.isnan(best[-1]) or history.gain(result) > history.objectives[0].gain(best[-1])
        )
        best.append(value if better else (best[-1] if best else math.nan))
    axis.step(range(1, len(best) + 1), best, where="post", color=INK, linewidth=1.2)
    for trial, result in history.comparable():
        if trial.replicate_of in order:
            axis.scatter(
                [order[trial.replicate_of]],
                [record.value(result)],
                s=22,
                facecolors="none",
                edgecolors=INK,
                linewidths=0.8,
            )
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_xlabel("trials that have answered")
    axis.set_ylabel(short(record.metric, 30))
    _clip_outliers(axis, values, maximize=history.objectives[0].direction == "maximize")
    return [
        Figure.from_matplotlib(
            figure,
            "Trials and the best so far",
            "One dot per trial in the order of answering, the best so far as a line, repetitions on fresh seeds as "
            "rings. A bad sign: a best value that rings of the same trial do not reach (luck), or a line that still "
            "climbs at the end (too few trials).",
            legend=[("trial", FOUND), ("given beforehand", REFERENCE)],
        )
    ]


def _clip_outliers(axis: Any, values: Sequence[float], *, maximize: bool) -> None:
    """A diverged trial must not squeeze all others into a line: the bad end is cut where it is far out."""
    low, middle, high = np.percentile(values, [10, 50, 90])
    reach = 4 * max(high - low, 1e-12)
    if maximize and min(values) < middle - reach:
        axis.set_ylim(bottom=middle - reach)
    if not maximize and max(values) > middle + reach:
        axis.set_ylim(top=middle + reach)


def _budgets(record: SweepRecord) -> list[Figure]:
    trials = [trial for trial in record.history.proposals if trial.results]
    budgets = [b for b in record.history.budgets if b is not None]
    if len(budgets) < 2:
        return []
    brackets = sorted({str(trial.labels.get("bracket", "")) for trial in trials})[:MOST_SLICES]
    figure, axes = panel_grid(len(brackets), columns=min(4, max(len(brackets), 2)), height=1.7)
    for axis, bracket in zip(axes, brackets, strict=True):
        for trial in trials:
            if str(trial.labels.get("bracket", "")) == bracket:
                results = sorted(trial.results, key=lambda result: as_amount(result.budget))
                steps = [as_amount(result.budget) for result in results]
                went_on = len(results) > 1
                values = [record.value(result) for result in results]
                axis.plot(
                    steps, values, marker="o", markersize=2.5, linewidth=0.9, alpha=0.7, color=FOUND if went_on else INK
                )
        axis.set_xscale("log", base=3)
        axis.set_xticks(budgets, [f"{budget:g}" for budget in budgets])
        axis.minorticks_off()
        axis.set_xlabel("budget", labelpad=1.5)
        axis.set_title(f"bracket {bracket}" if bracket else "all trials")
    return [
        Figure.from_matplotlib(
            figure,
            "Budgets",
            f"{short(record.metric, 30)} of every trial at every budget it reached; lines are trials that went on. A "
            "bad sign: lines that cross often, for then a small budget says little about the full one.",
            legend=[("went on", FOUND), ("ended there", "#7a8087")],
        )
    ]


# The surrogate


def _slices(record: SweepRecord, surface: Surface, at: Point) -> list[Figure]:
    space = record.history.space
    names = [name for name in space if name in at and not isinstance(space[name], Categorical)][:MOST_SLICES]
    if not names:
        return []
    maximize = record.history.objectives[0].direction == "maximize"
    best = record.history.best()
    figure, axes = panel_grid(len(names), columns=min(max(len(names), 2), 4), height=2.5)
    for axis, name in zip(axes, names, strict=True):
        left, bottom, width, height = axis.get_position().bounds
        axis.set_position((left, bottom + 0.3 * height, width, 0.7 * height))
        positions = np.linspace(0, 1, _SLICE)
        grid = [_value(space, name, position) for position in positions]
        mean, deviation = surface([{**at, name: value} for value in grid])
        axis.fill_between(grid, mean - 2 * deviation, mean + 2 * deviation, color=FOUND, alpha=0.18, linewidth=0)
        axis.plot(grid, mean, color=FOUND)
        seen = [(trial.point[name], record.value(result)) for trial, result in record.scored if name in trial.point]
        axis.scatter(*zip(*seen, strict=True), s=9, color=INK, alpha=0.5, linewidths=0)
        if getattr(space[name], "log", False):
            axis.set_xscale("log")
        axis.set_title(short(name, 26))
        _clip_outliers(axis, [*mean, *(value for _, value in seen)], maximize=maximize)
        _label_logarithms(axis.xaxis, space, name)
        if best is not None:
            strip = figure.add_axes((left, bottom, width, 0.18 * height), sharex=axis)
            gain = expected_improvement(mean, deviation, record.value(best[1]), maximize=maximize)
            strip.fill_between(grid, gain / max(gain.max(), 1e-300), color=REFERENCE, alpha=0.6, linewidth=0)
            strip.set_yticks([])
            strip.grid(visible=False)
            axis.tick_params(labelbottom=False)
    return [
        Figure.from_matplotlib(
            figure,
            "What the surrogate believes",
            "Posterior mean and two standard deviations along each parameter, the others held at the recommended "
            "point; below, where an improvement is expected (scaled to its own largest value). Dots are trials, "
            "wherever their other parameters lie. A bad sign: a band as wide at the recommended point as far away "
            "(the data say nothing), or a best value at the edge of a range (widen it).",
            legend=[("posterior", FOUND), ("expected improvement", REFERENCE)],
        )
    ]


def expected_improvement(
    mean: NDArray[np.float64], deviation: NDArray[np.float64], best: float, *, maximize: bool
) -> NDArray[np.float64]:
    """Expected improvement over ``best`` (Jones et al. 1998, eq. 15).

    Args:
        mean: of the posterior, shape ``[n]``.
        deviation: its standard deviation, shape ``[n]``.
        best: value to improve on, in the same units.
        maximize: whether more is better.
    """
    from scipy.stats import norm

    ahead = (mean - best) if maximize else (best - mean)
    z = ahead / np.maximum(deviation, 1e-12)
    gain: NDArray[np.float64] = ahead * norm.cdf(z) + deviation * norm.pdf(z)
    return np.maximum(gain, 0.0)


def _map(record: SweepRecord, surface: Surface, at: Point) -> list[Figure]:
    space = record.history.space
    names = [name for name in space if name in at and not isinstance(space[name], Categorical)]
    if len(names) < 2:
        return []
    from matplotlib.figure import Figure as MatplotlibFigure

    first, second = names[:2]
    positions = np.linspace(0, 1, _CONTOUR)
    xs, ys = ([_value(space, name, p) for p in positions] for name in (first, second))
    mean, deviation = surface([{**at, first: x, second: y} for y in ys for x in xs])
    figure = MatplotlibFigure(figsize=(PAGE_WIDTH, 3.6))
    pictures = (("posterior mean", mean, "viridis"), ("standard deviation", deviation, "magma"))
    for column, (title, values, colours) in enumerate(pictures):
        axis = figure.add_axes((0.06 + 0.5 * column, 0.13, 0.36, 0.76))
        filled = axis.contourf(xs, ys, values.reshape(_CONTOUR, _CONTOUR), levels=14, cmap=colours)
        axis.scatter(
            [trial.point[first] for trial, _ in record.scored if first in trial.point and second in trial.point],
            [trial.point[second] for trial, _ in record.scored if first in trial.point and second in trial.point],
            s=12,
            color="white",
            edgecolors="black",
            linewidths=0.5,
        )
        axis.plot(at[first], at[second], marker="*", markersize=12, color="#ff5d5d", markeredgecolor="white")
        for name, scale in ((first, axis.set_xscale), (second, axis.set_yscale)):
            if getattr(space[name], "log", False):
                scale("log")
        _label_logarithms(axis.xaxis, space, first)
        _label_logarithms(axis.yaxis, space, second)
        axis.set_xlabel(short(first, 40))
        axis.set_ylabel(short(second, 40))
        axis.set_title(title)
        bar = figure.colorbar(filled, cax=figure.add_axes((0.43 + 0.5 * column, 0.13, 0.012, 0.76)))
        bar.outline.set_visible(False)
    return [
        Figure.from_matplotlib(
            figure,
            f"{record.metric} over {first} and {second}",
            "Dots are trials, the star is where the posterior mean is best. A bad sign: a star far from every dot, "
            "or in a corner.",
        )
    ]


def _label_logarithms(axis: Any, space: Space, name: str) -> None:
    """Plain numbers: Matplotlib's own labels of powers need a mathematical font."""
    if getattr(space[name], "log", False):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(lambda *_: "")


def _value(space: Space, name: str, position: float) -> Value:
    parameter = space[name]
    assert not isinstance(parameter, Categorical)
    return parameter.from_unit(float(position))


# Parameters


def _importance(importance: dict[str, Importance]) -> list[Figure]:
    shown = list(importance.items())[:MOST_COLUMNS]
    if len(shown) < 2:
        return []
    figure, (axis,) = panel_grid(1, columns=1, height=0.28 * len(shown) + 0.2)
    rows = range(len(shown))
    axis.barh(rows, [index.total for _, index in shown], color=FOUND, alpha=0.35, height=0.7)
    axis.barh(rows, [index.first for _, index in shown], color=FOUND, height=0.7)
    axis.set_yticks(rows, [short(name, 34) for name, _ in shown])
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    box = axis.get_position()
    axis.set_position((0.27, box.y0, 0.7, box.height))
    return [
        Figure.from_matplotlib(
            figure,
            "Importance",
            "Share of the surrogate's variance over the whole space that is due to a parameter alone (dark) and with "
            "its interactions (light): Sobol indices. A bad sign: a parameter of no importance that costs trials.",
            legend=[("alone", FOUND), ("with interactions", "#c2d8ec")],
        )
    ]


def _parallel(record: SweepRecord) -> list[Figure]:
    space = record.history.space
    names = list(space)[:MOST_COLUMNS]
    shown = [(trial, result) for trial, result in reversed(record.ranked) if set(names) <= set(trial.point)]
    if len(names) < 2 or len(shown) < 3:
        return []
    from matplotlib import colormaps
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(PAGE_WIDTH, 3.0))
    axis = figure.add_axes((0.06, 0.16, 0.88, 0.74))
    last = len(shown) - 1
    for rank, (trial, result) in enumerate(shown):
        heights = [_height(space, name, trial.point[name]) for name in names] + [rank / last]
        axis.plot(range(len(heights)), heights, color=colormaps["viridis"](rank / last), alpha=0.75, linewidth=1.0)
        del result
    axis.set_xticks(
        range(len(names) + 1), [*(short(name, 20) for name in names), f"rank of {short(record.metric, 14)}"]
    )
    axis.set_yticks([])
    for position, name in enumerate(names):
        low, high = _ends(space, name)
        axis.text(position, -0.04, low, ha="center", va="top", fontsize=6.5)
        axis.text(position, 1.03, high, ha="center", va="bottom", fontsize=6.5)
    axis.tick_params(axis="x", pad=12)
    axis.set_ylim(-0.02, 1.02)
    return [
        Figure.from_matplotlib(
            figure,
            "Every trial across its parameters",
            "One line per trial, bright for good ones; the last axis is the rank. A bad sign: bright lines "
            "everywhere, for then no setting matters, or all at one end of a range.",
        )
    ]


def _height(space: Space, name: str, value: Value) -> float:
    parameter = space[name]
    if isinstance(parameter, Categorical):
        return parameter.index(value) / max(len(parameter.options) - 1, 1)
    return parameter.to_unit(value)


def _ends(space: Space, name: str) -> tuple[str, str]:
    parameter = space[name]
    if isinstance(parameter, Categorical):
        return short(str(parameter.options[0]), 12), short(str(parameter.options[-1]), 12)
    return f"{parameter.low:g}", f"{parameter.high:g}"


# Architectures


def _architectures(record: SweepRecord) -> list[Figure]:
    found: list[tuple[Trial, Result, dict[str, str]]] = [
        (trial, result, choices) for trial, result in record.ranked if (choices := record.choices(trial))
    ][:MOST_TRIALS]
    if len(found) < 2:
        return []
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure as MatplotlibFigure

    names = list(dict.fromkeys(name for _, _, choices in found for name in choices))
    options = sorted({option for _, _, choices in found for option in choices.values()})
    codes = [[options.index(choices[name]) if name in choices else np.nan for _, _, choices in found] for name in names]
    colours = option_colours(len(options))
    height = 0.75 + 0.2 * len(names)
    figure = MatplotlibFigure(figsize=(PAGE_WIDTH, height))
    axis = figure.add_axes((0.2, 0.42 / height, 0.78, 1 - 0.5 / height))
    axis.imshow(
        codes, aspect="auto", cmap=ListedColormap(colours), vmin=-0.5, vmax=len(options) - 0.5, interpolation="nearest"
    )
    axis.set_yticks(range(len(names)), [short(name, 30) for name in names], fontsize=7)
    axis.set_xticks(range(len(found)), [str(trial.number) for trial, _, _ in found], fontsize=6)
    axis.set_xlabel("trial, best first", labelpad=1.5)
    axis.grid(visible=False)
    return [
        Figure.from_matplotlib(
            figure,
            "Architectures that the trials found",
            "One column per trial, best on the left. A bad sign: the best trials agree on no row, for then the "
            "search decides by chance.",
            legend=list(zip(options, colours, strict=True)),
        )
    ]
