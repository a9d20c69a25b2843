"""The selector of DARTS and ProxylessNAS."""

from __future__ import annotations

from darts_hpo.relaxations.base import Relaxation
from darts_hpo.selection.base import Evaluate, Selector


class Argmax(Selector):
    """The most probable option of every choice, the first of equals."""

    def select(self, relaxation: Relaxation, evaluate: Evaluate) -> dict[str, str]:
        """The argmax of the probabilities; nothing is evaluated."""
        del evaluate
        return relaxation.argmax()
