"""One line per epoch, as JSON lines or as CSV, that a resumed run can cut back."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from darts_hpo.errors import RunDirectoryError
from darts_hpo.runs.files import (
    NOT_FINITE,
    finite,
    readable_errors,
    sync_directory,
    write_all,
    write_bytes,
    write_text,
)


class JsonLog:
    """A file of JSON objects, one per line, appended and flushed to disk line by line.

    Args:
        path: the file; it and its directory are made at the first append.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line; it is on disk when this returns. Numbers that are not finite become null, and named.

        Raises:
            RunDirectoryError: the system refuses to write; the file is as before.
        """
        line = json.dumps(finite(record), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with readable_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                end = self._whole_lines(descriptor)
                os.ftruncate(descriptor, end)
                os.lseek(descriptor, end, os.SEEK_SET)
                try:
                    write_all(descriptor, line)
                    os.fsync(descriptor)
                except OSError:
                    os.ftruncate(descriptor, end)
                    raise
            finally:
                os.close(descriptor)
            if new:
                sync_directory(self.path.parent)

    def readable_rows(self) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Number (from 1) and content of every line, oldest first; None where a line is not a JSON object.

        A last line without its end was cut by a crash and is left out.
        """
        for number, line in enumerate(self._lines(), start=1):
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError):
                row = None
            yield number, row if isinstance(row, dict) else None

    def rows(self) -> list[dict[str, Any]]:
        """Every line, oldest first.

        Raises:
            RunDirectoryError: a line before the last is not a JSON object.
        """
        rows = []
        for number, row in self.readable_rows():
            if row is None:
                raise RunDirectoryError(f"Line {number} of {self.path} is not a JSON object; remove or repair it.")
            rows.append(row)
        return rows

    def _lines(self) -> list[bytes]:
        if not self.path.exists():
            return []
        return self.path.read_bytes().split(b"\n")[:-1]  # what follows the last end of line is a torn write

    @staticmethod
    def _whole_lines(descriptor: int) -> int:
        """Length of the file up to and including its last end of line."""
        end = os.lseek(descriptor, 0, os.SEEK_END)
        block = 4096
        while end > 0:
            start = max(0, end - block)
            os.lseek(descriptor, start, os.SEEK_SET)
            newline = os.read(descriptor, end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0


class EpochLog(JsonLog):
    """A file of JSON objects, one per line and epoch."""

    def truncate_from(self, epoch: int, **where: str) -> None:
        """Drop every line of ``epoch`` and later ones: a resumed run writes them again.

        Args:
            epoch: the first to drop.
            where: drop only lines with these values, for example ``stage="search"``.
        """
        if not self.path.exists():
            return
        lines = list(self._lines())
        kept = [
            line
            for line, row in zip(lines, self.rows(), strict=True)
            if row.get("epoch", -1) < epoch or any(row.get(key) != value for key, value in where.items())
        ]
        if len(kept) < len(lines):
            write_bytes(self.path, b"".join(line + b"\n" for line in kept))


class EpochTable:
    """A CSV file with one row per epoch, whose columns may grow.

    Every change rewrites the file atomically: epochs are few, and a reader never sees half a table.

    Args:
        path: the file; it and its directory are made at the first append.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, float | int | str | None]) -> None:
        """Add one row. Numbers that are not finite become empty cells, named in the column ``not_finite``.

        Raises:
            RunDirectoryError: the system refuses to write; the file is as before.
        """
        checked = finite(row)
        if NOT_FINITE in checked:
            checked[NOT_FINITE] = "; ".join(f"{name}: {what}" for name, what in checked[NOT_FINITE].items())
        self._write([*self.rows(), checked])

    def rows(self) -> list[dict[str, float | int | str | None]]:
        """Every row, oldest first: numbers as numbers, empty cells as ``None``."""
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return [{name: _cell(text) for name, text in row.items()} for row in csv.DictReader(file)]

    def truncate_from(self, epoch: int) -> None:
        """Drop every row of ``epoch`` and later ones: a resumed run writes them again."""
        rows = self.rows()
        kept = [row for row in rows if not _at_or_after(row.get("epoch"), epoch)]
        if len(kept) < len(rows):
            self._write(kept)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        if NOT_FINITE in columns:  # the remark stays last however the columns grow
            columns.remove(NOT_FINITE)
            columns.append(NOT_FINITE)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path, text.getvalue())


def _at_or_after(value: float | str | None, epoch: int) -> bool:
    return isinstance(value, (int, float)) and value >= epoch


def _cell(text: str | None) -> float | int | str | None:
    if not text:
        return None
    for parse in (int, float):
        try:
            return parse(text)
        except ValueError:
            continue
    return text
