"""Streams of random numbers, one per stage, so that one stage's length does not shift another's."""

from __future__ import annotations

import hashlib

import pytorch_lightning as pl
import torch


class Seeds:
    """Seeds of the stages of a run.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def of(self, stage: str) -> int:
        """A number below 2^32 that run and stage decide."""
        digest = hashlib.sha256(f"{self._seed}/{stage}".encode()).digest()
        return int.from_bytes(digest[:4], "big")

    def seed(self, stage: str) -> None:
        """Set the global generators of Python, NumPy and PyTorch for a stage."""
        pl.seed_everything(self.of(stage), verbose=False)

    def generator(self, stage: str) -> torch.Generator:
        """A generator of its own."""
        return torch.Generator().manual_seed(self.of(stage))
