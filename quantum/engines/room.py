"""Whether a state fits in memory, asked before it is made."""

from __future__ import annotations

import os

import torch

from darts_hpo.errors import SpaceError


def require_memory(needed: int, what: str, device: torch.device) -> None:
    """Refuse what is larger than the device's memory.

    Args:
        needed: bytes of one copy; a forward pass needs at least two.
        what: for the message.
        device: where it would be.

    Raises:
        SpaceError: states both numbers of bytes.
    """
    if device.type == "cuda":
        available = torch.cuda.get_device_properties(device).total_memory
    elif device.type == "cpu":
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        return
    if 2 * needed > available:
        raise SpaceError(
            f"{what} takes {needed:,} bytes, and a step at least two of them; the device has {available:,}. "
            "Use fewer wires or a smaller batch."
        )
