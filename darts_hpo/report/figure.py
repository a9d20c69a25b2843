"""Figures of a report: the engine's own and those that spaces and tasks hand in."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

INK = "#010203"
"""Colour to draw text and lines in: it becomes dark on a light page and light on a dark one."""

FOUND, REFERENCE, RANDOM = "#3d85c6", "#e08a3c", "#8a8f98"
"""Colours of the found network, of the reference network and of random ones, in every figure."""

OPTION_COLOURS = ("#4477aa", "#66bbdd", "#2e9a57", "#c9b13b", "#e0607a", "#a3418a", "#8a8f98", "#e0893c")
"""Colours of options by position, apart from each other for colour-blind readers and on both backgrounds."""

_THEME = (
    "<style>:root{color:#24292f}@media (prefers-color-scheme:dark){:root{color:#d5dae1}}"
    "@media print{:root{color:#000}}</style>"
)
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans'"


@dataclass(frozen=True)
class Figure:
    """A picture with what it shows and what would be a bad sign in it.

    Args:
        title: a short heading.
        caption: one or two sentences; they end with what would be a bad sign.
        svg: the picture as an SVG document, or
        png: as a PNG file. Exactly one of the two.
        legend: label and CSS colour, where the picture has no legend of its own.

    Raises:
        ValueError: neither or both pictures are given.
    """

    title: str
    caption: str
    svg: str | None = None
    png: bytes | None = None
    legend: Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        if (self.svg is None) == (self.png is None):
            raise ValueError(f"Figure {self.title!r} needs either svg or png, and not both.")

    @property
    def data_uri(self) -> str:
        """The picture as a ``data:`` address. As an image it can neither run scripts nor load anything."""
        if self.svg is not None:
            return f"data:image/svg+xml;base64,{base64.b64encode(self.svg.encode()).decode()}"
        assert self.png is not None  # checked on construction
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"

    @classmethod
    def from_matplotlib(
        cls, figure: MatplotlibFigure, title: str, caption: str, legend: Sequence[tuple[str, str]] = ()
    ) -> Figure:
        """A themed SVG of a Matplotlib figure made inside :func:`drawing`."""
        return cls(title, caption, svg=themed_svg(figure), legend=legend)


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib settings of the report's figures, restored afterwards."""
    import matplotlib

    settings: Any = {
        "font.size": 8.5,
        "axes.titlesize": 8.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 8,
        "xtick.labelsize": 7.5,
        "ytick.labelsize": 7.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "axes.grid": True,
        "grid.linewidth": 0.5,
        "grid.alpha": 0.15,
        "grid.color": INK,
        "lines.linewidth": 1.5,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "svg.fonttype": "none",
        "svg.hashsalt": "darts-hpo",  # the same figure is the same text
        "text.parse_math": False,  # names of choices and classes may hold a dollar sign
    }
    for name in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"):
        settings[name] = INK
    with matplotlib.rc_context(settings):
        yield


def themed_svg(figure: MatplotlibFigure) -> str:
    """An SVG whose ink follows the reader's light or dark setting and whose fonts are the reader's own."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue().replace(INK, "currentColor").replace("'DejaVu Sans'", _FONTS)
    return re.sub(r"(<svg\b[^>]*>)", rf"\1{_THEME}", svg, count=1)


def option_colours(n_options: int) -> list[str]:
    """One colour per option."""
    if n_options <= len(OPTION_COLOURS):
        return list(OPTION_COLOURS[:n_options])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["turbo"](0.05 + 0.9 * i / (n_options - 1))) for i in range(n_options)]
