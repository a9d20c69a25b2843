"""Time of one forward pass, measured on this machine."""

from __future__ import annotations

import copy
import platform
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from darts_hpo.costs.base import Cost
from darts_hpo.errors import ConfigError


class Latency(Cost):
    """Milliseconds of a forward pass on one input: the median of repeats, after warm-up, in inference mode.

    Args:
        warmup: passes that are not timed.
        repeats: passes that are timed.
        threads: threads of PyTorch on the CPU while measuring; None leaves them as they are.
        device: where to measure, for example ``"cpu"`` or ``"cuda"``.

    Raises:
        ConfigError: a count is out of range or the device is not here.
    """

    name = "latency"
    unit = "ms"
    additive = False

    def __init__(self, warmup: int = 3, repeats: int = 20, threads: int | None = None, device: str = "cpu") -> None:
        if warmup < 0 or repeats < 1 or (threads is not None and threads < 1):
            raise ConfigError(
                f"A latency cannot be measured with warmup={warmup}, repeats={repeats}, threads={threads}; "
                "expected warmup >= 0, repeats >= 1 and threads >= 1 or null."
            )
        self.warmup, self.repeats, self.threads = warmup, repeats, threads
        try:
            self.device = torch.device(device)
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError, NotImplementedError):
            raise ConfigError(f"Latency cannot be measured on device={device!r}; try device=cpu.") from None

    def measure(self, module: nn.Module, input_shape: tuple[int, ...]) -> float:
        """Median milliseconds of a forward pass."""
        # A copy, because tensors that a forward pass caches in inference mode could never be trained through.
        replica = copy.deepcopy(module).to(self.device).eval()
        generator = torch.Generator().manual_seed(0)  # leaves the global generators alone
        x = torch.rand(1, *input_shape, generator=generator).to(self.device)
        milliseconds = []
        with torch.inference_mode(), _threads(self.threads):
            for repeat in range(self.warmup + self.repeats):
                self._synchronize()
                start = time.perf_counter()
                replica(x)
                self._synchronize()
                if repeat >= self.warmup:
                    milliseconds.append(1e3 * (time.perf_counter() - start))
        return statistics.median(milliseconds)

    def conditions(self) -> Mapping[str, Any]:
        """Device, processor, threads, repeats and PyTorch's version: a latency holds for them alone."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else platform.processor()
        return {
            "device": str(self.device),
            "processor": name or platform.machine(),
            "threads": self.threads or torch.get_num_threads(),
            "repeats": self.repeats,
            "batch": 1,
            "torch": torch.__version__,
        }

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
