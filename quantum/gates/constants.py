"""Constant tensors in whatever precision and on whatever device the angles are."""

from __future__ import annotations

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError

_COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


class Constant:
    """A tensor held in double precision, converted once per precision and device.

    Callers must not write to what :meth:`like` returns.

    Args:
        value: real or complex, any shape; it is copied.
    """

    def __init__(self, value: Tensor) -> None:
        self._value = value.detach().to("cpu", torch.complex128 if value.is_complex() else torch.float64, copy=True)
        self._converted: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, angles: Tensor) -> Tensor:
        """The constant in the precision and on the device of real ``angles``.

        Raises:
            ConfigError: the angles are neither float32 nor float64.
        """
        key = (angles.dtype, angles.device)
        found = self._converted.get(key)
        if found is None:
            require_precision(angles)
            dtype = _COMPLEX[angles.dtype] if self._value.is_complex() else angles.dtype
            # A tensor made inside inference mode could never again take part in a backward pass.
            with torch.inference_mode(False):
                found = self._value.to(angles.device, dtype, copy=True)
            self._converted[key] = found
        return found


def require_precision(angles: Tensor) -> None:
    """Refuse half precision.

    Raises:
        ConfigError: the angles are neither float32 nor float64.
    """
    if angles.dtype not in _COMPLEX:
        raise ConfigError(
            f"The angles of quantum gates are {angles.dtype}; expected torch.float32 or torch.float64. "
            f"Train circuits with full precision (trainer.precision=32-true)."
        )
