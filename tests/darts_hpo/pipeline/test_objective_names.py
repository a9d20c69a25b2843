"""The names that a run's objective may have, and where their numbers come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from darts_hpo.errors import ConfigError
from darts_hpo.pipeline.objective import Objective

METRICS: dict[str, Any] = {
    "search": {"discretized_val": {"map": 0.1, "map50": 0.2}, "costs": {"params_deployed": 10.0, "latency_ms": 3.0}},
    "found": {
        "val": {"map": 0.3, "map50": 0.5},
        "test": {"map": 0.9},
        "costs": {"params_deployed": 10.0, "latency_ms": 2.0},
    },
}


def objective(asked: str | Sequence[str], *, searched: bool = True) -> Objective:
    return Objective(
        asked,
        primary_metric="map",
        metrics=("map", "map50"),
        costs=("params_deployed", "latency_ms"),
        searched=searched,
    )


@pytest.mark.parametrize(
    ("asked", "value", "needs_retraining"),
    [
        ("val", 0.3, True),
        ("map", 0.3, True),
        ("map50", 0.5, True),
        ("search", 0.1, False),
        ("latency_ms", 2.0, False),
        (["val"], {"val": 0.3}, True),
        (["search", "params_deployed"], {"search": 0.1, "params_deployed": 10.0}, False),
        (["val", "search", "latency_ms"], {"val": 0.3, "search": 0.1, "latency_ms": 2.0}, True),
    ],
)
def test_where_a_name_leads(asked: str | list[str], value: object, needs_retraining: bool):
    asked_for = objective(asked)
    assert asked_for.value(METRICS) == value
    assert asked_for.needs_retraining is needs_retraining


def test_what_is_not_known_yet_is_none_and_a_paused_retraining_counts():
    searched = METRICS | {"found": None}
    assert objective("val").value(searched) is None
    assert objective(["val", "latency_ms"]).value(searched) is None
    assert objective(["search", "latency_ms"]).value(searched) == {"search": 0.1, "latency_ms": 3.0}
    paused = searched | {"paused": {"epochs": 2, "val": {"map": 0.25, "map50": 0.4}}}
    assert objective("val").value(paused) == 0.25
    assert objective(["map50", "latency_ms"]).value(paused) == {"map50": 0.4, "latency_ms": 3.0}
    assert objective("val").value({"search": None, "found": None}) is None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("mapp", r"Unknown objective: 'mapp'\. Did you mean 'map'"),
        (["val", "latency"], r"Unknown objective: 'latency'\. Did you mean 'latency_ms'"),
        ("test", r"the test split gives the final number, read once.*Use objective=val"),
        (["val", "test/map"], r"objective=test/map: the test split"),
        ([], r"names nothing to return"),
        (["val", "val"], r"names something twice"),
    ],
)
def test_other_names_are_refused(asked: str | list[str], message: str):
    with pytest.raises(ConfigError, match=message):
        objective(asked)


def test_without_a_search_there_is_no_supernet_to_score():
    assert objective("val", searched=False).value(METRICS) == 0.3
    with pytest.raises(ConfigError, match="every choice is fixed; use objective=val"):
        objective("search", searched=False)
