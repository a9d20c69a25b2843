"""Keeping what a measurement prepares: it depends on the observables alone, and every step of a training asks again."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def kept(prepare: Callable[P, R]) -> Callable[P, R]:
    """Keeps the results of a function of hashable arguments, the 64 used last.

    The results' tensors are ordinary ones even if the first call is made in inference mode, as validation is: inference
    tensors could not serve a later training step.
    """
    # The cache asks for hashable positional arguments, which a ParamSpec cannot express.
    cached: Callable[..., R] = lru_cache(maxsize=64)(torch.inference_mode(False)(prepare))

    @wraps(prepare)
    def look_up(*args: P.args, **kwargs: P.kwargs) -> R:
        return cached(*args, **kwargs)

    return look_up
