"""Selectors: from a searched relaxation to one architecture."""

from darts_hpo.selection.argmax import Argmax
from darts_hpo.selection.base import Selector

__all__ = ["Argmax", "Selector"]
