"""Acquisitions against their closed forms, on a process with a known posterior."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from darts_hpo.errors import ConfigError
from darts_hpo.space import Categorical, Condition, Float, Int, Space
from darts_hpo.tuning.acquisitions.base import Situation, log_softplus
from darts_hpo.tuning.acquisitions.confidence_bound import UpperConfidenceBound
from darts_hpo.tuning.acquisitions.entropy import GIBBON, JointEntropySearch, MaxValueEntropy
from darts_hpo.tuning.acquisitions.hypervolume import QLogNoisyExpectedHypervolumeImprovement
from darts_hpo.tuning.acquisitions.improvement import (
    ExpectedImprovement,
    LogExpectedImprovement,
    LogProbabilityOfImprovement,
    ProbabilityOfImprovement,
    log_h,
)
from darts_hpo.tuning.acquisitions.knowledge_gradient import KnowledgeGradient
from darts_hpo.tuning.acquisitions.maximize import Domain, SearchSettings, maximize
from darts_hpo.tuning.acquisitions.noisy_improvement import LogNoisyExpectedImprovement, QLogNoisyExpectedImprovement
from darts_hpo.tuning.acquisitions.weighting import biased, product
from darts_hpo.tuning.samplers.points import key
from darts_hpo.tuning.surrogates.backend import numerics
from darts_hpo.tuning.surrogates.gaussian_process import GaussianProcess, ModelSettings, fit

ROW = torch.zeros(1, 1, dtype=torch.float64)
SINGLE = {
    "EI": ExpectedImprovement(),
    "LogEI": LogExpectedImprovement(),
    "PI": ProbabilityOfImprovement(),
    "LogPI": LogProbabilityOfImprovement(),
    "UCB": UpperConfidenceBound(),
    "MES": MaxValueEntropy(),
    "GIBBON": GIBBON(),
    "JES": JointEntropySearch(samples=4),
    "KG": KnowledgeGradient(),
    "LogNEI": LogNoisyExpectedImprovement(),
    "qLogNEI": QLogNoisyExpectedImprovement(),
}


class _Known:
    """Stands in for a process: one mean and deviation everywhere."""

    def __init__(self, mean, deviation):
        self.mean, self.deviation = mean, deviation

    def posterior(self, x):
        ones = torch.ones(len(x), dtype=torch.float64)
        return self.mean * ones, self.deviation**2 * ones


class _KnownSituation(Situation):
    """A situation with a given best value."""

    def __init__(self, mean, deviation, best):
        super().__init__((_Known(mean, deviation),), ROW[:0], ROW[:0], ROW[:0], ROW, 0)
        self.__dict__["best"] = best  # where a cached property keeps what it computed

    @property
    def believed(self):
        return self.objectives[0]


def _process(n=12, d=2, seed=0, noise=None):
    x = torch.rand(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    y = torch.sin(5 * x[:, 0]) - (x - 0.3).square().sum(1)
    y = (y - y.mean()) / y.std()
    process = GaussianProcess(x, y, None, ModelSettings())
    if noise is not None:
        state = {**process.hyperparameters}
        state["likelihood.noise_covar.raw_noise"] = torch.tensor([noise], dtype=torch.float64)
        process = GaussianProcess(x, y, state, ModelSettings())
    return process


def _situation(pending=0, **changes):
    process = _process()
    generator = torch.Generator().manual_seed(1)
    return replace(
        Situation(
            objectives=(process,),
            observed=process.x,
            values=process.y.unsqueeze(-1),
            pending=torch.rand(pending, 2, dtype=torch.float64, generator=generator),
            candidates=torch.rand(64, 2, dtype=torch.float64, generator=generator),
            seed=3,
            feasible=torch.ones(len(process.x), dtype=torch.bool),
        ),
        **changes,
    )


# -- golden values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "deviation", "best", "xi", "probability", "improvement"),
    [
        (0.0, 1.0, 0.0, 0.0, 0.5, 0.3989422804),
        (1.0, 1.0, 0.0, 0.0, 0.8413447461, 1.0833154706),
        (-1.0, 1.0, 0.0, 0.0, 0.1586552539, 0.0833154706),
        (0.5, 0.2, 0.7, 0.01, 0.1468590564, 0.0151360263),
        (0.0, 1.0, 0.0, 0.01, 0.4960106437, 0.3939622273),
        (0.3, 0.1, 0.25, 0.0, 0.6914624613, 0.0697796557),
    ],
)
def test_improvement_in_closed_form(mean, deviation, best, xi, probability, improvement):
    situation = _KnownSituation(mean, deviation, best)

    def value(acquisition):
        return float(acquisition.score(situation)(ROW))

    assert value(ExpectedImprovement(xi)) == pytest.approx(improvement, abs=1e-10)
    assert value(LogExpectedImprovement(xi)) == pytest.approx(math.log(improvement), abs=1e-8)
    assert value(ProbabilityOfImprovement(xi)) == pytest.approx(probability, abs=1e-10)
    assert value(LogProbabilityOfImprovement(xi)) == pytest.approx(math.log(probability), abs=1e-9)


@pytest.mark.parametrize(
    ("mean", "deviation", "root2", "two"),
    [(0.0, 1.0, 1.4142135624, 2.0), (-1.0, 1.0, 0.4142135624, 1.0), (0.5, 0.2, 0.7828427125, 0.9)],
)
def test_upper_confidence_bound(mean, deviation, root2, two):
    situation = _KnownSituation(mean, deviation, 0.0)
    assert float(UpperConfidenceBound(math.sqrt(2)).score(situation)(ROW)) == pytest.approx(root2, abs=1e-10)
    assert float(UpperConfidenceBound(2).score(situation)(ROW)) == pytest.approx(two, abs=1e-10)


@pytest.mark.parametrize(
    ("z", "expected"),
    [
        (0, -0.9189385332),
        (-1, -2.4851210257),
        (-5, -16.7443011627),
        (-10, -55.5531220362),
        (-40, -808.2985683566),
        (-1000, -500014.7344521),
    ],
)
def test_log_h(z, expected):
    assert float(log_h(torch.tensor(float(z), dtype=torch.float64))) == pytest.approx(expected, rel=1e-12, abs=1e-9)
    score = LogExpectedImprovement().score(_KnownSituation(float(z), 1.0, 0.0))
    assert float(score(ROW)) == pytest.approx(expected, rel=1e-12, abs=1e-9)


def test_plain_improvement_underflows_where_its_logarithm_does_not():
    situation = _KnownSituation(-40.0, 1.0, 0.0)
    assert float(ExpectedImprovement().score(situation)(ROW)) == 0.0
    assert float(LogExpectedImprovement().score(situation)(ROW)) == pytest.approx(-808.2985683566)


def test_slope_of_log_h_has_no_holes():
    z = torch.cat([torch.linspace(-60, 8, 2001), torch.tensor([-1e4, -40.0, -1.0, 0.0, 30.0])]).double()
    z.requires_grad_(True)
    (slope,) = torch.autograd.grad(log_h(z).sum(), z)
    assert bool(torch.isfinite(slope).all())
    # d log h / dz = Phi(z) / h(z)
    expected = torch.exp(torch.special.log_ndtr(z) - log_h(z)).detach()
    torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-12)


def test_bigger_xi_explores_more():
    situation = _KnownSituation(0.0, 1.0, 0.0)
    exploring, safe = _KnownSituation(-0.5, 1.5, 0.0), _KnownSituation(0.2, 0.1, 0.0)

    def gain(xi):
        score = LogExpectedImprovement(xi).score
        return float(score(exploring)(ROW) - score(safe)(ROW))

    assert gain(1.0) > gain(0.0)
    assert float(ExpectedImprovement(1.0).score(situation)(ROW)) < float(ExpectedImprovement().score(situation)(ROW))


@pytest.mark.parametrize("acquisition", [ExpectedImprovement, ProbabilityOfImprovement, UpperConfidenceBound])
def test_negative_settings_are_refused(acquisition):
    with pytest.raises(ConfigError, match="at least 0"):
        acquisition(-0.1)


def test_log_softplus():
    value = torch.tensor([5.0, 0.0, -10.0, -1e6], dtype=torch.float64)
    result = log_softplus(value)
    assert result.tolist() == pytest.approx(
        [math.log(5.0), math.log(0.01 * math.log(2)), -1000.0 + math.log(0.01), -1e8 + math.log(0.01)]
    )


# -- noisy improvement -----------------------------------------------------------------------------------------------


def test_noisy_improvement_is_improvement_where_nothing_is_uncertain():
    """Almost no noise and nothing pending: the best value is known."""
    process = _process(noise=1e-6)
    situation = _situation(objectives=(process,))
    rows = torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    noisy = LogNoisyExpectedImprovement(samples=512).score(situation)(rows)
    plain = LogExpectedImprovement().score(situation)(rows)
    likely = plain > -8.0
    assert int(likely.sum()) > 5
    torch.testing.assert_close(noisy[likely], plain[likely], rtol=0.0, atol=0.05)


def test_noisy_improvement_agrees_with_sampling_it():
    """Against a plain Monte-Carlo estimate of E[max(f(x) - max f(known), 0)] over one joint sample."""
    situation = _situation(pending=4)
    process, x = situation.objectives[0], torch.tensor([[0.33, 0.31]], dtype=torch.float64)
    rows = torch.cat([x, situation.observed, situation.pending])
    mean, covariance = process.joint(rows)
    factor = torch.linalg.cholesky(covariance + 1e-9 * torch.eye(len(rows), dtype=torch.float64))
    normal = torch.randn(200_000, len(rows), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    draws = mean + normal @ factor.T
    expected = (draws[:, 0] - draws[:, 1:].max(dim=1).values).clamp_min(0.0).mean()
    ours = LogNoisyExpectedImprovement(samples=512).score(situation)(x).exp()
    assert float(ours) == pytest.approx(float(expected), rel=0.05)


@pytest.mark.parametrize("name", SINGLE)
def test_a_pending_point_is_worth_less(name):
    """No answer is asked for twice."""
    empty = _situation()
    with numerics(0):
        before = SINGLE[name].log_score(empty)
        point, _ = maximize(
            before,
            Domain(Space({"a": Float(0, 1), "b": Float(0, 1)})),
            SearchSettings(64, 0, 2, 20),
            0,
            empty.observed[:0],
            set(),
        )
        row = torch.tensor([list(point.values())], dtype=torch.float64)
        after = SINGLE[name].log_score(replace(empty, pending=row))
        assert after(row).item() < before(row).item()


@pytest.mark.parametrize("name", SINGLE)
def test_scores_have_slopes(name):
    """Against central differences."""
    situation = _situation(pending=3)
    x = torch.tensor([[0.4, 0.6], [0.15, 0.2]], dtype=torch.float64, requires_grad=True)
    with numerics(0):
        score = SINGLE[name].score(situation)
        (slope,) = torch.autograd.grad(score(x).sum(), x)
        step = 1e-5 * torch.eye(2, dtype=torch.float64)
        with torch.no_grad():
            rises = torch.stack([(score(x + s) - score(x - s)) / 2e-5 for s in step], dim=-1)
    torch.testing.assert_close(slope, rises, rtol=1e-2, atol=1e-4)


def test_knowledge_gradient_of_a_single_alternative():
    """With one alternative besides x: E[max(a, b Z)] has a closed form (Frazier et al. 2009, eq. 14)."""
    situation = _situation()
    process, x = situation.objectives[0], torch.tensor([[0.9, 0.1]], dtype=torch.float64)
    ours = float(KnowledgeGradient(alternatives=1, quadrature=4096).score(situation)(x))
    rows = torch.cat([situation.candidates, process.x])
    mean, variance = process.posterior(rows)
    best = rows[(mean + variance.sqrt()).argmax()].unsqueeze(0)
    here, influence, own = (float(part) for part in process.influence(x, best))
    there = float(process.posterior(best)[0])
    spread, gap = abs(own - influence), abs(here - there)
    expected = spread * math.exp(float(log_h(torch.tensor(-gap / spread, dtype=torch.float64))))
    assert ours == pytest.approx(expected, rel=1e-2, abs=1e-6)


# -- constraints and several objectives ------------------------------------------------------------------------------


def _cost(process, bound):
    """A second process, of the first column, with a bound."""
    y = process.x[:, 0].clone()
    return GaussianProcess(process.x, y, fit(process.x, y, ModelSettings()), ModelSettings()), y <= bound


@pytest.mark.parametrize("acquisition", [LogNoisyExpectedImprovement(), QLogNoisyExpectedImprovement()])
@pytest.mark.parametrize("bound", [0.5, -0.2])
def test_infeasible_rows_are_worth_less(acquisition, bound):
    situation = _situation()
    cost, feasible = _cost(situation.objectives[0], bound)
    situation = replace(situation, constraints=(cost,), bounds=(bound,), feasible=feasible)
    rows = torch.tensor([[0.02, 0.5], [0.95, 0.5]], dtype=torch.float64)
    with numerics(0):
        inside, outside = acquisition.score(situation)(rows).tolist()
    assert inside > outside + 2.0


def test_feasibility_in_closed_form():
    situation = _KnownSituation(0.0, 1.0, 0.0)
    situation.__dict__["constraints"] = (_Known(1.0, 2.0), _Known(0.0, 1.0))
    situation.__dict__["bounds"] = (3.0, 0.0)
    assert float(situation.log_feasibility(ROW)) == pytest.approx(math.log(0.8413447461 * 0.5), abs=1e-9)


def test_hypervolume_prefers_the_gap_in_the_front():
    """Objectives x and 1 - x, results at both ends: the middle adds most."""
    x = torch.tensor([[0.0], [0.05], [0.95], [1.0]], dtype=torch.float64)
    first, second = x[:, 0] * 2 - 1, 1 - x[:, 0] * 2
    processes = tuple(GaussianProcess(x, y, None, ModelSettings()) for y in (first, second))
    situation = Situation(processes, x, torch.stack([first, second], 1), x[:0], x, 0)
    with numerics(0):
        score = QLogNoisyExpectedHypervolumeImprovement().score(situation)
        middle, edge = score(torch.tensor([[0.5], [0.02]], dtype=torch.float64)).tolist()
    assert middle > edge


# -- weights and the search ------------------------------------------------------------------------------------------


def test_a_bias_adds_to_the_logarithm_and_has_a_slope():
    space = Space({"a": Float(0.0, 2.0), "b": Float(0.0, 1.0), "n": Int(1, 3)})
    domain = Domain(space)
    bias = biased(lambda points: np.array([3.0 * point["a"] - point["b"] for point in points]), domain.encoding)
    total = product(lambda x: x.sum(dim=1), bias)
    x = torch.tensor([[0.5, 0.25, 0.5]], dtype=torch.float64, requires_grad=True)
    assert float(total(x).detach()) == pytest.approx(1.25 + 3.0 - 0.25)
    (slope,) = torch.autograd.grad(total(x).sum(), x)
    assert slope.tolist()[0] == pytest.approx([1.0 + 6.0, 0.0, 1.0], abs=1e-6)


MIXED = Space(
    {"x": Float(0.0, 1.0), "op": Categorical(("a", "b", "c")), "n": Int(1, 40), "m": Float(0.0, 1.0)},
    (Condition("m", "op", ("b",)),),
    ("x * n <= 16",),
)


@pytest.mark.parametrize(
    "space",
    [
        Space({"x": Float(0.0, 1.0), "y": Float(1e-3, 1.0, log=True)}),
        Space({"x": Float(0.0, 1.0), "width": Int(8, 512, log=True), "op": Categorical("abc"), "n": Int(-1, 1)}),
    ],
    ids=["floats", "mixed"],
)
def test_columns_are_snapped_as_points_are(space):
    domain = Domain(space)
    rows = 1.2 * torch.rand(50, domain.encoding.width, dtype=torch.float64) - 0.1
    snapped, valid = domain.snapped(rows.clone())
    assert bool(valid.all())
    torch.testing.assert_close(snapped, domain.rows(domain.points(rows.clamp(0.0, 1.0))))


def test_search_finds_the_best_valid_point_of_a_mixed_space():
    domain = Domain(MIXED)
    wanted = domain.rows([{"x": 0.47, "op": "b", "n": 31, "m": 0.83}])

    def score(x):
        return -(x - wanted).square().sum(dim=1)

    point, height = maximize(score, domain, SearchSettings(), 0, wanted[:0], set())
    assert MIXED.validate(point) == point
    assert point["op"] == "b"
    assert point["m"] == pytest.approx(0.83, abs=0.02)
    assert point["x"] * point["n"] > 14.0  # close to the constraint, for the target lies close to it
    assert height > -0.005


def test_search_is_repeatable_and_avoids_points_that_are_taken():
    domain = Domain(Space({"a": Int(0, 3), "b": Categorical(("u", "v"))}))

    def score(x):
        return x[:, 0]

    taken = set()
    for _ in range(8):
        point, _ = maximize(score, domain, SearchSettings(), 0, domain.rows([]), taken)
        assert key(point) not in taken
        taken.add(key(point))
    point, _ = maximize(score, domain, SearchSettings(), 0, domain.rows([]), taken)
    assert point["a"] == 3  # all are taken: the best again


def test_search_walks_through_a_large_finite_space_to_the_best_point_not_taken():
    """Ten parameters have to be exchanged one by one, and the walk must not end at the point that is taken."""
    space = Space({f"p{index}": Categorical(tuple("uvwxyz")) for index in range(10)})
    domain = Domain(space)
    best = dict.fromkeys(space, "w")
    wanted = domain.rows([best])

    def score(x):
        return (x * wanted).sum(dim=1)

    settings = SearchSettings(16, 0, 2, 5)
    assert maximize(score, domain, settings, 0, wanted[:0], set()) == (best, 10.0)
    point, height = maximize(score, domain, settings, 0, wanted[:0], {key(best)})
    assert height == 9.0
    assert sum(value == "w" for value in point.values()) == 9


def test_search_survives_scores_that_are_not_finite():
    domain = Domain(Space({"a": Float(0.0, 1.0)}))

    def score(x):
        return torch.where(x[:, 0] < 0.5, torch.nan, -(x[:, 0] - 0.7).square())

    point, height = maximize(score, domain, SearchSettings(), 0, domain.rows([]), set())
    assert point["a"] == pytest.approx(0.7, abs=1e-3)
    assert math.isfinite(height)
