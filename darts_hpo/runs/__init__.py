"""The run directory: what a run leaves behind, written so that a crash never spoils what is saved."""

from darts_hpo.runs.directory import RunDirectory, RunStatus
from darts_hpo.runs.files import atomic_file, write_bytes, write_json, write_text
from darts_hpo.runs.tables import EpochLog, EpochTable, JsonLog

__all__ = [
    "EpochLog",
    "EpochTable",
    "JsonLog",
    "RunDirectory",
    "RunStatus",
    "atomic_file",
    "write_bytes",
    "write_json",
    "write_text",
]
