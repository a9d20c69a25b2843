"""Tables of what has been measured so far; also as ``summary.json``, with a plot per mode beside it."""

from __future__ import annotations

import json
import statistics as plain_statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hpo import cells, plots
from benchmarks.hpo.cells import MODES, RESULTS, SEQUENTIAL_PROBLEMS, Cell, Mode
from benchmarks.hpo.methods import OURS
from benchmarks.hpo.problems import PROBLEMS, problem
from benchmarks.hpo.statistics import Block, Comparison, Course, Estimate, compare, course, mean_over_problems, ranks

BASELINE = "random"


@dataclass
class Measured:
    """All cells of a mode.

    Args:
        mode: they were run in.
        cells: by method, then by problem and seed.
        courses: of those that came to something.
        deadlines: by problem, the seconds in which random search ends its trials: "equal wall-clock".
    """

    mode: Mode
    cells: dict[str, dict[Block, Cell]] = field(default_factory=dict)
    courses: dict[str, dict[Block, Course]] = field(default_factory=dict)
    deadlines: dict[str, float] = field(default_factory=dict)

    def regrets(self, share: float | None) -> dict[str, dict[Block, float]]:
        """Regret of each method in each block, infinite where a run came to nothing.

        Args:
            share: of the deadline; None is after all trials.
        """
        found: dict[str, dict[Block, float]] = {}
        for name, blocks in self.cells.items():
            found[name] = {}
            for block in blocks:
                run = self.courses[name].get(block)
                if run is None:
                    found[name][block] = np.inf
                elif share is None:
                    found[name][block] = float(run.by_trial[-1])
                elif block[0] in self.deadlines:
                    found[name][block] = run.at(share * self.deadlines[block[0]])
        return found


def measured(mode: Mode, methods: Sequence[str], folder: Path = RESULTS) -> Measured:
    """Read the cells of a mode."""
    all_cells = Measured(mode)
    for method in methods:
        for name in PROBLEMS if mode.slots > 1 else SEQUENTIAL_PROBLEMS:
            for seed, cell in cells.read(cells.path_of(mode.name, name, method, folder)).items():
                all_cells.cells.setdefault(method, {})[name, seed] = cell
                runs = all_cells.courses.setdefault(method, {})
                if cell.error is None:
                    runs[name, seed] = course(cell, mode.slots, problem(name).best, problem(name).typical_regret)
    ends: dict[str, list[float]] = {}
    for (name, _), run in all_cells.courses.get(BASELINE, {}).items():
        ends.setdefault(name, []).append(float(run.finished[-1]))
    all_cells.deadlines = {name: plain_statistics.median(values) for name, values in ends.items()}
    return all_cells


def report(methods: Sequence[str], folder: Path = RESULTS) -> None:
    """Print the tables of every mode, and write the summary and the plots.

    Args:
        methods: by name; those without any cell are left out.
        folder: of the cells; the summary and the plots are put there too.
    """
    summary: dict[str, Any] = {}
    for mode in MODES.values():
        found = measured(mode, methods, folder)
        if not found.cells:
            print(f"{mode.name}: nothing measured yet\n")
            continue
        summary[mode.name] = {
            "ranks": print_ranks(found),
            "suggestions": print_suggestions(found),
            "regrets": print_regrets(found),
            "comparisons": print_comparisons(found),
            "deadline_seconds": found.deadlines,
        }
        plots.draw(found, folder / f"{mode.name}.png")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(f"In {folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder}")


VIEWS: Mapping[str, float | None] = {"equal trials": None, "equal wall-clock": 1.0, "half of it": 0.5}
"""Where methods are compared: title, and share of the deadline."""


def print_ranks(found: Measured) -> dict[str, dict[str, dict[str, float]]]:
    """Average ranks over the blocks that all methods have."""
    rows: dict[str, dict[str, Estimate]] = {name: {} for name in found.cells}
    blocks: Sequence[Block] = ()
    for view, share in VIEWS.items():
        ranked = ranks(found.regrets(share))
        blocks = list(ranked) or blocks
        for name in rows if ranked else ():
            rows[name][view] = mean_over_problems({block: of[name] for block, of in ranked.items()})
    problems = {name for name, _ in blocks}
    print(
        f"{found.mode.name}: average rank of {len(rows)} methods over {len(problems)} problems, "
        f"{len(blocks)} blocks of problem and seed (95 % interval over seeds)"
    )
    print(f"{'':<14}" + "".join(f"{view:>24}" for view in VIEWS))
    for name, row in sorted(rows.items(), key=lambda item: _place(item[1])):
        print(f"{name:<14}" + "".join(f"{_interval(row[view], '.2f') if view in row else '-':>24}" for view in VIEWS))
    print()
    return {name: {view: asdict(value) for view, value in row.items()} for name, row in rows.items()}


def _place(row: Mapping[str, Estimate]) -> float:
    """Rank that a table is sorted by: at equal wall-clock; without random search there is no deadline for that."""
    return next((row[view].mean for view in ("equal wall-clock", "equal trials") if view in row), 0.0)


def print_suggestions(found: Measured) -> dict[str, dict[str, Any]]:
    """What suggesting took, and how often it failed."""
    rows: dict[str, dict[str, Any]] = {}
    for name, blocks in found.cells.items():
        alive = [cell for cell in blocks.values() if cell.error is None]
        single = [value for cell in alive for value in cell.cpu]
        rows[name] = {
            "cells": len(blocks),
            "seconds_per_study": plain_statistics.mean([sum(cell.cpu) for cell in alive]) if alive else None,
            "seconds_per_suggestion_median": float(np.median(single)) if single else None,
            "seconds_per_suggestion_p95": float(np.quantile(single, 0.95)) if single else None,
            "failed_calls": sum(len(cell.failures) for cell in alive),
            "runs_that_died": len(blocks) - len(alive),
            "codes": sorted({cell.code for cell in blocks.values()}),
        }
    print(f"{found.mode.name}: processor seconds of suggesting, one thread")
    print(f"{'':<14}{'cells':>8}{'per study':>12}{'median':>10}{'p95':>10}{'failed calls':>14}{'died':>6}  code")
    for name, row in sorted(rows.items(), key=lambda item: item[1]["seconds_per_study"] or 0.0):
        figures = [row[f"seconds_per_{what}"] for what in ("study", "suggestion_median", "suggestion_p95")]
        texts = ["-" if value is None else f"{value:.3g}" for value in figures]
        print(
            f"{name:<14}{row['cells']:>8}{texts[0]:>12}{texts[1]:>10}{texts[2]:>10}"
            f"{row['failed_calls']:>14}{row['runs_that_died']:>6}  {', '.join(row['codes'])}"
        )
    print()
    return rows


def print_regrets(found: Measured) -> dict[str, dict[str, float]]:
    """Median regret after all trials, in units of a random point's."""
    final = found.regrets(None)
    names = sorted({name for blocks in final.values() for name, _ in blocks}, key=list(PROBLEMS).index)
    table: dict[str, dict[str, float]] = {}
    for method, blocks in final.items():
        table[method] = {}
        for name in names:
            values = [value for (of, _), value in blocks.items() if of == name]
            if values:
                table[method][name] = float(np.median(values))
    print(f"{found.mode.name}: median regret after {found.mode.trials} trials (a random point's median regret is 1)")
    print(f"{'':<14}" + "".join(f"{name:>16}" for name in names))
    for method, row in table.items():
        print(f"{method:<14}" + "".join(f"{row[name]:>16.2g}" if name in row else f"{'-':>16}" for name in names))
    print()
    return table


def print_comparisons(found: Measured) -> dict[str, dict[str, Any]]:
    """Our default against each other method: ratio of regrets, test, and the problems where we lose."""
    summary: dict[str, dict[str, Any]] = {}
    for view in ("equal trials", "equal wall-clock"):
        regrets = found.regrets(VIEWS[view])
        if OURS not in regrets:
            continue
        print(
            f"{found.mode.name}: regret of {OURS} by that of others at {view}, geometric mean (below 1: ours is better)"
        )
        print(f"{'':<14}{'ratio':>24}{'p, problems':>14}{'p, pairs':>12}{'pairs':>8}  worse on")
        for name in regrets:
            result = compare(regrets[OURS], regrets[name]) if name != OURS else None
            if result is not None:
                summary.setdefault(view, {})[name] = asdict(result)
                print(_comparison(name, result))
        print()
    return summary


def _comparison(name: str, result: Comparison) -> str:
    lost = sorted(result.per_problem.items(), key=lambda item: -item[1])
    worse = ", ".join(f"{problem} {ratio:.2g}" for problem, ratio in lost if ratio > 1)
    return (
        f"{name:<14}{_interval(result.ratio, '.3g'):>24}{result.p_problems:>14.3g}{result.p_cells:>12.3g}"
        f"{result.pairs:>8}  {worse or '-'}"
    )


def _interval(estimate: Estimate, form: str) -> str:
    return f"{estimate.mean:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"
