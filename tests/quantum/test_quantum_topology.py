"""Which pairs of wires layers join."""

import pytest

from darts_hpo.errors import ConfigError
from quantum.noise import DeviceNoise, UniformNoise
from quantum.topology import pairs_of


@pytest.mark.parametrize(
    ("topology", "n_wires", "pairs"),
    [
        ("chain", 1, ()),
        ("chain", 4, ((0, 1), (1, 2), (2, 3))),
        ("ring", 1, ()),
        ("ring", 2, ((0, 1),)),
        ("ring", 3, ((0, 1), (1, 2), (2, 0))),
        ("all", 3, ((0, 1), (0, 2), (1, 2))),
        ([[2, 0], (0, 1)], 3, ((2, 0), (0, 1))),
        ([], 3, ()),
    ],
)
def test_pairs_by_hand(topology, n_wires, pairs):
    assert pairs_of(topology, n_wires) == pairs


def test_the_pairs_of_a_device_are_those_of_its_layout():
    line = DeviceNoise("manila", layout=[3, 2, 1])
    assert pairs_of("device", 3, line) == ((0, 1), (1, 2))
    star = DeviceNoise("lima", layout=[1, 0, 2, 3])  # qubit 1 is coupled with 0, 2 and 3
    assert pairs_of("device", 4, star) == ((0, 1), (0, 2), (0, 3))


@pytest.mark.parametrize(
    ("topology", "noise", "words"),
    [
        ("rnig", None, "Did you mean 'ring'"),
        ("device", None, "needs the noise of a device"),
        ("device", UniformNoise(), "needs the noise of a device"),
        ([[0, 1], [1, 3]], None, r"\[1, 3\], but wires count from 0 to 2"),
        ([[0, -1]], None, "wires count from 0 to 2"),
        ([[1, 1]], None, "two different wires"),
        ([[0, 1, 2]], None, "two different wires"),
        ([0, 1], None, "holds 0: expected pairs"),
        (["01"], None, "holds '01': expected pairs"),
        ([[0, 1.5]], None, r"holds \[0, 1\.5\]: expected pairs"),
        ([[0, 1], [0, 1]], None, "names a pair twice"),
    ],
)
def test_mistakes_are_named(topology, noise, words):
    with pytest.raises(ConfigError, match=words):
        pairs_of(topology, 3, noise)
