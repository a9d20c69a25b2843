"""One self-contained HTML file that says what a run found and whether to trust it."""

from darts_hpo.report.figure import Figure
from darts_hpo.report.html import write_report

__all__ = ["Figure", "write_report"]
