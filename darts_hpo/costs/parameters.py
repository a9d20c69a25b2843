"""The number of parameters."""

from __future__ import annotations

from torch import nn

from darts_hpo.costs.base import Cost

TRAIN_FORM_LABEL = "Parameters, train form"
"""What tables call the parameters of a network before it is put into the form in which it is shipped."""


class Parameters(Cost):
    """Parameters of a module, shared ones counted once. Buffers, such as running statistics, are none."""

    name = "parameters"
    unit = "parameters"
    label = "Parameters, deployed"

    def measure(self, module: nn.Module, input_shape: tuple[int, ...]) -> float:
        """Number of scalars in the module's parameters, frozen ones included; the input does not matter."""
        del input_shape
        return float(sum(parameter.numel() for parameter in module.parameters()))
