"""Measurements of raw states: expectation values, exact or from shots, probabilities, fidelity and purity."""

from quantum.measurements.exact import expectations
from quantum.measurements.observables import (
    Hamiltonian,
    Observable,
    PauliString,
    observables_data,
    observables_from,
    on_every_wire,
)
from quantum.measurements.readout import Readout
from quantum.measurements.sampling import sampled_expectations
from quantum.measurements.states import (
    density_matrix,
    fidelity,
    pauli_vector,
    pauli_vector_of_density,
    probabilities,
    purity,
)

__all__ = [
    "Hamiltonian",
    "Observable",
    "PauliString",
    "Readout",
    "density_matrix",
    "expectations",
    "fidelity",
    "observables_data",
    "observables_from",
    "on_every_wire",
    "pauli_vector",
    "pauli_vector_of_density",
    "probabilities",
    "purity",
    "sampled_expectations",
]
