"""The report of a sweep: says what was gained, and whether to believe it."""

import json
import math
import random
import re

import numpy as np
import pytest

from darts_hpo.errors import RunDirectoryError
from darts_hpo.report.sweep import write_sweep_report
from darts_hpo.report.sweep.importance import sobol_indices
from darts_hpo.report.sweep.plots import expected_improvement
from darts_hpo.report.sweep.record import SweepRecord
from darts_hpo.space import Categorical, Condition, Float, Space
from darts_hpo.tuning.objectives import Fidelity, Objective
from darts_hpo.tuning.samplers.random import RandomSampler
from darts_hpo.tuning.schedulers.hyperband import Hyperband
from darts_hpo.tuning.study import Study

SPACE = Space({"lr": Float(1e-4, 1e-1, log=True), "momentum": Float(0.0, 0.999)})
DEFAULT = {"lr": 0.001, "momentum": 0.937}


def worth(point, seed=0):
    noise = random.Random(f"{sorted(point.items())}{seed}").gauss(0, 0.01)
    return 0.6 - 0.1 * (math.log10(point["lr"]) + 2) ** 2 - 0.3 * (point["momentum"] - 0.8) ** 2 + noise


def genotype(point):
    return {f"m_{k}": "3x3_silu" if point["momentum"] * k > 6 else "5x5_relu" for k in (13, 16, 19)}


def swept(directory, *, space=SPACE, n_trials=12, seeds=(1, 2), failures=(3,), **settings):
    warm_start = [DEFAULT] if space == SPACE else []
    with Study(
        space, sampler=RandomSampler(), n_trials=n_trials, warm_start=warm_start, directory=directory, **settings
    ) as study:
        while (trial := study.ask()) is not None:
            study.started(trial.number)
            if trial.number in failures:
                study.fail(trial.number, "TrainingError: the loss is <nan>")
                continue
            value = worth(trial.point) if space == SPACE else float(trial.number)
            record = {"genotype": genotype(trial.point)} if space == SPACE else {}
            study.tell(trial.number, value, seconds=60.0, record=record)
        best = max((t for t in study.history if t.results), key=lambda t: t.last.values["value"]).number
        for seed in seeds:
            for number in dict.fromkeys([0, best]):
                trial = study.replicate(number, seed)
                study.tell(trial.number, worth(trial.point, seed))
    return directory


def text(directory):
    return write_sweep_report(directory).read_text()


def test_every_section_is_there(tmp_path):
    html = text(swept(tmp_path))
    for heading in (
        "Before and after",
        "Final architectures",
        "The answer, twice",
        "Trials and the best so far",
        "What the surrogate believes",
        "value over lr and momentum",
        "Importance",
        "Every trial across its parameters",
        "Architectures that the trials found",
        "Failed trials",
        "<h2>Trials</h2>",
    ):
        assert heading in html, heading
    assert "the loss is &lt;nan&gt;" in html
    assert "<script" not in html
    assert "http:" not in re.sub(r"data:image[^\"]*", "", html)


def test_costs_are_called_as_the_trials_say(tmp_path):
    swept(tmp_path)
    record = SweepRecord.read(tmp_path)
    for who, depth in ((record.before, 12.0), (record.after, 8.0)):
        directory = record.directory(who.trial)
        directory.mkdir()
        metrics = {"found": {"costs": {"depth": depth, "gflops": 2.0}}, "cost_labels": {"depth": "Depth on <ring>"}}
        (directory / "metrics.json").write_text(json.dumps(metrics))
    html = text(tmp_path)
    assert "<td>Depth on &lt;ring&gt;</td><td>12</td><td>8</td>" in html
    assert "<td>GFLOPs</td><td>2</td><td>2</td>" in html


def test_the_gain_is_judged_on_fresh_seeds(tmp_path):
    html = text(swept(tmp_path))
    assert "seeds that had no part in the selection" in html
    assert 'class="banner good"' in html
    record = SweepRecord.read(tmp_path)
    assert record.after.trial == record.ranked[0][0]  # chosen by its own run, not by the fresh ones
    assert len(record.after.fresh) == 2
    assert 0.001 < record.noise < 0.05


def test_smaller_budgets_are_no_evidence_about_the_full_one(tmp_path):
    """The settings at the start ended at budget 1 and were repeated at 9."""
    with Study(
        SPACE,
        sampler=RandomSampler(),
        scheduler=Hyperband(),
        fidelity=Fidelity(1, 9),
        n_trials=9,
        warm_start=[DEFAULT],
        directory=tmp_path,
    ) as study:
        while (trial := study.ask()) is not None:
            study.tell(trial.number, trial.budget + (0.0 if trial.number == 0 else trial.number / 100))
        for seed in (1, 2):
            study.tell(study.replicate(0, seed).number, 9 + seed / 10)
    record = SweepRecord.read(tmp_path)
    assert record.before.values == (9.1, 9.2)
    assert record.noise == pytest.approx(0.1 / 2**0.5)
    assert "Budgets" in text(tmp_path)


def test_a_seed_that_makes_no_difference(tmp_path):
    with Study(SPACE, sampler=RandomSampler(), n_trials=4, warm_start=[DEFAULT], directory=tmp_path) as study:
        while (trial := study.ask()) is not None:
            study.tell(trial.number, float(trial.number))
        for number in (0, 3):
            study.tell(study.replicate(number, 7).number, float(number))
    assert "the seed makes no difference" in text(tmp_path)


def test_without_fresh_seeds_nothing_is_claimed(tmp_path):
    html = text(swept(tmp_path, seeds=()))
    assert "one is always lucky" in html


def test_a_sweep_of_another_program(tmp_path):
    space = Space(
        {"kind": Categorical(("a", "b")), "depth": Float(0.0, 1.0)}, conditions=(Condition("depth", "kind", ("b",)),)
    )
    html = text(swept(tmp_path, space=space, seeds=(), failures=()))
    assert "<h2>Trials</h2>" in html
    assert "Before and after" not in html


def test_a_sweep_that_has_just_begun(tmp_path):
    with Study(SPACE, sampler=RandomSampler(), directory=tmp_path) as study:
        study.ask()
        html = text(tmp_path)
    assert "RUNNING" in html


def test_minimized_objectives_and_diverged_trials(tmp_path):
    with Study(
        SPACE, (Objective("loss", "minimize"),), sampler=RandomSampler(), n_trials=8, directory=tmp_path
    ) as study:
        while (trial := study.ask()) is not None:
            study.tell(trial.number, 1e30 if trial.number == 2 else -worth(trial.point))
    assert "loss" in text(tmp_path)


def test_a_directory_without_a_sweep(tmp_path):
    with pytest.raises(RunDirectoryError, match="no sweep directory"):
        write_sweep_report(tmp_path / "none")
    with pytest.raises(RunDirectoryError, match=r"journal\.jsonl does not exist"):
        write_sweep_report(tmp_path)


def test_sobol_indices_of_a_known_function():
    """f = x + 2y + 4xy on the unit square, decomposed by hand."""
    space = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0), "unused": Float(0.0, 1.0)})
    # E[f|x] = x + 1 + 2x = 3x + 1, variance 9/12; E[f|y] = 1/2 + 2y + 2y, variance 16/12;
    # the interaction 4 (x - 1/2) (y - 1/2) has variance 16/144.
    vx, vy, vxy = 9 / 12, 16 / 12, 16 / 144
    total = vx + vy + vxy
    indices = sobol_indices(space, lambda points: np.array([p["x"] + 2 * p["y"] + 4 * p["x"] * p["y"] for p in points]))
    assert list(indices) == ["y", "x", "unused"]
    assert indices["x"].first == pytest.approx(vx / total, abs=0.02)
    assert indices["y"].first == pytest.approx(vy / total, abs=0.02)
    assert indices["x"].total == pytest.approx((vx + vxy) / total, abs=0.02)
    assert indices["unused"].total == 0.0


def test_a_flat_surrogate_has_no_important_parameter():
    space = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
    indices = sobol_indices(space, lambda points: np.full(len(points), 3.0))
    assert [index.total for index in indices.values()] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("mean", "deviation", "best", "gain"),
    [(0, 1, 0, 0.3989422804), (1, 1, 0, 1.0833154706), (-1, 1, 0, 0.0833154706), (0.3, 0.1, 0.25, 0.0697796557)],
)
def test_expected_improvement(mean, deviation, best, gain):
    up = expected_improvement(np.array([mean]), np.array([deviation]), best, maximize=True)
    down = expected_improvement(np.array([-mean]), np.array([deviation]), -best, maximize=False)
    assert up == pytest.approx([gain], abs=1e-10)
    assert down == pytest.approx([gain], abs=1e-10)
