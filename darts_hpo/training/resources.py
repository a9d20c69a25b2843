"""Seconds and peak memory of a stage."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch


class StageUsage:
    """What a stage used, known when :func:`measured` ends.

    Attributes:
        seconds: wall clock.
        peak_memory_mb: largest resident memory of this process while the stage ran, in MiB.
        peak_gpu_memory_mb: largest memory allocated on the GPU, in MiB; 0 without one.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.peak_memory_mb = 0.0
        self.peak_gpu_memory_mb = 0.0


@contextmanager
def measured(usage: StageUsage) -> Iterator[None]:
    """Measure what happens inside."""
    start = time.perf_counter()
    _reset_peak()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        yield
    finally:
        usage.seconds = time.perf_counter() - start
        usage.peak_memory_mb = _peak_mb()
        if torch.cuda.is_available():
            usage.peak_gpu_memory_mb = torch.cuda.max_memory_allocated() / 2**20


def _reset_peak() -> None:
    with suppress(OSError):  # elsewhere than on Linux the peak is that of the process so far
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew


def _peak_mb() -> float:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
