"""What a searched block may be: its kernel size and its activation, by name.

To search another option, register it and name it in the supernet's ``options``::

    BLOCK_OPTIONS.register("7x7_gelu", BlockOption(7, "gelu"))
"""

from __future__ import annotations

from dataclasses import dataclass

from darts_hpo.errors import ConfigError
from supernets.gelan.registry import Registry


@dataclass(frozen=True)
class BlockOption:
    """Kernel size of every k x k convolution of a block, and the activation of all its convolutions.

    Args:
        kernel: odd side length of the kernels.
        activation: a name of :data:`~supernets.gelan.activations.ACTIVATIONS`.

    Raises:
        ConfigError: the kernel is even or smaller than 3.
    """

    kernel: int
    activation: str

    def __post_init__(self) -> None:
        if self.kernel < 3 or self.kernel % 2 == 0:
            raise ConfigError(f"Kernel size {self.kernel} is not an odd number of at least 3; use 3, 5 or 7.")


BLOCK_OPTIONS: Registry[BlockOption] = Registry("block option")

# The eight options of the TANGO search in its own order: its genotypes are positions in this list.
for _kernel in (3, 5):
    for _activation in ("relu", "leaky_relu", "mish", "silu"):
        BLOCK_OPTIONS.register(f"{_kernel}x{_kernel}_{_activation}", BlockOption(_kernel, _activation))

TANGO_OPTIONS: tuple[str, ...] = tuple(BLOCK_OPTIONS)
"""Names of the eight options, position ``i`` standing for the integer ``i`` in published TANGO genotypes."""

REFERENCE_OPTION = "3x3_silu"
"""The block as the authors of YOLOv9 designed it."""
