"""How much a forward pass keeps for its backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def saved_tensor_bytes(forward: Callable[[], object], exclude: Iterable[Tensor] = ()) -> int:
    """Bytes that autograd keeps alive during a forward pass, every storage counted once.

    Unlike a process's memory this is exact, the same on every machine and not hidden by an allocator's cache.

    Args:
        forward: runs the forward pass.
        exclude: tensors whose storages are not counted, usually parameters and inputs.
    """
    seen: dict[int, Tensor] = {}  # holding the tensors keeps an address from being used twice
    excluded = {tensor.untyped_storage().data_ptr() for tensor in exclude}

    def pack(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in excluded:
            seen.setdefault(address, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(tensor.untyped_storage().nbytes() for tensor in seen.values())
