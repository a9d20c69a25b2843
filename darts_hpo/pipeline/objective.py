"""What a run returns to a sweeper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from darts_hpo.errors import ConfigError, unknown_name

VAL, SEARCH = "val", "search"


class Objective:
    """One number or several, looked up in ``metrics.json``.

    ``val`` is the val score of the searched and retrained network, ``search`` that of the discretized supernet before
    any retraining, which costs a fraction. A metric's name stands for its value on the val split after retraining,
    a cost's name for the cost of the found network. The test split can never be asked for.

    Args:
        asked: one name, whose number is returned, or several, returned as a mapping.
        primary_metric: of the task.
        metrics: names of the task's metrics.
        costs: names of the costs that are reported.
        searched: whether there is a search.

    Raises:
        ConfigError: a name is unknown, given twice, or names what this run does not have.
    """

    def __init__(
        self,
        asked: str | Sequence[str],
        *,
        primary_metric: str,
        metrics: Iterable[str],
        costs: Iterable[str],
        searched: bool = True,
    ) -> None:
        self._single = isinstance(asked, str)
        self.names: tuple[str, ...] = (asked,) if isinstance(asked, str) else tuple(asked)
        self._primary_metric, self._costs = primary_metric, frozenset(costs)
        self._metrics = frozenset({primary_metric, *metrics})
        self._check(searched)

    def _check(self, searched: bool) -> None:
        if not self.names:
            raise ConfigError("objective=[] names nothing to return; use objective=val.")
        valid = {VAL, SEARCH, *self._metrics, *self._costs}
        for name in self.names:
            if name.partition("/")[0] == "test":
                raise ConfigError(
                    f"objective={name}: the test split gives the final number, read once. A sweep that saw it would "
                    "be tuned to it, and the number would mean nothing. Use objective=val."
                )
            if name not in valid:
                raise ConfigError(unknown_name("objective", name, valid))
        if len(set(self.names)) < len(self.names):
            raise ConfigError(f"objective=[{','.join(self.names)}] names something twice.")
        if not searched and SEARCH in self.names:
            raise ConfigError("objective=search needs a search, but every choice is fixed; use objective=val.")

    @property
    def needs_retraining(self) -> bool:
        """Whether a number of the retrained network is asked for; else the run ends with its search."""
        return not set(self.names) <= {SEARCH, *self._costs}

    def value(self, metrics: Mapping[str, Any]) -> float | dict[str, float] | None:
        """The value, as far as it is known.

        Args:
            metrics: content of ``metrics.json``.

        Returns:
            A number or names and numbers; None where one of them is not known (yet).
        """
        values: dict[str, float] = {}
        for name in self.names:
            value = self._lookup(name, metrics)
            if value is None:
                return None
            values[name] = value
        return values[self.names[0]] if self._single else values

    def _lookup(self, name: str, metrics: Mapping[str, Any]) -> float | None:
        search = metrics.get("search") or {}
        network = metrics.get("found") or metrics.get("paused") or {}
        value: float | None
        if name == SEARCH:
            value = (search.get("discretized_val") or {}).get(self._primary_metric)
        elif name in self._costs:
            value = (network.get("costs") or search.get("costs") or {}).get(name)
        else:
            value = (network.get("val") or {}).get(self._primary_metric if name == VAL else name)
        return None if value is None else float(value)
