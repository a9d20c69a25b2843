"""Samplers that need no model: manual list, grid, random, Sobol. The other samplers have files of their own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from darts_hpo.errors import ConfigError, SpaceError
from darts_hpo.space import Categorical, Condition, Float, Int, Space
from darts_hpo.testing.samplers import SPACES, SamplerConformance, appended, ask, finished, play, random_history
from darts_hpo.tuning.history import History
from darts_hpo.tuning.samplers.base import Exhausted, Sampler
from darts_hpo.tuning.samplers.grid import GridSampler
from darts_hpo.tuning.samplers.manual import ManualSampler
from darts_hpo.tuning.samplers.points import first_new, from_cube, key
from darts_hpo.tuning.samplers.random import RandomSampler
from darts_hpo.tuning.samplers.sobol import SobolSampler


class TestRandom(SamplerConformance):
    build = RandomSampler


class TestGrid(SamplerConformance):
    build = GridSampler
    exhausts = True
    uses_seed = False


class TestShuffledGrid(SamplerConformance):
    exhausts = True
    uses_seed = False

    @staticmethod
    def build() -> Sampler:
        return GridSampler(points=4, order="shuffled", seed=3)


class TestManual(SamplerConformance):
    exhausts = True
    repeats = True  # where the list does
    uses_seed = False

    def make(self, space: Space) -> Sampler:
        return ManualSampler([trial.point for trial in random_history(space, 30, seed=9).trials])


class TestSobol(SamplerConformance):
    build = SobolSampler
    uses_seed = False


def _all(sampler, space):
    history, points = History(space), []
    while True:
        try:
            point = dict(ask(sampler, history, 0).point)
        except Exhausted:
            return points
        points.append(point)
        history = appended(history, point)


# -- manual ------------------------------------------------------------------------------------------------------


def test_manual_list_in_its_order():
    space = SPACES["log"]
    points = [{"lr": 1e-2, "width": 16}, {"width": 8, "lr": 1e-3}, {"lr": 1e-2, "width": 16}]
    assert _all(ManualSampler(points), space) == points


def test_manual_list_skips_what_a_warm_start_tried():
    space = SPACES["log"]
    sampler = ManualSampler([{"lr": 1e-2, "width": 16}, {"lr": 1e-3, "width": 8}])
    history = History(space, trials=(finished(0, {"lr": 1e-3, "width": 8}, 0.5),))
    history = appended(history, ask(sampler, history, 0).point)
    assert history.trials[1].point == {"lr": 1e-2, "width": 16}
    with pytest.raises(Exhausted, match="All 2 points"):
        sampler.suggest(history, seed=0)


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"lr": 1e-2, "widht": 16}, r"Point 1 .*'widht'.*Did you mean 'width'"),
        ({"lr": 1e-2}, r"Point 1 .*'width' has no value"),
        ({"lr": 1.0, "width": 16}, r"Point 1 .*'lr': 1.0 lies outside"),
    ],
)
def test_manual_list_names_the_point_that_is_wrong(point, message):
    sampler = ManualSampler([{"lr": 1e-2, "width": 16}, point])
    with pytest.raises(ConfigError, match=message):
        sampler.suggest(History(SPACES["log"]), seed=0)


@pytest.mark.parametrize("points", [[], {"lr": 1}, "lr", [3]])
def test_manual_list_must_be_a_list_of_points(points):
    with pytest.raises(ConfigError, match="expected names with values|got no points"):
        ManualSampler(points)


# -- grid ----------------------------------------------------------------------------------------------------------


def test_grid_is_the_product_with_the_last_parameter_fastest():
    space = Space({"lr": Float(1e-4, 1e-2, log=True), "n": Int(1, 2), "op": Categorical(("a", "b"))})
    points = _all(GridSampler(points=3), space)
    assert len(points) == 12
    assert [tuple(p.values()) for p in points[:5]] == [
        (1e-4, 1, "a"), (1e-4, 1, "b"), (1e-4, 2, "a"), (1e-4, 2, "b"), (pytest.approx(1e-3), 1, "a"),
    ]  # fmt: skip
    assert points[-1] == {"lr": 1e-2, "n": 2, "op": "b"}


def test_grid_points_per_parameter():
    space = Space({"x": Float(0, 1), "y": Float(0, 1), "n": Int(0, 100)})
    points = _all(GridSampler(points={"x": 2, "y": 1, "n": 3}), space)
    assert [tuple(p.values()) for p in points] == [(x, 0.5, n) for x in (0.0, 1.0) for n in (0, 50, 100)]


def test_grid_varies_a_conditional_parameter_only_where_it_is_active():
    space = Space(
        {"opt": Categorical(("sgd", "adam")), "momentum": Float(0, 1), "wd": Categorical((0, 1))},
        (Condition("momentum", "opt", ("sgd",)),),
    )
    points = _all(GridSampler(points=3), space)
    assert Counter(p["opt"] for p in points) == {"sgd": 6, "adam": 2}
    assert len({key(p) for p in points}) == 8


def test_grid_leaves_out_what_violates_a_constraint():
    points = _all(GridSampler(points=3), Space({"x": Float(0, 1), "y": Float(0, 1)}, constraints=("x + y <= 0.5",)))
    assert [tuple(p.values()) for p in points] == [(0.0, 0.0), (0.0, 0.5), (0.5, 0.0)]
    with pytest.raises(ConfigError, match="more points"):
        GridSampler(points=2).suggest(History(Space({"x": Float(0, 1)}, constraints=("x == 0.4",))), seed=0)


def test_shuffled_grid_has_the_same_points_in_another_order():
    space = SPACES["mixed"]
    ordered = _all(GridSampler(points=3), space)
    shuffled = _all(GridSampler(points=3, order="shuffled", seed=1), space)
    assert ordered != shuffled
    assert {key(p) for p in ordered} == {key(p) for p in shuffled}
    assert shuffled != _all(GridSampler(points=3, order="shuffled", seed=2), space)


def test_grid_refuses_what_it_cannot_do():
    with pytest.raises(ConfigError, match="Did you mean 'shuffled'"):
        GridSampler(order="shufled")
    with pytest.raises(ConfigError, match="0 points"):
        GridSampler(points={"x": 0})
    with pytest.raises(ConfigError, match="Did you mean 'lr'"):
        GridSampler(points={"lrr": 3}).suggest(History(SPACES["log"]), seed=0)
    huge = Space({f"c{i}": Categorical(tuple("abcdefgh")) for i in range(15)})
    with pytest.raises(ConfigError, match="too large to be shuffled"):
        GridSampler(order="shuffled").suggest(History(huge), seed=0)
    assert ask(GridSampler(), History(huge), 0)


# -- Sobol ---------------------------------------------------------------------------------------------------------


def test_sobol_puts_one_point_into_every_stratum():
    """A net in base 2: 16 points lie one in each 16th of every coordinate, and one in each cell of a 4 by 4 grid."""
    space = Space({"x": Float(0, 1), "y": Float(0, 1)})
    history = play(SobolSampler(seed=5), space, lambda point: 0.0, 16)
    rows = np.array([list(trial.point.values()) for trial in history.trials])
    for column in rows.T:
        assert sorted((column * 16).astype(int)) == list(range(16))
    assert len({tuple(cell) for cell in (rows * 4).astype(int).tolist()}) == 16


def test_sobol_goes_on_past_a_warm_start_and_a_restart():
    space = SPACES["mixed"]
    plain = play(SobolSampler(seed=1), space, lambda point: 0.0, 140)
    own = [trial.point for trial in plain.trials]
    warm = appended(History(space), RandomSampler().suggest(plain, seed=1).point)
    for expected in own[:5]:
        suggestion = ask(SobolSampler(seed=1), warm, 0)  # a new instance every time
        assert suggestion.point == expected
        warm = appended(warm, suggestion.point)
    assert SobolSampler(seed=2).suggest(History(space), seed=0).point != own[0]


def test_sobol_skips_what_violates_constraints():
    free = play(SobolSampler(), Space({"x": Float(0, 1), "y": Float(0, 1)}), lambda point: 0.0, 64)
    bound = Space({"x": Float(0, 1), "y": Float(0, 1)}, constraints=("x + y <= 0.5",))
    expected = [t.point for t in free.trials if t.point["x"] + t.point["y"] <= 0.5]
    assert [t.point for t in play(SobolSampler(), bound, lambda point: 0.0, len(expected)).trials] == expected
    with pytest.raises(SpaceError, match="loosen"):
        SobolSampler().suggest(History(Space({"x": Float(0, 1)}, constraints=("x > 2",))), seed=0)


# -- shared pieces ---------------------------------------------------------------------------------------------------


def test_from_cube_gives_options_equal_bins_and_drops_what_is_inactive():
    space = SPACES["conditional"]
    assert from_cube(space, (0.49, 0.25, 0.9, 0.5)) == {"optimizer": "sgd", "momentum": 0.25}
    assert from_cube(space, (0.51, 0.25, 0.9, 1.0)) == {"optimizer": "adam", "betas": "high", "beta": 0.999}
    options = Space({"op": Categorical(tuple("abc"))})
    counts = Counter(from_cube(options, (u,))["op"] for u in np.linspace(0.0, 1.0, 300))
    assert counts == {"a": 100, "b": 100, "c": 100}


def test_keys_tell_types_apart():
    assert len({key({"x": value}) for value in (1, 1.0, True, "1")}) == 4
    assert key({"x": 1, "y": 2}) == key({"y": 2, "x": 1})


def test_first_new_prefers_the_untried_and_never_runs_dry():
    space = SPACES["categorical"]
    a, b = {"op": "conv3", "pool": "max"}, {"op": "conv5", "pool": "max"}
    history = appended(History(space), a)
    assert first_new([a, b], history) == b
    assert first_new([a, a], history) == a
    assert first_new([], history) is None
    repeated = replace(history, trials=(replace(history.trials[0], replicate_of=0),))
    assert first_new([a, b], repeated) == a


def test_random_search_is_uniform_on_each_scale():
    space = Space({"lr": Float(1e-4, 1e-2, log=True), "n": Int(1, 4)})
    points = [RandomSampler().suggest(History(space), seed=seed).point for seed in range(2000)]
    assert np.mean([p["lr"] < 1e-3 for p in points]) == pytest.approx(0.5, abs=0.04)
    for n in range(1, 5):
        assert np.mean([p["n"] == n for p in points]) == pytest.approx(0.25, abs=0.04)
