"""A picture of a mode: regret against trials on every problem, and average rank against trials and time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.hpo.methods import COMPARED, METHODS
from benchmarks.hpo.problems import PROBLEMS
from benchmarks.hpo.statistics import Block, median_band, ranks

if TYPE_CHECKING:
    from benchmarks.hpo.report import Measured

SHARES = np.linspace(0.05, 1.5, 30)
"""Of the deadline, where ranks over time are taken."""


def draw(found: Measured, path: Path) -> None:
    """Draw everything measured in a mode into a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names = [name for name in PROBLEMS if any(block[0] == name for runs in found.courses.values() for block in runs)]
    columns = min(4, len(names) + 2)
    rows = math.ceil((len(names) + 2) / columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(4.2 * columns, 3.2 * rows), squeeze=False, layout="constrained"
    )
    panels = list(axes.flat)
    ordered = [*COMPARED, *(name for name in METHODS if name not in COMPARED)]
    # Every second colour of this map is strong; the pale ones are left to variants.
    strong_first = [*range(0, 20, 2), *range(1, 20, 2)]
    palette = mpl.colormaps["tab20"]
    colours = {method: palette(strong_first[index % 20]) for index, method in enumerate(ordered)}
    for panel, name in zip(panels, names, strict=False):
        _regret(panel, found, name, colours)
    _rank_by_trials(panels[len(names)], found, colours)
    _rank_by_time(panels[len(names) + 1], found, colours)
    for panel in panels[len(names) + 2 :]:
        panel.set_axis_off()
    handles = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    mode = found.mode
    figure.suptitle(f"{mode.name}: {mode.trials} trials, {mode.slots} at once; median over seeds with its 95 % band")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _regret(panel: Any, found: Measured, name: str, colours: dict[str, Any]) -> None:
    trials = np.arange(1, found.mode.trials + 1)
    for method, runs in found.courses.items():
        curves = [run.by_trial for (of, _), run in runs.items() if of == name]
        if not curves:
            continue
        middle, low, high = (np.where(np.isinf(band), np.nan, band) for band in median_band(np.stack(curves)))
        panel.plot(trials, middle, color=colours[method], label=method, linewidth=1.3)
        panel.fill_between(trials, low, high, color=colours[method], alpha=0.12, linewidth=0)
    panel.set_yscale("log")
    panel.set_title(name, fontsize=10)
    panel.set_xlabel("trials ended")
    panel.set_ylabel("regret (random point = 1)", fontsize=8)


def _rank_by_trials(panel: Any, found: Measured, colours: dict[str, Any]) -> None:
    counts = np.unique(np.linspace(1, found.mode.trials, 25).astype(int))
    _plot_ranks(
        panel,
        counts,
        [
            {m: {b: float(run.by_trial[c - 1]) for b, run in runs.items()} for m, runs in found.courses.items()}
            for c in counts
        ],
        colours,
    )
    panel.set_title("average rank, equal trials", fontsize=10)
    panel.set_xlabel("trials ended")


def _rank_by_time(panel: Any, found: Measured, colours: dict[str, Any]) -> None:
    _plot_ranks(panel, SHARES, [found.regrets(float(share)) for share in SHARES], colours)
    panel.set_title("average rank, equal wall-clock", fontsize=10)
    panel.set_xlabel("time / time of random search")


def _plot_ranks(
    panel: Any, positions: NDArray[Any], regrets: list[dict[str, dict[Block, float]]], colours: dict[str, Any]
) -> None:
    ranked = [ranks(at) for at in regrets]
    for method in regrets[0]:
        means = [np.mean([of[method] for of in blocks.values()]) if blocks else np.nan for blocks in ranked]
        panel.plot(positions, means, color=colours[method], linewidth=1.3)
    panel.set_ylabel("rank (1 is best)", fontsize=8)
    panel.invert_yaxis()
