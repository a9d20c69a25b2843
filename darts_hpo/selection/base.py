"""What a selector is asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeAlias

from darts_hpo.relaxations.base import Relaxation

Evaluate: TypeAlias = Callable[[Mapping[str, str]], float]
"""Score of the supernet restricted to some choices, on the val split; larger is better."""


class Selector(ABC):
    """Turns a searched relaxation into complete choices."""

    @abstractmethod
    def select(self, relaxation: Relaxation, evaluate: Evaluate) -> dict[str, str]:
        """One option for every choice.

        Args:
            relaxation: after the search.
            evaluate: scores choices with the supernet's weights, for selectors that measure; never on the
                test split.
        """
