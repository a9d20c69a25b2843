"""Reading checkpoints of ours back."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from darts_hpo.errors import RunDirectoryError


def load_checkpoint(path: Path, remedy: str) -> dict[str, Any]:
    """A checkpoint of ours, on the CPU.

    Args:
        path: the file.
        remedy: what to do where it cannot be read, for the message.

    Raises:
        RunDirectoryError: it is missing or damaged.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise RunDirectoryError(f"{path} is missing or damaged; {remedy}.") from error
    return content
