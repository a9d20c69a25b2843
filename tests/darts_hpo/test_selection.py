import pytest
import torch

from darts_hpo.relaxations import BinaryGates, Softmax
from darts_hpo.selection import Argmax
from darts_hpo.space import Categorical, Space

SPACE = Space({"stem": Categorical(("conv3", "conv5", "conv7")), "neck.p4": Categorical(("relu", "silu"))})


def never(choices):
    raise AssertionError("argmax evaluates nothing")


@pytest.mark.parametrize("relaxation", [Softmax, BinaryGates])
def test_argmax_is_the_most_probable_and_the_first_of_equals(relaxation):
    searched = relaxation(SPACE)
    stem, neck = searched.parameters()
    with torch.no_grad():
        stem.copy_(torch.tensor([0.1, 2.0, 1.9]))
        neck.zero_()
    assert Argmax().select(searched, never) == {"stem": "conv5", "neck.p4": "relu"}


def test_fixed_choices_are_selected_as_given():
    searched = Softmax(SPACE, fixed={"neck.p4": "silu"})
    assert Argmax().select(searched, never)["neck.p4"] == "silu"
    everything = Softmax(SPACE, fixed={"neck.p4": "silu", "stem": "conv7"})
    assert Argmax().select(everything, never) == {"stem": "conv7", "neck.p4": "silu"}
