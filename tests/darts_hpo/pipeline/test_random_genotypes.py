"""Random architectures: uniform, different, reproducible, and never more than there are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from darts_hpo.errors import ConfigError, RunDirectoryError
from darts_hpo.genotype import Genotype
from darts_hpo.pipeline.random_genotypes import draw, record
from darts_hpo.space import Space
from supernets.toy.network import OPTIONS, STAGES, ToySupernet

CHOICES = [f"{stage}.op" for stage in STAGES]


@pytest.fixture(scope="module")
def supernet() -> ToySupernet:
    return ToySupernet(width=2)


def test_they_are_different_and_fewer_are_the_first_of_more(supernet: ToySupernet):
    many = draw(supernet, {}, 60, seed=3)
    assert len(set(many)) == 60
    assert draw(supernet, {}, 7, seed=3) == many[:7]
    assert draw(supernet, {}, 7, seed=4) != many[:7]
    assert draw(supernet, {}, 0, seed=3) == []


def test_every_open_choice_is_uniform_and_a_fixed_one_stays(supernet: ToySupernet):
    drawn = [draw(supernet, {CHOICES[1]: "skip"}, 1, seed)[0] for seed in range(600)]
    assert {genotype.choices[CHOICES[1]] for genotype in drawn} == {"skip"}
    for choice in (CHOICES[0], CHOICES[2], CHOICES[3]):
        counts = Counter(genotype.choices[choice] for genotype in drawn)
        # 120 each; 5 standard deviations of a binomial are 49.
        assert all(abs(counts[option] - 120) < 49 for option in OPTIONS)


def test_all_of_a_small_space_can_be_drawn_and_not_one_more(supernet: ToySupernet):
    fixed = dict.fromkeys(CHOICES[1:], "conv3x3")
    assert {genotype.choices[CHOICES[0]] for genotype in draw(supernet, fixed, 5, seed=0)} == set(OPTIONS)
    with pytest.raises(ConfigError, match=r"random=6: .* no more than 5 architectures; use random=5 or less"):
        draw(supernet, fixed, 6, seed=0)


def test_nothing_can_be_drawn_where_every_choice_is_fixed(supernet: ToySupernet):
    fixed = dict.fromkeys(CHOICES, "conv3x3")
    assert draw(supernet, fixed, 0, seed=0) == []
    with pytest.raises(ConfigError, match="every choice is fixed; set random=0"):
        draw(supernet, fixed, 1, seed=0)


def test_constraints_of_the_space_hold():
    class Constrained(ToySupernet):
        space = Space(ToySupernet().space.parameters, constraints=("stage1.op == 'skip'",))

    drawn = draw(Constrained(width=2), {}, 5, seed=0)
    assert {genotype.choices[CHOICES[0]] for genotype in drawn} == {"skip"}


def test_what_an_earlier_start_stored_is_kept(supernet: ToySupernet, tmp_path: Path):
    one, two, three = draw(supernet, {}, 3, seed=0)
    assert record([one, two], tmp_path) == [one, two]
    assert record([three, two, one], tmp_path) == [one, two, one]
    assert Genotype.load(tmp_path / "2/genotype.json") == one
    (tmp_path / "1/genotype.json").write_text("{")
    with pytest.raises(RunDirectoryError, match=r"1/genotype\.json is not JSON.*delete .*1 and run the same command"):
        record([one, two], tmp_path)
