"""The benchmark on learning curves: its table, its mark and how it counts epochs."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks import multi_fidelity as benchmark
from darts_hpo.tuning.simulation import Run, Trace

N, EPOCHS = 200, 9


@pytest.fixture
def curves(tmp_path: Path) -> benchmark.LearningCurves:
    """A table whose final loss is its row, with every tenth row diverging in its epoch 1 + row % 9."""
    rng = random.Random(0)
    settings = np.array([list(benchmark.ADAM.sample(rng).values()) for _ in range(N)])
    settings[:, 1:3] = 1.0 - settings[:, 1:3]
    losses = np.arange(N)[:, None] + 1.0 / np.arange(1, EPOCHS + 2)[None]
    for row in range(0, N, 10):
        losses[row, 1 + row % EPOCHS :] = np.nan
    np.savez(tmp_path / "task.npz", hyperparameters=settings, valid_loss=losses)
    return benchmark.LearningCurves(tmp_path / "task.npz")


def test_runs_cost_their_epochs_and_fail_where_they_diverge(curves: benchmark.LearningCurves) -> None:
    good = curves(curves.points[7], 3.0, 1.0)
    assert (good.value, good.seconds, good.reached) == (7.25, 2.0, None)
    bad = curves(curves.points[20], 9.0, 1.0)  # diverges in epoch 3
    assert (bad.value, bad.seconds, bad.reached) == (None, 2.0, 3.0)
    assert curves(curves.points[20], 2.0, 0.0).value == pytest.approx(20 + 1 / 3)
    assert [curves.row_of(point) for point in curves.points] == list(range(N))


def test_the_mark_is_the_median_of_random_search(
    curves: benchmark.LearningCurves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "TRIALS", 20)
    final = np.where(np.arange(N) % 10 == 0, np.inf, np.arange(N))
    rng = np.random.default_rng(0)
    best = [min(final[rng.permutation(N)[:20]]) for _ in range(2001)]
    assert curves.mark == pytest.approx(np.median(best) + 1 / (EPOCHS + 1))
    assert curves.epochs_of_random_search == pytest.approx(
        20 * np.mean([1 + r % 9 if r % 10 == 0 else 9 for r in range(N)])
    )


def test_epochs_of_trials_under_way_count() -> None:
    def run(started: float, finished: float | None) -> Run:
        return Run(0, None, 9.0, 0.0, started, started, finished)

    trace = Trace((run(0, 2), run(0, 9), run(2, 5), run(6, 8), run(3, None)), 9.0)
    assert benchmark.epochs_until(trace, 5.0) == 2 + 5 + 3 + 0 + 2


@pytest.mark.parametrize("method", list(benchmark.METHODS))
def test_every_method_runs_on_rows_of_the_table_and_repeats(
    method: str, curves: benchmark.LearningCurves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "TRIALS", 20)
    one, other = (benchmark.one_study(curves, method, 3, 4, 90.0) for _ in range(2))
    assert {**one, "cpu_seconds": 0} == {**other, "cpu_seconds": 0}
    assert one["trials"] >= 10
    losses = [loss for _, loss in one["improvements"]]
    assert losses == sorted(losses, reverse=True)
    assert all(loss % 1 == pytest.approx(1 / (EPOCHS + 1)) for loss in losses), "only final losses count"


def test_marks_are_found_in_improvements() -> None:
    improvements = [[10.0, 0.5], [20.0, 0.3], [40.0, 0.1]]
    assert benchmark.epochs_to(improvements, 0.3) == 20
    assert benchmark.epochs_to(improvements, 0.05) == math.inf
    assert [benchmark.loss_at(improvements, epochs) for epochs in (9, 20, 99)] == [math.inf, 0.3, 0.1]


def test_a_second_call_runs_nothing_again(
    curves: benchmark.LearningCurves,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path / "results.json")
    command = ["benchmark", "--data", str(tmp_path), "--method", "ASHA", "Hyperband", "--seeds", "2"]
    monkeypatch.setattr("sys.argv", command)
    benchmark.main()
    first, stored = capsys.readouterr().out, (tmp_path / "results.json").read_text()
    monkeypatch.setattr(benchmark, "run", None)
    benchmark.main()
    assert capsys.readouterr().out == first
    assert (tmp_path / "results.json").read_text() == stored
    assert "ASHA" in first
