"""Intermediate values that a trial leaves in ``progress.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Progress:
    """How the lines of ``progress.jsonl`` are read.

    A line is a JSON object with ``step`` (units of budget done) or ``epoch`` (from 0, so that ``epoch + 1`` are
    done) and a value. Lines that do not fit are passed over: a trial may write more than its scheduler reads.

    Args:
        value: key of the intermediate value; None takes ``value``, else the only number beside the step.
        where: only lines with these values count, for example ``{"stage": "search"}``.
        file_name: of the file in the trial's directory.
    """

    value: str | None = None
    where: tuple[tuple[str, str], ...] = ()
    file_name: str = "progress.jsonl"

    def read(self, directory: Path) -> list[tuple[int, float]]:
        """Steps with their values, in the order of the file; empty where there is no file yet."""
        try:
            lines = (directory / self.file_name).read_bytes().split(b"\n")
        except OSError:
            return []
        pairs = []
        for line in lines[:-1]:  # what follows the last end of line is still being written
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and all(row.get(key) == wanted for key, wanted in self.where):
                pair = self._pair(row)
                if pair is not None:
                    pairs.append(pair)
        return pairs

    def _pair(self, row: Mapping[str, Any]) -> tuple[int, float] | None:
        numbers = {key: v for key, v in row.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
        step = numbers.pop("step", None)
        epoch = numbers.pop("epoch", None)
        if step is None:
            step = None if epoch is None else epoch + 1
        name = self.value or ("value" if "value" in numbers else next(iter(numbers), None))
        if step is None or name not in numbers or (self.value is None and name != "value" and len(numbers) > 1):
            return None
        value = float(numbers[name])
        return (int(step), value) if math.isfinite(value) else None
