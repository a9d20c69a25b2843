"""The table of a run, and the geometric means of its ratios."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.quantum.measuring import CONTENDERS

AIMS = (
    "Aims: supercircuit against TorchQuantum 25 at 4 qubits, and 60 at 8 qubits with batch 256; circuit against "
    "TorchQuantum 8 and against PennyLane 12, geometric means."
)

Cell = Mapping[str, Any]
"""``kind``, ``n_wires``, ``batch``, and ``contenders`` as :func:`~benchmarks.quantum.measuring.measure` gives them."""


def table(cells: Sequence[Cell], kind: str) -> Iterator[str]:
    """Lines of Markdown: milliseconds of processor time per step and memory, ratios to ours in brackets.

    Args:
        cells: of a run.
        kind: those that are shown.
    """
    shown = [cell for cell in cells if cell["kind"] == kind]
    names = [name for name in CONTENDERS if any(name in cell["contenders"] for cell in shown)]
    if not shown:
        return
    yield f"| {kind}: qubits, batch | " + " | ".join(CONTENDERS[name].title for name in names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for cell in shown:
        columns = [_entry(cell, name) for name in names]
        yield f"| {cell['n_wires']}, {cell['batch']} | " + " | ".join(columns) + " |"
    means = geometric_means(shown, "cpu")
    columns = [f"{means[name]:.1f}x" if name in means else "" for name in names]
    yield "| geometric mean | " + " | ".join(columns) + " |"


def geometric_means(cells: Sequence[Cell], clock: str) -> dict[str, float]:
    """Of the ratios of each contender's time to ours, over the cells that both computed.

    Args:
        cells: of one kind.
        clock: ``cpu`` or ``wall``.
    """
    logarithms: dict[str, list[float]] = {}
    for cell in cells:
        for name in cell["contenders"]:
            found = ratio(cell, name, clock)
            if found is not None and name != "ours":
                logarithms.setdefault(name, []).append(math.log(found))
    return {name: math.exp(sum(values) / len(values)) for name, values in logarithms.items()}


def ratio(cell: Cell, name: str, clock: str, base: str = "ours") -> float | None:
    """A contender's time by another's; None where one of them sat the cell out."""
    theirs, ours = (cell["contenders"].get(key, {}).get(clock) for key in (name, base))
    return None if theirs is None or ours is None else theirs / ours


def _entry(cell: Cell, name: str) -> str:
    found = cell["contenders"].get(name)
    if found is None:
        return ""
    if "passed" in found:
        return f"- ({found['passed']})"
    added = "" if found["added"] is None else f", {found['added'] / 2**20:.0f} MiB"
    factor = ratio(cell, name, "cpu")
    compared = "" if name == "ours" or factor is None else f" ({factor:.1f}x)"
    return f"{1e3 * found['cpu']:.1f} ms{compared}{added}"
