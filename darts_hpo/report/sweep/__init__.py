"""The report of a sweep: what was gained, how surely, and by which settings."""

from darts_hpo.report.sweep.html import write_sweep_report

__all__ = ["write_sweep_report"]
