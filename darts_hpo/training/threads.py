"""How many threads a training step is fastest with."""

from __future__ import annotations

import logging
import os
import statistics
import time

import torch
from torch import nn

log = logging.getLogger(__name__)

_REPEATS = 5
_GAIN = 0.9  # more threads must save a tenth: they cost the rest of the machine


def fastest_thread_count() -> int:
    """PyTorch's thread count with which a small training step takes least time on this machine now.

    More is not always faster: on virtual machines and shared ones, threads that wait for each other can take several
    times as long as one alone. Powers of two up to the number of usable processors are tried, each on a few steps of
    a convolution with normalization and activation, of the size a detector has in training.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        step = _Step()
        best, best_seconds = 1, _seconds(step, 1)
        count = 2
        while count <= usable:
            seconds = _seconds(step, count)
            if seconds < _GAIN * best_seconds:
                best, best_seconds = count, seconds
            count *= 2
    torch.set_num_threads(before)
    log.info("Training uses %d of %d processors, which is fastest here (trainer.threads=N overrides)", best, usable)
    return best


class _Step:
    """Forward and backward pass of a few layers."""

    def __init__(self) -> None:
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.SiLU()) for _ in range(4))
        ).to(memory_format=torch.channels_last)
        self.images = torch.rand(16, 32, 32, 32)

    def __call__(self) -> None:
        self.layers(self.images).sum().backward()


def _seconds(step: _Step, threads: int) -> float:
    torch.set_num_threads(threads)
    step()
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
