import math

import pytest
import torch

from darts_hpo.errors import ConfigError
from quantum.measurements import (
    PauliString,
    expectations,
    observables_from,
    pauli_vector,
    sampled_expectations,
    sampling,
)
from quantum.measurements.bases import measurement_bases

READOUT = [(0.05, 0.1), (0.0, 0.2), (0.15, 0.02)]
OBSERVABLES = observables_from(["ZII", "IZZ", "XIX", "YZI", "III", {"XII": 0.5, "ZZI": -1.0, "YYY": 0.3}], 3)


def _states(repeats, seed=0):
    psi = torch.randn(8, 1, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))
    return (psi / psi.norm()).expand(8, repeats)


@pytest.mark.parametrize("form", ["statevector", "pauli"])
@pytest.mark.parametrize("readout", [None, READOUT])
def test_estimates_are_unbiased(form, readout):
    repeats, shots = 2000, 20
    psi = _states(repeats)
    state = psi if form == "statevector" else pauli_vector(psi)
    drawn = sampled_expectations(state, OBSERVABLES, 3, shots, torch.Generator().manual_seed(1), readout)
    exact = expectations(state, OBSERVABLES, 3, readout)[0]
    assert drawn.shape == (repeats, len(OBSERVABLES))
    standard_error = drawn.std(0) / math.sqrt(repeats)
    assert ((drawn.mean(0) - exact).abs() <= 4 * standard_error + 1e-12).all()
    assert torch.equal(drawn[:, 4], torch.ones(repeats, dtype=drawn.dtype))


def test_variance_of_a_string_is_binomial():
    repeats, shots = 4000, 50
    psi = _states(repeats)
    strings = OBSERVABLES[:4]
    drawn = sampled_expectations(psi, strings, 3, shots, torch.Generator().manual_seed(2))
    mean = expectations(psi, strings, 3)[0]
    # The variance of a variance over so many repeats is about 2 / repeats: 4 standard errors are 9 percent.
    torch.testing.assert_close(drawn.var(0), (1 - mean.square()) / shots, rtol=0.09, atol=0)


def test_diagonal_strings_are_read_from_the_same_outcomes():
    psi = torch.full((4, 500), 0.5, dtype=torch.complex64)
    drawn = sampled_expectations(psi, observables_from(["ZI", "IZ", "ZZ"], 2), 2, 1, torch.Generator().manual_seed(3))
    assert torch.equal(drawn[:, 0] * drawn[:, 1], drawn[:, 2])
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}


def test_eigenstates_have_no_variance():
    psi = torch.zeros(8, 3, dtype=torch.complex64)
    psi[0] = psi[7] = math.sqrt(0.5)
    observables = observables_from(["XXX", "YYX", "ZZI"], 3)
    for state in (psi, pauli_vector(psi)):
        drawn = sampled_expectations(state, observables, 3, 100, torch.Generator().manual_seed(4))
        torch.testing.assert_close(drawn, torch.tensor([[1.0, -1.0, 1.0]]).expand(3, 3), atol=1e-6, rtol=0)


def test_seeded_draws_repeat_and_chunks_only_split_them(monkeypatch):
    psi = _states(4)

    def draw(shots):
        return sampled_expectations(psi, OBSERVABLES, 3, shots, torch.Generator().manual_seed(5))

    assert torch.equal(draw(30), draw(30))
    monkeypatch.setattr(sampling, "_DRAWS_AT_ONCE", 28)
    exact = expectations(psi, OBSERVABLES, 3)
    assert (draw(4000) - exact).abs().max() < 5 * 1.8 / math.sqrt(4000)


def test_strings_are_grouped_by_common_bases():
    strings = [PauliString(s) for s in ("ZII", "IZI", "XXI", "IIX", "ZZI", "YIY", "ZII")]
    groups = measurement_bases(strings)
    members = [string for group in groups.values() for string in group]
    assert sorted(s.letters for s in members) == ["IIX", "IZI", "XXI", "YIY", "ZII", "ZZI"]
    assert len(groups) == 3
    for basis, group in groups.items():
        assert all(a in ("I", b) for s in group for a, b in zip(s.letters, basis, strict=True))


def test_no_gradient_flows_through_shots():
    psi = _states(2).clone().requires_grad_()
    assert not sampled_expectations(psi, OBSERVABLES, 3, 5).requires_grad


@pytest.mark.parametrize("shots", [0, -3])
def test_shots_must_be_positive(shots):
    with pytest.raises(ConfigError, match=f"shots is {shots}; expected at least 1"):
        sampled_expectations(_states(1), OBSERVABLES, 3, shots)
