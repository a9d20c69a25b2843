import inspect

import pytest

from darts_hpo import errors
from darts_hpo.errors import DartsHPOError, nearest_names, unknown_name

LEAVES = [
    leaf
    for _, leaf in inspect.getmembers(errors, inspect.isclass)
    if leaf.__module__ == errors.__name__ and leaf is not DartsHPOError
]


@pytest.mark.parametrize("leaf", LEAVES)
def test_one_root_catches_every_error(leaf):
    assert issubclass(leaf, DartsHPOError)
    assert leaf.__doc__
    assert str(leaf("what happened")) == "what happened"


def test_nearest_names_come_best_first():
    valid = ["3x3_relu", "3x3_silu", "5x5_relu", "skip"]
    assert nearest_names("3x3_rleu", valid)[0] == "3x3_relu"
    assert nearest_names("3x3_rleu", valid, limit=1) == ["3x3_relu"]
    assert nearest_names("zzz", valid) == []
    assert nearest_names("skip", (name for name in valid)) == ["skip"]


def test_unknown_name_is_one_sentence_with_a_hint():
    assert unknown_name("option", "skp", ("skip", "conv")) == (
        "Unknown option: 'skp'. Did you mean 'skip'? Valid: conv, skip."
    )
    assert unknown_name("option", "zzz", ("skip",)) == "Unknown option: 'zzz'. Valid: skip."
    assert unknown_name("option", "zzz", ()) == "Unknown option: 'zzz'. Valid: (none)."
