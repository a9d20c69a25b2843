"""The page around every report and the parts it is made of: escaped texts, tables, tiles, pictures inside."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources

import darts_hpo
from darts_hpo.report.figure import Figure

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, sections: Sequence[str], source: str) -> str:
    """A self-contained HTML document: it loads nothing and runs nothing.

    Args:
        title: plain text.
        sections: HTML; empty ones are left out.
        source: what it was written from, for the footer.
    """
    style = resources.files("darts_hpo.report").joinpath("report.css").read_text(encoding="utf-8")
    body = "\n".join(section for section in sections if section)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="color-scheme" content="light dark">
<title>{escape(title)} · darts-hpo</title>
<style>
{style}</style>
</head>
<body>
{body}
<footer class="soft">
Written by darts-hpo {escape(darts_hpo.__version__)} from {escape(source)}.
</footer>
</body>
</html>
"""


def header(name: str, status: str, level: str, subtitle: str) -> str:
    """The title of a page with where things stand. ``subtitle`` is HTML."""
    return (
        f'<header><div class="title"><h1>{escape(name)}</h1><span class="status {level}">{escape(status)}</span></div>'
        f'<p class="soft">{subtitle}</p></header>'
    )


def unreadable(what: str, notes: Sequence[str]) -> str:
    """A warning that something could not be read, note by note; nothing where there are none."""
    if not notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<div class="banner caution"><strong>{escape(what)} could not be read.</strong><ul>{items}</ul></div>'


def tile(name: str, value: str, note: str) -> str:
    """A number with its name. ``value`` and ``note`` are HTML."""
    return (
        f'<div class="tile"><div class="name">{escape(name)}</div><div class="value">{value}</div>'
        f'<div class="note">{note}</div></div>'
    )


def table(header: str, rows: Sequence[str]) -> str:
    """A table from rows of HTML, scrolling where it is wide."""
    return f'<div class="scroll"><table><thead>{header}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def figures(title: str, shown: Sequence[Figure]) -> str:
    """A section of pictures; nothing where there are none."""
    if not shown:
        return ""
    return "\n".join([f"<h2>{escape(title)}</h2>", *map(_figure, shown)])


def _figure(figure: Figure) -> str:
    keys = "".join(
        f'<span><i style="background:{escape(colour)}"></i>{escape(label)}</span>' for label, colour in figure.legend
    )
    legend = f'<div class="legend">{keys}</div>' if keys else ""
    kind = ' class="photo"' if figure.png is not None else ""
    return (
        f"<figure><h3>{escape(figure.title)}</h3>{legend}"
        f'<img{kind} alt="{escape(figure.title)}" src="{figure.data_uri}">'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
    )
