"""Gaussian processes against closed forms, their schedule, the scaling of outcomes."""

from __future__ import annotations

import math
import random
from typing import get_args

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from darts_hpo.errors import ConfigError
from darts_hpo.space import Categorical, Float, Space
from darts_hpo.testing.samplers import SPACES, random_history
from darts_hpo.tuning.encoding import Encoding
from darts_hpo.tuning.surrogates import fitting
from darts_hpo.tuning.surrogates.backend import gpytorch, numerics
from darts_hpo.tuning.surrogates.density import Density
from darts_hpo.tuning.surrogates.evidence import fitted, floor
from darts_hpo.tuning.surrogates.fitting import FitSchedule, Fitter
from darts_hpo.tuning.surrogates.gaussian_process import (
    FitError,
    GaussianProcess,
    ModelSettings,
    build,
    fit,
    stable_cholesky,
)
from darts_hpo.tuning.surrogates.mixed_kernel import LengthScalePrior, MixedKernel
from darts_hpo.tuning.surrogates.scaling import HalfRankScaling, OutcomeScaling, Scale


def _data(n=15, seed=0):
    x = torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    y = torch.sin(6 * x[:, 0]) + x[:, 1]
    return x, (y - y.mean()) / y.std()


@pytest.mark.parametrize("settings", [ModelSettings(), ModelSettings("rbf"), ModelSettings(warp=True)], ids=str)
def test_our_posterior_is_botorchs(settings):
    x, y = _data()
    process = GaussianProcess(x, y, fit(x, y, settings), settings)
    points = torch.rand(7, 2, dtype=torch.float64)
    theirs = process.model.posterior(points)
    mean, variance = process.posterior(points)
    torch.testing.assert_close(mean, theirs.mean.squeeze(-1), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(variance, theirs.variance.squeeze(-1), rtol=1e-4, atol=1e-8)
    joint_mean, covariance = process.joint(points)
    torch.testing.assert_close(joint_mean, mean)
    torch.testing.assert_close(covariance, theirs.distribution.covariance_matrix, rtol=1e-4, atol=1e-8)


def test_the_mean_passes_through_results_without_noise_and_the_deviation_grows_away_from_them():
    x, y = _data()
    process = GaussianProcess(x, y, fit(x, y, ModelSettings()), ModelSettings())
    mean, variance = process.posterior(x)
    torch.testing.assert_close(mean, y, rtol=0.0, atol=0.05)
    far = torch.tensor([[3.0, 3.0]], dtype=torch.float64)
    assert float(process.posterior(far)[1]) > 10 * float(variance.max())


def test_believing_keeps_the_mean_and_shrinks_the_variance():
    x, y = _data()
    process = GaussianProcess(x, y, None, ModelSettings())
    pending = torch.tensor([[0.9, 0.9]], dtype=torch.float64)
    grid = torch.rand(20, 2, dtype=torch.float64)
    believed = process.with_believed(pending)
    torch.testing.assert_close(believed.posterior(grid)[0], process.posterior(grid)[0], rtol=1e-5, atol=1e-6)
    assert float(believed.posterior(pending)[1]) < 0.5 * float(process.posterior(pending)[1])
    assert bool((believed.posterior(grid)[1] <= process.posterior(grid)[1] + 1e-9).all())


def test_fantasies_are_processes_with_these_values():
    """Conditioning on one assumption is conditioning on data without noise."""
    x, y = _data(8)
    process = GaussianProcess(x, y, None, ModelSettings())
    where = torch.tensor([[0.2, 0.8], [0.7, 0.1]], dtype=torch.float64)
    values = torch.tensor([[0.3, -1.0], [2.0, 0.5]], dtype=torch.float64)
    grid = torch.rand(9, 2, dtype=torch.float64)
    means, variance = process.given(where, values).posterior(grid)
    model = process.model
    rows = torch.cat([x, where])
    noise = torch.cat([process.noise.expand(8), torch.full((2,), 1e-9, dtype=torch.float64)])
    matrix = model.covar_module(rows).to_dense() + torch.diag(noise)
    cross = model.covar_module(rows, grid).to_dense()
    constant = model.mean_module.constant.detach()
    for assumed, mean in zip(values, means, strict=True):
        residual = torch.cat([y, assumed]) - constant
        expected = constant + cross.T @ torch.linalg.solve(matrix, residual)
        torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-5)
    left = 1.0 - (cross * torch.linalg.solve(matrix, cross)).sum(0)
    torch.testing.assert_close(variance, left, rtol=1e-3, atol=1e-6)


def test_evidence_is_the_marginal_likelihood_less_half_a_logarithm_for_each_hyperparameter():
    x, y = _data()
    process = GaussianProcess(x, y, fit(x, y, ModelSettings()), ModelSettings())
    covariance = process.model.covar_module(x).to_dense() + process.noise * torch.eye(15, dtype=torch.float64)
    mean = process.model.mean_module.constant.detach().expand(15)
    likelihood = torch.distributions.MultivariateNormal(mean, covariance).log_prob(y)
    # Two length scales, the mean and the noise.
    assert process.log_evidence == pytest.approx(float(likelihood) - 0.5 * 4 * math.log(15))


def test_noise_is_learned_down_to_where_it_is():
    """BoTorch's prior would answer 1e-4, its bound, for the first and so lose what tells the best points apart."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 2, dtype=torch.float64, generator=generator)
    exact = torch.sin(4 * x[:, 0]) * x[:, 1]
    exact = (exact - exact.mean()) / exact.std()
    noisy = exact + 0.3 * torch.randn(40, dtype=torch.float64, generator=generator)
    least, most = (GaussianProcess(x, y, fit(x, y, ModelSettings()), ModelSettings()).noise for y in (exact, noisy))
    assert float(least) < 1e-5
    assert float(most) == pytest.approx(0.09, rel=0.6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_short_lengths_are_not_taken_for_noise(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(16, 2, dtype=torch.float64, generator=generator)
    y = torch.randn(16, dtype=torch.float64, generator=generator)
    y = (y - y.mean()) / y.std()
    process = GaussianProcess(x, y, fit(x, y, ModelSettings()), ModelSettings())
    assert float(process.model.covar_module.lengthscale.min()) > 0.1


def test_prior_of_length_scales():
    prior, plain = LengthScalePrior(3), stats.lognorm(math.sqrt(3.0), scale=math.exp(math.sqrt(2.0)) * math.sqrt(3.0))
    lengths = torch.tensor([0.1, 0.5, 4.0], dtype=torch.float64)
    expected = plain.logpdf(lengths.numpy()) - [10.0, 0.4, 0.00625]
    assert prior.log_prob(lengths).numpy() == pytest.approx(expected)


def test_a_fit_finds_the_column_that_matters():
    x = torch.rand(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.sin(8 * x[:, 0])
    state = fit(x, (y - y.mean()) / y.std(), ModelSettings())
    lengths = GaussianProcess(x, y, state, ModelSettings()).model.covar_module.lengthscale.squeeze()
    assert lengths[1] > 5 * lengths[0]


def test_a_fit_depends_on_its_data_alone():
    x, y = _data()
    first, again = (fit(x, y, ModelSettings()) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_repeated_rows_do_not_break_anything():
    x, y = _data(10)
    x, y = x.repeat(4, 1), y.repeat(4)
    with numerics(0):
        process, trouble = Fitter(ModelSettings(), FitSchedule()).process(x, y, x, y)
    assert trouble is None
    assert bool(torch.isfinite(process.posterior(x)[0]).all())


def test_stable_cholesky():
    singular = torch.ones(3, 3, dtype=torch.float64)
    factor = stable_cholesky(singular)
    torch.testing.assert_close(factor @ factor.T, singular, rtol=0.0, atol=1e-5)
    with pytest.raises(FitError, match="not positive definite"):
        stable_cholesky(torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64))


# -- the density of hyperparameters ----------------------------------------------------------------------------------

_KINDS = [
    ModelSettings(kernel, warp, one_hot=one_hot)
    for kernel in ("matern", "rbf")
    for warp in (False, True)
    for one_hot in ((), ((1, 3),))
]


def _mixed_data(n=20):
    """Four columns, of which the last three may be seen as one categorical."""
    generator = torch.Generator().manual_seed(1)
    number = torch.rand(n, 1, dtype=torch.float64, generator=generator)
    number[:2, 0] = torch.tensor([0.0, 1.0])
    drawn = torch.randint(3, (n,), generator=generator)
    return torch.cat([number, torch.eye(3, dtype=torch.float64)[drawn]], dim=1), torch.sin(5 * number[:, 0]) + drawn


@pytest.mark.parametrize("settings", _KINDS, ids=str)
def test_density_is_botorchs_likelihood_times_priors(settings):
    x, y = _mixed_data()
    model = build(x, y, settings)
    density = Density(model, x, y)
    theta = density.start + 0.2 * np.random.default_rng(0).normal(size=len(density.start))
    value, slope = density.negative(theta)
    model.load_state_dict(model.state_dict() | density.state(theta))
    model.train()
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    theirs = float(objective(model(*model.train_inputs), model.train_targets).detach())
    assert value == pytest.approx(-theirs, rel=1e-6)
    numeric = optimize.approx_fprime(theta, lambda t: density.negative(t)[0], 1e-6)
    assert slope == pytest.approx(numeric, rel=1e-3, abs=2e-5)


def test_density_turns_back_where_the_matrix_is_not_positive_definite():
    x = torch.zeros(3, 1, dtype=torch.float64)
    density = Density(build(x, torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64), ModelSettings()), x, x[:, 0])
    theta = density.start
    theta[1] = -80.0
    value, slope = density.negative(theta)
    assert value > 1e20
    assert not slope.any()


def test_a_warp_tells_numbers_beyond_those_fitted_from_one_another():
    """Its ends are those of the cube, not the smallest and largest number that a fit has seen."""
    x, y = _data()
    x = 0.3 + 0.4 * x
    process = GaussianProcess(x, y, fit(x, y, ModelSettings(warp=True)), ModelSettings(warp=True))
    mean, _ = process.posterior(torch.tensor([[0.72, 0.5], [0.9, 0.5]], dtype=torch.float64))
    assert float(mean[0]) != pytest.approx(float(mean[1]), abs=1e-3)


# -- categoricals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [2, 3, 30])
@pytest.mark.parametrize(
    ("kernel", "profile"),
    [
        ("matern", lambda r: (1 + np.sqrt(5) * r + 5 / 3 * r**2) * np.exp(-np.sqrt(5) * r)),
        ("rbf", lambda r: np.exp(-(r**2) / 2)),
    ],
)
def test_two_options_are_at_hamming_distance_one_however_many_there_are(options, kernel, profile):
    space = Space(
        {"x": Float(0, 1), "op": Categorical([f"o{index}" for index in range(options)]), "act": Categorical("uv")}
    )
    encoding = Encoding(space)
    points = [
        {"x": 0.1, "op": "o0", "act": "u"},
        {"x": 0.1, "op": "o1", "act": "u"},
        {"x": 0.4, "op": "o1", "act": "v"},
    ]
    module = MixedKernel(kernel, encoding.width, encoding.hot)
    # The mode of LogNormal(sqrt(2) + log(3) / 2, sqrt(3)), for three parameters.
    expected = torch.full((3,), np.exp(np.sqrt(2) - 3) * np.sqrt(3), dtype=torch.float64)
    torch.testing.assert_close(module.length_scales.detach(), expected)
    module.length_scales.data.copy_(torch.tensor([0.5, 2.0, 4.0]))
    rows = torch.from_numpy(encoding.encode(points))
    matrix = module(rows).to_dense().detach().numpy()
    assert matrix[0, 0] == pytest.approx(1.0)
    assert matrix[0, 1] == pytest.approx(profile(1 / 2.0))
    assert matrix[1, 2] == pytest.approx(profile(np.hypot(0.3 / 0.5, 1 / 4.0)))
    assert matrix[0, 2] == pytest.approx(profile(np.sqrt(0.6**2 + 0.5**2 + 0.25**2)))


@pytest.mark.parametrize("settings", [ModelSettings(), ModelSettings("rbf"), ModelSettings(warp=True)], ids=str)
def test_a_fit_finds_the_categorical_that_matters(settings):
    options = Categorical("abcd")
    encoding = Encoding(Space({"op": options, "noise": options, "x": Float(0, 1)}))
    rng = random.Random(0)
    points = [encoding.space.sample(rng) for _ in range(40)]
    x = torch.from_numpy(encoding.encode(points))
    y = torch.tensor([float("abcd".index(str(point["op"])) % 3) for point in points], dtype=torch.float64)
    process, trouble = Fitter(settings, FitSchedule(always=100)).process(x, y - y.mean(), x, y - y.mean(), encoding.hot)
    assert trouble is None
    op, noise, number = process.model.covar_module.length_scales
    assert min(noise, number) > 2 * op
    torch.testing.assert_close(process.posterior(x)[0], y - y.mean(), rtol=0.0, atol=0.1)


# -- warping or not ----------------------------------------------------------------------------------------------------


def _fast_at_one_end(x):
    return torch.sin(1.5 * torch.log(x[:, 0] + 2e-3)) + 0.2 * x[:, 1]


def _even(x):
    return torch.sin(6 * x[:, 0]) + x[:, 1]


@pytest.mark.parametrize(("function", "warped"), [(_fast_at_one_end, True), (_even, False)])
def test_a_warp_is_taken_where_the_evidence_for_it_is_very_strong(function, warped):
    x = torch.rand(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = function(x)
    y = (y - y.mean()) / y.std()
    process, trouble = Fitter(ModelSettings(warp="auto"), FitSchedule(always=100)).process(x, y, x, y)
    assert trouble is None
    assert process.settings.warp is warped


@pytest.mark.parametrize(
    ("settings", "results", "columns", "one_hot", "fits"),
    [
        (ModelSettings(), 12, 2, (), [False]),
        (ModelSettings(warp=True), 12, 2, (), [True]),
        (ModelSettings(warp="auto"), 12, 2, (), [True, False]),
        (ModelSettings(warp="auto"), 6, 2, (), [False]),  # as many hyperparameters as results
        (ModelSettings(warp="auto"), 12, 3, ((0, 3),), [False]),  # nothing to warp
        (ModelSettings(warp="auto"), 12, 4, ((0, 3),), [True, False]),
    ],
)
def test_which_kinds_are_fitted(monkeypatch, settings, results, columns, one_hot, fits):
    """Each once, however often they are asked for."""
    tried = []
    monkeypatch.setattr(fitting, "fit", lambda x, y, kind: tried.append(kind.warp) or build(x, y, kind).state_dict())
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(results, columns, dtype=torch.float64, generator=generator)
    for start, width in one_hot:
        x[:, start : start + width] = torch.eye(width, dtype=torch.float64)[torch.arange(results) % width]
    y = torch.randn(results, dtype=torch.float64, generator=generator)
    fitter = Fitter(settings, FitSchedule(always=100))
    for _ in range(2):
        fitter.process(x, y, x, y, one_hot)
    assert tried == fits


def test_the_other_kind_stands_in_where_a_fit_fails(monkeypatch):
    def broken(x, y, settings):
        if settings.warp:
            raise FitError("no minimum")
        return fit(x, y, settings)

    monkeypatch.setattr(fitting, "fit", broken)
    x, y = _data()
    for warp in (True, "auto"):
        process, _ = Fitter(ModelSettings(warp=warp), FitSchedule()).process(x, y, x, y)
        assert process.settings.warp is False
        expected = fit(x, y, ModelSettings())
        assert all(torch.equal(value, expected[name]) for name, value in process.hyperparameters.items())


# -- the schedule ------------------------------------------------------------------------------------------------------


def test_schedule_refits_always_then_ever_more_rarely():
    schedule = FitSchedule(always=10, growth=1.5)
    assert [schedule.last(n) for n in (1, 9, 10, 11, 14, 15, 21, 22, 33)] == [1, 9, 10, 10, 10, 15, 15, 22, 33]


def test_schedule_bounds_what_a_fit_sees():
    y = torch.linspace(0, 1, 1000, dtype=torch.float64)
    rows = FitSchedule(largest=100).rows(y)
    assert len(rows) == len(set(rows.tolist())) == 100
    assert set(range(950, 1000)) <= set(rows.tolist())
    assert int(rows[0]) == 0
    assert FitSchedule(largest=100).rows(y[:60]).tolist() == list(range(60))


@pytest.mark.parametrize("settings", [{"always": 0}, {"growth": 1.0}, {"largest": 3}])
def test_bad_schedules_are_refused(settings):
    with pytest.raises(ConfigError, match="refit schedule"):
        FitSchedule(**settings)


# -- scaling ---------------------------------------------------------------------------------------------------------


def _scaling(values, scale):
    return HalfRankScaling.fit(values) if scale == "half_rank" else OutcomeScaling.fit(values, scale)


@pytest.mark.parametrize("scale", get_args(Scale))
@pytest.mark.parametrize("seed", [0, 1])
def test_scaling_is_monotone_and_has_an_inverse(scale, seed):
    rng = np.random.default_rng(seed)
    values = -np.exp(rng.normal(size=60) * 1.5) * 1e4 * (1 if seed else -1)
    scaling = _scaling(values, scale)
    scaled = scaling.forward(values)
    assert scaled.mean() == pytest.approx(0.0, abs=1e-9)
    assert scaled.std() == pytest.approx(1.0)
    assert (np.argsort(scaled) == np.argsort(values)).all()
    assert scaling.inverse(scaled) == pytest.approx(values, rel=1e-6)


def test_power_draws_in_a_long_tail():
    values = -np.exp(np.random.default_rng(0).normal(size=200) * 1.5)
    linear, power = (OutcomeScaling.fit(values, scale).forward(values) for scale in ("standardize", "power"))
    assert abs(stats.skew(power)) < 0.5 * abs(stats.skew(linear))


def test_power_keeps_good_values_apart():
    """A few that are far better than the rest stay as far away; a linear map is the least that draws them in."""
    values = np.exp(np.random.default_rng(0).normal(size=200) * 1.5)
    linear, power = (OutcomeScaling.fit(values, scale).forward(values) for scale in ("standardize", "power"))
    assert power == pytest.approx(linear, abs=1e-3)


def test_half_rank_sees_but_the_order_of_the_worse_half():
    values = np.random.default_rng(0).normal(size=41)
    bad = values < np.median(values)
    worse = np.where(bad, -np.exp(200.0 * np.minimum(np.median(values) - values, 3.0)), values)
    expected = HalfRankScaling.fit(values).forward(values)
    assert HalfRankScaling.fit(worse).forward(worse) == pytest.approx(expected, abs=1e-9)


def test_half_rank_keeps_good_values_apart():
    """As with the power transformation alone: a few that are far better than the rest stay as far away."""
    values = np.exp(np.random.default_rng(0).normal(size=200) * 1.5)
    good = np.sort(values)[100:]
    scaled = HalfRankScaling.fit(values).forward(good)
    assert np.diff(scaled) / np.ptp(scaled) == pytest.approx(np.diff(good) / np.ptp(good), abs=1e-3)


def test_half_rank_spreads_good_values_that_crowd_below_a_bound():
    values = 1.0 - np.random.default_rng(0).lognormal(-3.0, 1.5, size=200)
    good = np.sort(values)[100:]
    scaled = HalfRankScaling.fit(values).forward(good)
    assert np.ptp(scaled[50:]) / np.ptp(scaled) > 1.05 * np.ptp(good[50:]) / np.ptp(good)


def test_half_rank_leaves_a_normal_sample_as_it_is():
    values = stats.norm.ppf((np.arange(101) + 0.5) / 101)
    assert HalfRankScaling.fit(values).forward(values) == pytest.approx(values / values.std(), abs=0.03)


def test_half_rank_holds_what_is_worse_than_all_for_the_worst():
    scaling = HalfRankScaling.fit(np.array([0.0, 1.0, 2.0, 3.0]))
    assert scaling.forward(np.array([-9.0])) == scaling.forward(np.array([0.0]))
    assert scaling.forward(np.array([9.0])) > scaling.forward(np.array([3.0]))


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0], [3.0], [0.0, 0.0], [1e-30, 1e-30]])
def test_values_without_spread(values):
    for scale in get_args(Scale):
        scaled = _scaling(np.array(values), scale).forward(np.array(values))
        assert np.abs(scaled).max() < 1e-6


# -- evidence --------------------------------------------------------------------------------------------------------


def test_hyperparameters_come_from_the_first_results():
    """Between scheduled fits, later results move the mean and nothing else."""
    space = SPACES["float"]
    encoding = Encoding(space)
    fitter = Fitter(ModelSettings(), FitSchedule(always=10, growth=2.0))
    early = fitted(random_history(space, 10), encoding, fitter, failures="impute", scale="standardize")
    later = fitted(random_history(space, 17), encoding, fitter, failures="impute", scale="standardize")
    for name, value in early.objectives[0].hyperparameters.items():
        assert torch.equal(value, later.objectives[0].hyperparameters[name])
    assert len(later.objectives[0].x) == 17


def test_floor_draws_in_diverged_results_and_leaves_ordinary_ones():
    rng = np.random.default_rng(0)
    accuracies = rng.uniform(0.8, 0.99, 30)
    spoiled = np.where(rng.random(30) < 0.4, -1e30, accuracies)
    assert 0.3 < floor(spoiled, 10) < 0.9
    assert floor(accuracies, 10) < 0.8
    # Later results crowd around the optimum; the first ones are not cut off for that.
    crowded = np.concatenate([rng.uniform(-3.0, 0.0, 14), np.full(100, 0.5) - 1e-3 * rng.random(100)])
    assert floor(crowded, 14) < -3.0


@pytest.mark.parametrize("gains", [[0.7] * 9, [0.0], [1e-320, 0.0], [-1e308, 1e308]])
def test_floor_of_values_without_a_scale(gains):
    assert floor(np.array(gains), 8) <= max(gains)
