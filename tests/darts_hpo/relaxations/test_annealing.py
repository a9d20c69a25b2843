"""Temperatures: both ends exactly, the way between them, and what a softmax makes of them."""

import pytest
import torch

from darts_hpo.errors import ConfigError
from darts_hpo.relaxations import Annealing, BinaryGates, GumbelSoftmax, ScoreFunction, Softmax
from darts_hpo.relaxations.annealing import SHAPES
from darts_hpo.space import Categorical, Space

SPACE = Space({"choice": Categorical(("a", "b", "c"))})


@pytest.mark.parametrize("shape", SHAPES)
def test_the_ends_are_exact(shape):
    # 0.3 * (0.07 / 0.3) ** 1 is not 0.07 in floating point.
    annealing = Annealing(0.3, 0.07, shape)
    assert (annealing.at(0.0), annealing.at(1.0)) == (0.3, 0.07)
    assert (annealing.at(-1.0), annealing.at(2.0)) == (0.3, 0.07)
    assert Annealing(0.3, 0.3, shape).at(0.4) == pytest.approx(0.3, rel=1e-15)


def test_the_shapes_halve_what_they_say():
    assert Annealing(10.0, 0.1, "exponential").at(0.5) == pytest.approx(1.0)
    assert Annealing(10.0, 0.1, "linear").at(0.5) == pytest.approx(5.05)


@pytest.mark.parametrize("relaxation", [Softmax, GumbelSoftmax])
def test_bad_temperatures_are_refused_with_the_key_to_type(relaxation):
    with pytest.raises(ConfigError, match=r"relaxation\.temperature=0.*above 0"):
        relaxation(SPACE, temperature=0)
    with pytest.raises(ConfigError, match=r"relaxation\.final_temperature=nan"):
        relaxation(SPACE, final_temperature=float("nan"))
    with pytest.raises(ConfigError, match=r"'exponentail'\. Did you mean 'exponential'"):
        relaxation(SPACE, annealing="exponentail")


def test_a_softmax_is_divided_by_its_temperature_and_reports_what_it_mixes():
    relaxation = Softmax(SPACE, init_std=1.0, temperature=4.0, final_temperature=0.25).double()
    (logits,) = relaxation.parameters()
    for progress, temperature in ((0.0, 4.0), (0.5, 1.0), (1.0, 0.25)):
        relaxation.set_progress(progress)
        expected = (logits.detach() / temperature).softmax(dim=0)
        torch.testing.assert_close(relaxation.sample("arch", torch.Generator())["choice"].weights.detach(), expected)
        torch.testing.assert_close(relaxation.probabilities()["choice"], expected)


def test_a_temperature_of_one_changes_no_bit():
    relaxation = Softmax(SPACE, init_std=1.0)
    (logits,) = relaxation.parameters()
    assert torch.equal(relaxation.sample("weights", torch.Generator())["choice"].weights, logits.softmax(dim=0))


@pytest.mark.parametrize("relaxation", [BinaryGates, GumbelSoftmax, ScoreFunction])
def test_numbers_of_draws_out_of_range_are_refused(relaxation):
    for key in ("draws", "weight_draws"):
        with pytest.raises(ConfigError, match=rf"relaxation\.{key}=0: expected a number of at least 1"):
            relaxation(SPACE, **{key: 0})
