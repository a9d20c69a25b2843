"""Circuits as SVG drawings that read well on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from torch import Tensor

from darts_hpo.errors import GenotypeError
from darts_hpo.report.figure import OPTION_COLOURS
from quantum.circuit import Angle, Circuit, Input, Operation, Weight

_SPACING = 54.0
_BOX = 38.0
_GAP = 13.0
_MARGIN = 14.0
_LABELS = 30.0
_TAIL = 14.0
_ROW_GAP = 26.0
_WIDEST = 980.0
_NAME_SIZE, _ANGLE_SIZE = 12.5, 10.5

_TRAINED, _DATA = OPTION_COLOURS[0], OPTION_COLOURS[-1]
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
# `color-scheme` lets a browser that shows the file by itself put it on a dark page when its ink is light.
_STYLE = (
    "svg.quantum-circuit{color-scheme:light dark;color:#24292f}"
    "@media (prefers-color-scheme:dark){svg.quantum-circuit{color:#d5dae1}}"
    "@media print{svg.quantum-circuit{color:#000}}"
)

_DOT, _PLUS = "dot", "plus"
_CONTROLLED = {"CNOT": _PLUS, "CZ": _DOT, "CRX": "RX", "CRY": "RY", "CRZ": "RZ", "CU3": "U3"}
"""What stands on the second wire of a gate whose first wire is a control."""
_PORTS = {"RXX": "XX", "RYY": "YY", "RZZ": "ZZ", "RZX": "ZX", "iSWAP": "  "}
"""Marks on the wires of a box over several wires; other gates' wires are numbered."""

_MINUS = "\N{MINUS SIGN}"
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def draw(circuit: Circuit, weights: Sequence[float] | Tensor | None = None, title: str | None = None) -> str:
    """The circuit as a self-contained SVG document.

    Time runs to the right, wire 0 is on top. Operations that do not collide share a column; long circuits continue in
    rows below. Gates with trained angles and gates that read data are tinted; every gate has a tooltip with its exact
    angles. Lines and text take the page's ink (``currentColor``).

    Args:
        circuit: what to draw.
        weights: `n_weights` angles in radians, shown rounded. None shows the symbols θ instead.
        title: a heading. It is also the accessible name, which without one says how large the circuit is.

    Raises:
        GenotypeError: another number of weights than the circuit has.
    """
    if isinstance(weights, Tensor):
        weights = weights.detach().tolist()
    values = None if weights is None else [float(value) for value in weights]
    if values is not None and len(values) != circuit.n_weights:
        raise GenotypeError(f"The circuit has {circuit.n_weights} weights; it was given {len(values)}.")
    glyphs = [_glyph(operation, values) for operation in circuit.operations]
    if circuit.amplitude_input:
        glyphs.insert(0, _amplitudes(circuit.n_wires))
    rows = _rows(_columns(glyphs, circuit.n_wires))
    return _document(circuit, rows, title)


# -- What is drawn -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Box:
    top: int
    bottom: int
    name: str
    angles: str
    ports: tuple[tuple[int, str], ...] = ()  # wire and mark; empty for a box on one wire

    @property
    def width(self) -> float:
        text = max(_text_width(self.name, _NAME_SIZE), _text_width(self.angles, _ANGLE_SIZE))
        return max(_BOX, text + 12.0)


@dataclass(frozen=True)
class _Glyph:
    """One operation: marks on wires, joined by a line."""

    tooltip: str
    colour: str | None
    box: _Box | None = None
    dots: tuple[int, ...] = ()
    plus: int | None = None
    crosses: tuple[int, ...] = ()

    @property
    def wires(self) -> tuple[int, int]:
        """The first and the last wire that the drawing touches."""
        marked = [*self.dots, *self.crosses]
        if self.plus is not None:
            marked.append(self.plus)
        if self.box is not None:
            marked += [self.box.top, self.box.bottom]
        return min(marked), max(marked)

    @property
    def width(self) -> float:
        return self.box.width if self.box is not None else 22.0


def _glyph(operation: Operation, weights: list[float] | None) -> _Glyph:
    wires = operation.wires
    angles = ", ".join(_angle(angle, weights) for angle in operation.angles)
    colour = None
    if any(isinstance(angle, Input) for angle in operation.angles):
        colour = _DATA
    elif any(isinstance(angle, Weight) for angle in operation.angles):
        colour = _TRAINED
    tooltip = _tooltip(operation, weights)
    if operation.gate == "SWAP":
        return _Glyph(tooltip, colour, crosses=wires)
    target = _CONTROLLED.get(operation.gate)
    if target == _PLUS:
        return _Glyph(tooltip, colour, dots=wires[:1], plus=wires[1])
    if target == _DOT:
        return _Glyph(tooltip, colour, dots=wires)
    if target is not None:
        return _Glyph(tooltip, colour, box=_Box(wires[1], wires[1], target, angles), dots=wires[:1])
    marks = _PORTS.get(operation.gate, "".join(str(i % 10) for i in range(len(wires))))
    ports = tuple(zip(wires, marks, strict=True)) if len(wires) > 1 else ()
    return _Glyph(tooltip, colour, box=_Box(min(wires), max(wires), operation.gate, angles, ports))


def _amplitudes(n_wires: int) -> _Glyph:
    ports = tuple((wire, " ") for wire in range(n_wires)) if n_wires > 1 else ()
    tooltip = "The initial state is the sample itself, normalised (amplitude encoding)."
    return _Glyph(tooltip, _DATA, box=_Box(0, n_wires - 1, "|x⟩", "", ports))


def _angle(angle: Angle, weights: list[float] | None) -> str:
    if isinstance(angle, Weight):
        return _symbol("θ", angle.index) if weights is None else _number(weights[angle.index])
    if isinstance(angle, Input):
        factor = {1.0: "", -1.0: _MINUS}.get(angle.scale)
        return (_constant(angle.scale) + " " if factor is None else factor) + _symbol("x", angle.index)
    return _constant(angle)


def _symbol(letter: str, index: int) -> str:
    return letter + str(index).translate(_SUBSCRIPTS)


def _number(value: float) -> str:
    if abs(value) >= 0.1:
        text = f"{value:.2f}"
    else:
        text = f"{value:.2g}"
    return text.replace("-", _MINUS)


def _constant(value: float) -> str:
    """A number, or a simple fraction of pi where it is one."""
    for denominator in (1, 2, 3, 4, 6, 8):
        numerator = round(value / math.pi * denominator)
        if numerator and abs(numerator) <= 8 and math.isclose(value, numerator * math.pi / denominator, rel_tol=1e-9):
            factor = {1: "π", -1: f"{_MINUS}π"}.get(numerator, f"{numerator}π".replace("-", _MINUS))
            return factor if denominator == 1 else f"{factor}/{denominator}"
    return f"{value:.3g}".replace("-", _MINUS)


def _tooltip(operation: Operation, weights: list[float] | None) -> str:
    angles = []
    for angle in operation.angles:
        if isinstance(angle, Weight):
            angles.append(f"θ{angle.index}" + ("" if weights is None else f" = {weights[angle.index]:.6g}"))
        elif isinstance(angle, Input):
            angles.append(f"{angle.scale:.6g} x{angle.index}")
        else:
            angles.append(f"{angle:.6g}")
    called = f"{operation.gate}({', '.join(angles)})" if angles else operation.gate
    return f"{called} on wire{'s' if len(operation.wires) > 1 else ''} {', '.join(map(str, operation.wires))}"


def _text_width(text: str, size: float) -> float:
    """An estimate from above: the reader's fonts are not known here."""
    narrow = sum(character in " ,.|/₀₁₂₃₄₅₆₇₈₉" for character in text)
    return size * (0.36 * narrow + 0.64 * (len(text) - narrow))


# -- Where it is drawn ---------------------------------------------------------------------------------------------


def _columns(glyphs: list[_Glyph], n_wires: int) -> list[list[_Glyph]]:
    """Every glyph in the first column where the wires that it touches or crosses are free."""
    columns: list[list[_Glyph]] = []
    free = [0] * n_wires
    for glyph in glyphs:
        first, last = glyph.wires
        place = max(free[first : last + 1])
        free[first : last + 1] = [place + 1] * (last + 1 - first)
        if place == len(columns):
            columns.append([])
        columns[place].append(glyph)
    return columns


def _column_width(column: list[_Glyph]) -> float:
    return max(glyph.width for glyph in column) + _GAP


def _rows(columns: list[list[_Glyph]]) -> list[list[list[_Glyph]]]:
    """Columns in as few rows as fit the widest drawing, and these about equally long."""
    widths = [_column_width(column) for column in columns]

    def broken(limit: float) -> list[list[list[_Glyph]]]:
        rows: list[list[list[_Glyph]]] = [[]]
        filled = 0.0
        for column, width in zip(columns, widths, strict=True):
            if rows[-1] and filled + width > limit:
                rows.append([])
                filled = 0.0
            rows[-1].append(column)
            filled += width
        return rows

    limit = _WIDEST - 2 * _MARGIN - _LABELS - 2 * _TAIL
    best = broken(limit)
    while len(narrower := broken(limit - 8.0)) == len(best) and limit > 8.0:
        best, limit = narrower, limit - 8.0
    return best


# -- Drawing -------------------------------------------------------------------------------------------------------


def _document(circuit: Circuit, rows: list[list[list[_Glyph]]], title: str | None) -> str:
    n = circuit.n_wires
    contents = [sum(_column_width(column) for column in row) for row in rows]
    longest = max(60.0, *contents)
    left = _MARGIN + _LABELS
    heading = 30.0 if title else 0.0
    height_of_row = (n - 1) * _SPACING + _BOX + _ROW_GAP
    legend = _legend([glyph.colour for row in rows for column in row for glyph in column])
    width = left + longest + 2 * _TAIL + _MARGIN
    height = heading + 2 * _MARGIN + len(rows) * height_of_row - _ROW_GAP + (28.0 if legend else 0.0)

    parts = []
    if title:
        parts.append(_text(_MARGIN, _MARGIN + 10.0, title, 14.0, weight=600, anchor="start"))
    for index, row in enumerate(rows):
        top = heading + _MARGIN + _BOX / 2 + index * height_of_row
        ends = (index > 0, index < len(rows) - 1)
        parts.append(_row(row, n, left, top, longest, ends))
    if legend:
        parts.append(f'<g transform="translate({_n(left)} {_n(height - _MARGIN - 4.0)})">{legend}</g>')
    count = len(circuit.operations)
    name = title or f"Quantum circuit: {n} wire{'s' * (n > 1)}, {count} gate{'s' * (count != 1)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="quantum-circuit" role="img" aria-label="{escape(name)}" '
        f'width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}" '
        f'font-family="{_FONTS}" stroke-linecap="round">\n<title>{escape(name)}</title>\n<style>{_STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _row(
    row: list[list[_Glyph]], n_wires: int, left: float, top: float, length: float, continues: tuple[bool, bool]
) -> str:
    """Wires, then operations. ``continues``: whether the circuit goes on before and after this row."""
    heights = [top + wire * _SPACING for wire in range(n_wires)]
    start, end = left + _TAIL, left + _TAIL + length
    hidden: list[list[tuple[float, float]]] = [[] for _ in range(n_wires)]  # where boxes stand on a wire
    crossed: list[list[tuple[float, float]]] = [[] for _ in range(n_wires)]  # and where a wire only passes a box
    drawn = []
    x = start
    for column in row:
        width = _column_width(column)
        centre = x + width / 2
        for glyph in column:
            drawn.append(_operation(glyph, centre, heights))
            if glyph.box is not None:
                half = glyph.box.width / 2
                touched = {wire for wire, _ in glyph.box.ports} or {glyph.box.top}
                for wire in range(glyph.box.top, glyph.box.bottom + 1):
                    (hidden if wire in touched else crossed)[wire].append((centre - half, centre + half))
        x += width
    lines = []
    for wire, y in enumerate(heights):
        lines.append(_text(left - 8.0, y, _symbol("q", wire), 12.0, anchor="end", opacity=0.75))
        position = start - _TAIL
        for x0, x1 in sorted([*hidden[wire], *crossed[wire]]):
            lines.append(_line(position, y, x0, y))
            position = x1
        lines.append(_line(position, y, end + (0.0 if continues[1] else _TAIL), y))
        lines += [_line(x0, y, x1, y, "2 4") for x0, x1 in crossed[wire]]
        if continues[1]:
            lines.append(_line(end, y, end + _TAIL, y, "1 4"))
    return (
        f'<g stroke="currentColor" stroke-opacity="0.55" fill="none">{"".join(lines)}</g>\n<g>'
        + "\n".join(drawn)
        + "</g>"
    )


def _operation(glyph: _Glyph, x: float, heights: list[float]) -> str:
    colour = glyph.colour or "currentColor"
    parts = [f"<title>{escape(glyph.tooltip)}</title>"]
    first, last = glyph.wires
    if glyph.box is None:
        parts.append(_line(x, heights[first], x, heights[last]))
    elif glyph.dots:
        box = heights[glyph.box.top]
        control = heights[glyph.dots[0]]
        edge = box + math.copysign(_BOX / 2, control - box)
        parts.append(_line(x, control, x, edge))
    parts += [f'<circle cx="{_n(x)}" cy="{_n(heights[wire])}" r="4.5" fill="{colour}"/>' for wire in glyph.dots]
    for wire in glyph.crosses:
        y = heights[wire]
        parts += [_line(x - 6, y - 6, x + 6, y + 6), _line(x - 6, y + 6, x + 6, y - 6)]
    if glyph.plus is not None:
        y = heights[glyph.plus]
        parts.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="10" fill="none"/>')
        parts += [_line(x - 10, y, x + 10, y), _line(x, y - 10, x, y + 10)]
    if glyph.box is not None:
        parts.append(_box(glyph.box, x, heights, glyph.colour))
    return f'<g stroke="{colour}" stroke-width="1.5">{"".join(parts)}</g>'


def _box(box: _Box, x: float, heights: list[float], colour: str | None) -> str:
    top, bottom = heights[box.top] - _BOX / 2, heights[box.bottom] + _BOX / 2
    fill, opacity = (colour, 0.16) if colour else ("currentColor", 0.07)
    parts = [
        f'<rect x="{_n(x - box.width / 2)}" y="{_n(top)}" width="{_n(box.width)}" height="{_n(bottom - top)}" rx="5" '
        f'fill="{fill}" fill-opacity="{opacity}" stroke-width="1.2"/>'
    ]
    # A box over several wires is labelled between its first two, where no wire passes through the text.
    middle = heights[box.top] if box.top == box.bottom else (heights[box.top] + heights[box.top + 1]) / 2
    if box.angles:
        parts.append(_text(x, middle - 7.0, box.name, _NAME_SIZE, weight=600))
        parts.append(_text(x, middle + 8.0, box.angles, _ANGLE_SIZE))
    else:
        parts.append(_text(x, middle, box.name, _NAME_SIZE, weight=600))
    for wire, mark in box.ports:
        if mark.strip():
            parts.append(_text(x - box.width / 2 + 8.0, heights[wire], mark, 9.5, opacity=0.75))
    return "".join(parts)


def _legend(colours: list[str | None]) -> str:
    parts = []
    x = 0.0
    for colour, text in ((_TRAINED, "trained angles"), (_DATA, "read from the data")):
        if colour in colours:
            parts.append(
                f'<rect x="{_n(x)}" y="-5" width="10" height="10" rx="2.5" fill="{colour}" fill-opacity="0.3" '
                f'stroke="{colour}"/>' + _text(x + 16.0, 0.0, text, 11.0, anchor="start", opacity=0.8)
            )
            x += 16.0 + _text_width(text, 11.0) + 18.0
    return "".join(parts)


def _text(
    x: float, y: float, text: str, size: float, *, weight: int = 400, anchor: str = "middle", opacity: float = 1.0
) -> str:
    # The baseline is set by hand: `dominant-baseline` is missing in some converters of SVG.
    faint = f' fill-opacity="{opacity}"' if opacity < 1 else ""
    bold = f' font-weight="{weight}"' if weight != 400 else ""
    return (
        f'<text x="{_n(x)}" y="{_n(y + 0.35 * size)}" font-size="{size}"{bold} text-anchor="{anchor}" '
        f'fill="currentColor"{faint} stroke="none">{escape(text)}</text>'
    )


def _line(x0: float, y0: float, x1: float, y1: float, dashes: str | None = None) -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{_n(x0)}" y1="{_n(y0)}" x2="{_n(x1)}" y2="{_n(y1)}"{dashed}/>'


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
