"""Numbers as HTML text, rounded to what a reader can use."""

from __future__ import annotations

MISSING = "&ndash;"
"""Stands for what was not measured, or was not a number."""

_SCALES = ((1e9, 1e9, " G", 2), (1e6, 1e6, " M", 2), (1e4, 1e3, " k", 1))
"""From which size on a quantity is shown divided by what, with which unit and how many decimals."""


def score(value: float | None) -> str:
    """A metric: three decimals, scientific where those would be zero."""
    if value is None:
        return MISSING
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.2e}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.4g}"


def difference(value: float, other: float) -> str:
    """Value minus other, with its sign."""
    return f"{value - other:+.3f}".replace("-", "&minus;")


def signed(value: float | None, other: float | None) -> str:
    """The difference of two scores, marked as up or down."""
    if value is None or other is None:
        return MISSING
    kind = "up" if value > other else "down" if value < other else "soft"
    return f'<span class="{kind}">{difference(value, other)}</span>'


def quantity(value: float | None) -> str:
    """A count or a measurement, with k, M or G where it is large."""
    if value is None:
        return MISSING
    for start, divisor, unit, decimals in _SCALES:
        if abs(value) >= start:
            return f"{value / divisor:.{decimals}f}{unit}"
    return f"{value:,.0f}" if value == int(value) else f"{value:.3g}"


def ratio(value: float | None, other: float | None) -> str:
    """Value over other."""
    return f"{value / other:.2f}&times;" if value is not None and other else MISSING


def duration(seconds: float | None) -> str:
    """Seconds as hours, minutes and seconds."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def file_size(size: int) -> str:
    """Bytes as MB or kB."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
