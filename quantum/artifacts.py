"""What is handed out of a found circuit: its files, its drawing, and whether it can be trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from darts_hpo.report.figure import Figure
from quantum.circuit import Circuit
from quantum.drawing import draw
from quantum.export.files import write_circuit_files
from quantum.measurements.observables import Observable
from quantum.network import QuantumNetwork
from quantum.trainability import GradientVariance, expectation_loss, gradient_variance, two_design_variance

_TRAINABILITY_WIRES = 10
"""Up to so many wires the plain simulation behind the gradient's variance takes seconds."""


def write_artifacts(network: QuantumNetwork, folder: Path) -> dict[str, Any]:
    """Write ``circuit.json``, OpenQASM 2 and 3 and the drawing.

    OpenQASM 2 knows no inputs: a circuit that reads data is written for a sample of zeros, and says so.
    ``circuit.json`` holds under ``facts`` what makes outputs of the circuit's final state; see
    :meth:`Readoff.facts <quantum.network.Readoff.facts>`.

    Args:
        network: the found network, trained.
        folder: exists.

    Returns:
        The files' names, and :func:`trainability`.
    """
    circuit = network.circuit
    sample = None if circuit.amplitude_input else [0.0] * circuit.n_inputs
    weights = network.weights.detach()
    facts: dict[str, Any] = {
        "circuit": write_circuit_files(folder, circuit, weights, network.readoff.facts(), inputs=sample)
    }
    trainable = trainability(network)
    if trainable is not None:
        facts["trainability"] = trainable
    return facts


def artifact_figures(network: QuantumNetwork) -> Sequence[Figure]:
    """The drawing of the found circuit, for the report."""
    circuit = network.circuit
    caption = (
        f"{circuit.n_two_qubit} gates on two wires, depth {circuit.depth}, {circuit.n_weights} trained angles. "
        "A wire without gates towards the others would be a bad sign: it computes alone."
    )
    trainable = trainability(network)
    if trainable is not None:
        caption += (
            f" Over random angles the gradient of the first observable varies by {trainable['mean']:.3g} (variance); "
            f"a circuit on a barren plateau would have {trainable['two_design']:.3g}. Much less than that is bad."
        )
    return [Figure("The found circuit", caption, svg=draw(circuit, network.weights.detach()))]


def trainability(network: QuantumNetwork, n_samples: int = 200) -> dict[str, Any] | None:
    """Variance of the first observable's gradient over random angles, beside that of a barren plateau.

    The sample is zeros; the angles are drawn from a fixed seed.

    Args:
        network: its trained angles do not matter.
        n_samples: random points.

    Returns:
        See :meth:`GradientVariance.facts <quantum.trainability.GradientVariance.facts>`; None where nothing is trained
        or measured, or the circuit starts from its input or is too wide for the plain simulation behind it.
    """
    circuit, readoff = network.circuit, network.readoff
    wide = circuit.n_wires > _TRAINABILITY_WIRES
    if readoff.gives_state or circuit.amplitude_input or wide or not circuit.n_weights:
        return None
    observable = readoff.observables[0]
    return _variance(circuit, observable, n_samples).facts(two_design_variance(circuit.n_wires, _terms(observable)))


@lru_cache(maxsize=8)  # the files and the report of a circuit ask one after the other
def _variance(circuit: Circuit, observable: Observable, n_samples: int) -> GradientVariance:
    return gradient_variance(
        expectation_loss(circuit, _terms(observable), [0.0] * circuit.n_inputs),
        circuit.n_weights,
        n_samples=n_samples,
        points_at_once=50,
        generator=torch.Generator().manual_seed(0),
    )


def _terms(observable: Observable) -> dict[str, float]:
    return {str(string.data): coefficient for string, coefficient in observable.terms}
