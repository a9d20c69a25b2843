"""Draws from normalized expected improvement, and both published partners of Hyperband."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch

from darts_hpo.errors import ConfigError
from darts_hpo.space import Float, Space
from darts_hpo.testing.samplers import SPACES, SamplerConformance, random_history
from darts_hpo.tuning import events
from darts_hpo.tuning.encoding import Encoding
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity, Objective
from darts_hpo.tuning.samplers.base import Sampler
from darts_hpo.tuning.samplers.bertrand import BertrandSampler, normalized_improvement
from darts_hpo.tuning.samplers.kde import KDESampler
from darts_hpo.tuning.samplers.random import RandomSampler
from darts_hpo.tuning.schedulers.asha import ASHA
from darts_hpo.tuning.schedulers.hyperband import Hyperband
from darts_hpo.tuning.simulation import SimulatedStudy, simulate
from darts_hpo.tuning.study import Study

SPACE = Space({"x": Float(0.0, 1.0)})


class TestBertrand(SamplerConformance):
    several_objectives = False
    model_based = True
    quadratic_trials = 16
    quadratic_seeds = (0, 1)

    @staticmethod
    def build() -> Sampler:
        return BertrandSampler(pool=100)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_improvements_are_divided_by_their_sum() -> None:
    """Expected improvements of textbook cases: 0.39894, 1.08332 and 0.08332 at unit deviation."""
    improvements = np.array([0.3989422804, 1.0833154706, 0.0833154706])
    found = normalized_improvement(tensor(0.0, 1.0, -1.0), tensor(1.0, 1.0, 1.0), best=0.0)
    assert found == pytest.approx(improvements / improvements.sum(), rel=1e-9)
    # Deviations count too: the improvement scales with them.
    improvements = np.array([2 * 0.3989422804, 0.0697796557])
    found = normalized_improvement(tensor(0.25, 0.3), tensor(2.0, 0.1), best=0.25)
    assert found == pytest.approx(improvements / improvements.sum(), rel=1e-9)


def test_it_stays_a_distribution_where_improvements_underflow() -> None:
    """log h is -808.2985683566 at -40 and -500014.7344521 at -1000: their plain exponentials are 0."""
    found = normalized_improvement(tensor(-40.0, -40.0, -1000.0), tensor(1.0, 1.0, 1.0), best=0.0)
    assert found == pytest.approx([0.5, 0.5, 0.0])


def told(n: int) -> History:
    history = History(SPACE)
    for number in range(n):
        x = Random(number).random()
        history = events.ask(history, {"x": x})
        history = events.tell(history, number, {"value": 1.0 - (x - 0.7) ** 2})
    return history


class _FixedPool(BertrandSampler):
    def candidates(self, history: History, rng: Random) -> list[dict[str, float]]:
        return [{"x": x} for x in (0.05, 0.4, 0.6, 0.8, 0.95)]


def test_points_are_drawn_as_often_as_they_improve() -> None:
    """Frequencies against the probabilities computed from the model itself, by the chi-squared statistic."""
    history, sampler, draws = told(6), _FixedPool(), 200
    encoding = Encoding(SPACE)
    pool = torch.from_numpy(encoding.encode(sampler.candidates(history, Random(0))))
    mean, variance, best = sampler._posterior(history, encoding, pool)
    probabilities = normalized_improvement(mean, variance.sqrt(), best)
    assert 0.2 < probabilities.max() < 0.95
    points = [sampler.suggest(history, seed=seed).point["x"] for seed in range(draws)]
    counts = np.array([points.count(x) for x in (0.05, 0.4, 0.6, 0.8, 0.95)])
    expected = draws * probabilities
    kept = expected > 1.0
    assert counts[~kept].sum() < 6
    assert ((counts - expected)[kept] ** 2 / expected[kept]).sum() < 18.5  # 0.999 quantile at 4 degrees of freedom


def test_the_label_is_the_probability() -> None:
    labels = _FixedPool().suggest(told(6), seed=0).labels
    assert labels["model"]
    assert 0 < labels["probability"] < 1


@pytest.mark.parametrize("slots", [1, 4])
def test_the_first_bracket_is_random(slots: int) -> None:
    """Every trial of Hyperband's first bracket, and none of the others."""
    sampler, scheduler = BertrandSampler(pool=20), Hyperband(iterations=1)
    study = SimulatedStudy(Study(SPACE, sampler=sampler, scheduler=scheduler, fidelity=Fidelity(1, 9)))
    simulate(study, lambda p, budget, previous: (p["x"], 1.0), slots=slots)
    by_bracket = [(trial.labels["bracket"], trial.labels["model"]) for trial in study.history]
    assert by_bracket == [(0, False)] * 9 + [(1, True)] * 5 + [(2, True)] * 3


def test_without_brackets_the_model_waits_for_the_first_full_budget() -> None:
    study = SimulatedStudy(Study(SPACE, sampler=BertrandSampler(pool=20), scheduler=ASHA(), fidelity=Fidelity(1, 9)))
    simulate(study, lambda p, budget, previous: (p["x"], 1.0), runs=30)
    (_, first_full), *_ = study.history.at(9)
    for trial in study.history:
        assert trial.labels["model"] == (trial.results[0].order > first_full.order)


def test_a_trial_counts_with_its_last_value_and_a_failed_one_as_the_worst() -> None:
    history = History(SPACE, (Objective("loss", "minimize"),), fidelity=Fidelity(1, 9))
    for number, losses in enumerate([(0.9, 0.5), (0.8,), (0.7, None)]):
        history = events.ask(history, {"x": number / 10}, budget=1.0)
        for loss in losses:
            if loss is None:
                history = events.fail(history, number, "diverged")
            else:
                history = events.tell(history, number, {"loss": loss})
            if loss == losses[0] and len(losses) > 1:
                history = events.promote(history, number, 3.0)
    x, y = BertrandSampler()._rows(history, Encoding(SPACE), None)
    order = [round(float(v), 3) for v in x[y.argsort(descending=True, stable=True), 0]]
    assert order == [0.0, 0.1, 0.2]
    assert float(y[1]) == float(y[2])  # the failed one, last, shares the worst value seen: 0.8
    early, _ = BertrandSampler()._rows(history, Encoding(SPACE), 1)
    assert early.tolist() == [[0.0]]


def test_several_objectives_are_refused() -> None:
    history = random_history(SPACES["float"], 3, objectives=(Objective(), Objective("cost")))
    with pytest.raises(ConfigError, match="one objective"):
        BertrandSampler().suggest(history, seed=0)
    with pytest.raises(ConfigError, match="pool=0"):
        BertrandSampler(pool=0)


@pytest.mark.parametrize("make", [KDESampler, lambda: BertrandSampler(pool=100)], ids=["bohb", "bertrand"])
def test_a_model_helps_hyperband(make: type[Sampler]) -> None:
    """Both compositions end closer to the optimum than Hyperband with random points, in the median of 3 seeds."""
    space = Space({"x": Float(0.0, 1.0), "y": Float(1e-4, 1.0, log=True)})

    def loss(point: dict[str, float], budget: float | None, previous: float) -> tuple[float, float]:
        unit = Encoding(space).encode([point])[0]
        return float(((unit - [0.3, 0.8]) ** 2).sum()) + 0.3 / (budget or 1), (budget or 1) - previous

    def final(sampler: Sampler, seed: int) -> float:
        study = Study(
            space,
            (Objective("loss", "minimize"),),
            sampler=sampler,
            scheduler=Hyperband(),
            n_trials=30,
            fidelity=Fidelity(1, 9),
            seed=seed,
        )
        return min(value for _, value in simulate(SimulatedStudy(study), loss, slots=3).incumbents(maximize=False))

    modelled = np.median([final(make(), seed) for seed in range(3)])
    at_random = np.median([final(RandomSampler(), seed) for seed in range(15)])
    assert modelled < at_random
