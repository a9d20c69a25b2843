"""Activations by name, which every block takes as an argument of the instance, never of the class."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from supernets.gelan.registry import Registry

LEAKY_SLOPE = 0.1
"""Slope of ``leaky_relu`` below zero, as in the Darknet family of detectors."""

ACTIVATIONS: Registry[Callable[[], nn.Module]] = Registry("activation")

ACTIVATIONS.register("identity", nn.Identity)
ACTIVATIONS.register("relu", nn.ReLU)
ACTIVATIONS.register("leaky_relu", lambda: nn.LeakyReLU(LEAKY_SLOPE))
ACTIVATIONS.register("mish", nn.Mish)
ACTIVATIONS.register("silu", nn.SiLU)
ACTIVATIONS.register("gelu", nn.GELU)


def build_activation(name: str) -> nn.Module:
    """A fresh activation module.

    Raises:
        ConfigError: the name is unknown.
    """
    return ACTIVATIONS[name]()
