"""Which arithmetic training runs in."""

from __future__ import annotations

import torch

from darts_hpo.bilevel.base import BilevelRule
from darts_hpo.errors import ConfigError, unknown_name

PRECISIONS = ("auto", "32-true", "bf16-mixed")
"""Float16 is not among them: its scaled gradients would reach clipping and logits unscaled."""


def resolve_precision(precision: str, accelerator: str, rule: BilevelRule | None = None) -> str:
    """Lightning's name of the precision.

    Args:
        precision: one of :data:`PRECISIONS`. ``auto`` takes bfloat16 where the device multiplies it in hardware (a
            GPU since Ampere, a CPU with AMX: measured 1.4 times faster there), else float32.
        accelerator: Lightning's name of the device.
        rule: a search's bilevel rule; one that takes finite differences needs full precision.

    Raises:
        ConfigError: the precision is unknown, or too low for the rule.
    """
    if precision not in PRECISIONS:
        raise ConfigError(unknown_name("trainer.precision", precision, PRECISIONS))
    finite_differences = rule is not None and rule.needs_full_precision
    if precision == "auto":
        return "bf16-mixed" if not finite_differences and _fast_bfloat16(accelerator) else "32-true"
    if finite_differences and precision.endswith("mixed"):
        raise ConfigError(
            f"trainer.precision={precision} drowns the finite differences of {type(rule).__name__}; "
            "use trainer.precision=32-true."
        )
    return precision


def _fast_bfloat16(accelerator: str) -> bool:
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # since torch 2.11
    return bool(capabilities and capabilities().get("amx_bf16"))
