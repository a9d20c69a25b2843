"""Full precision in backward passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Backward = TypeVar("Backward", bound=Callable[..., Any])


def in_full_precision(backward: Backward) -> Backward:
    """A backward pass that autocast leaves alone.

    A training step may ask for gradients while autocast is on, which then reaches the backward passes of functions of
    one's own: products would be rounded to three digits, and sums refuse to mix precisions.
    """

    @wraps(backward)
    def run(ctx: Any, *gradients: Tensor) -> Any:
        with torch.autocast(gradients[0].device.type, enabled=False):
            return backward(ctx, *gradients)

    return cast(Backward, run)
