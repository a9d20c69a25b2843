"""FABOLAS: its transforms and kernel by hand, its entropies in closed form, and the sampler itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from darts_hpo.errors import ConfigError
from darts_hpo.space import Categorical, Float, Int, Space
from darts_hpo.testing.budget_samplers import (
    EPOCHS,
    FRACTION,
    BudgetSamplerConformance,
    falling_loss,
    history_on_budgets,
)
from darts_hpo.testing.samplers import ask
from darts_hpo.tuning import events
from darts_hpo.tuning.acquisitions.per_cost import EntropySearch, MaxValueEntropy
from darts_hpo.tuning.encoding import Encoding
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity, Objective, OutcomeConstraint
from darts_hpo.tuning.samplers.fabolas import FabolasSampler
from darts_hpo.tuning.surrogates.backend import gpytorch
from darts_hpo.tuning.surrogates.cost_model import (
    affine_coefficients,
    log_cost_model,
    proportional_costs,
)
from darts_hpo.tuning.surrogates.fabolas_kernel import (
    LinearBasisKernel,
    budget_of_share,
    cost_basis,
    fabolas_gp,
    log_share,
    loss_basis,
)
from darts_hpo.tuning.surrogates.fidelity_data import FidelityData
from darts_hpo.tuning.surrogates.information_gain import (
    Belief,
    best_probabilities,
    entropy,
    information_gain,
    knowledge_gradient,
    normal_grid,
    quantiles,
)
from darts_hpo.tuning.surrogates.map_fit import FACTORIZATION_ERRORS

QUICK = EntropySearch(representers=20, samples=50, outcomes=4)


def tensor(*values: float) -> torch.Tensor:
    """Float64."""
    return torch.tensor(values, dtype=torch.float64)


# -- transforms and kernel ---------------------------------------------------------------------------------------


def test_log_share_by_hand() -> None:
    """0 at the minimum, 1 at the maximum, a half at their geometric mean."""
    assert log_share(np.array([1 / 64, 1 / 8, 1.0]), 1 / 64, 1.0) == pytest.approx([0.0, 0.5, 1.0])
    assert log_share(np.array([1.0, 3.0, 9.0, 27.0]), 1, 27) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert float(log_share(5.0, 5.0, 5.0)) == 1.0
    assert budget_of_share(log_share(0.3, 1 / 64, 1.0), 1 / 64, 1.0) == pytest.approx(0.3)


def test_bases_by_hand() -> None:
    """(1, (1-s)^2) and (1, s)."""
    s = tensor(0.0, 0.25, 1.0)
    assert loss_basis(s).tolist() == [[1.0, 1.0], [1.0, 0.5625], [1.0, 0.0]]
    assert cost_basis(s).tolist() == [[1.0, 0.0], [1.0, 0.25], [1.0, 1.0]]


def test_kernel_of_the_basis_is_positive_semidefinite_and_what_an_explicit_loop_gives() -> None:
    """phi(s)^T L L^T phi(s') entry by entry, for random factors."""
    generator = torch.Generator().manual_seed(0)
    kernel = LinearBasisKernel(loss_basis, active_dims=(1,))
    x = torch.rand(6, 2, generator=generator, dtype=torch.float64)
    for _ in range(5):
        a, b, c = torch.randn(3, generator=generator, dtype=torch.float64).tolist()
        kernel.initialize(factor=tensor(a, b, c))
        matrix = kernel(x).to_dense().detach()
        lower = [[a, 0.0], [b, c]]
        sigma = [[sum(lower[i][k] * lower[j][k] for k in range(2)) for j in range(2)] for i in range(2)]
        for row in range(6):
            for column in range(6):
                left = (1.0, (1.0 - float(x[row, 1])) ** 2)
                right = (1.0, (1.0 - float(x[column, 1])) ** 2)
                expected = sum(left[i] * sigma[i][j] * right[j] for i in range(2) for j in range(2))
                assert float(matrix[row, column]) == pytest.approx(expected, abs=1e-12)
        assert float(torch.linalg.eigvalsh(matrix).min()) > -1e-9
        assert torch.allclose(kernel(x, diag=True).detach(), matrix.diagonal())


def test_covariance_of_the_model_is_a_product() -> None:
    """Amplitude times Matern-5/2 over x times the kernel over s, by their formulas."""
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = fabolas_gp(x, x[:, :1], loss_basis)
    amplitude = float(model.covar_module.outputscale.detach())
    matern, basis = model.covar_module.base_kernel.kernels
    scales, sigma = matern.lengthscale.detach()[0], basis.sigma.detach()
    matrix = model.covar_module(x).to_dense().detach()
    for row in range(5):
        for column in range(5):
            distance = math.sqrt(5) * float(((x[row, :2] - x[column, :2]) / scales).norm())
            over_x = (1 + distance + distance**2 / 3) * math.exp(-distance)
            over_s = float(loss_basis(x[row, 2]) @ sigma @ loss_basis(x[column, 2]))
            assert float(matrix[row, column]) == pytest.approx(amplitude * over_x * over_s)


def test_priors_are_those_of_the_paper() -> None:
    """Amplitude, linear part and noise."""
    x = torch.rand(4, 3, dtype=torch.float64)
    priors = {
        name.rsplit(".", 1)[-1]: prior for name, _, prior, _, _ in fabolas_gp(x, x[:, :1], loss_basis).named_priors()
    }
    amplitude, factor = priors["outputscale_prior"], priors["factor_prior"]
    assert (float(amplitude.loc), float(amplitude.scale)) == (-2.0, 1.0)
    assert (float(factor.loc), float(factor.scale)) == (0.0, 1.0)
    assert isinstance(priors["noise_prior"], gpytorch.priors.HorseshoePrior)
    assert float(priors["noise_prior"].scale) == pytest.approx(0.001)


# -- entropies in closed form ------------------------------------------------------------------------------------


def two_points(cross: tuple[float, float], variance: float) -> Belief:
    """Two independent standard normal representers and one observation."""
    return Belief(
        torch.zeros(1, 2, dtype=torch.float64),
        torch.eye(2, dtype=torch.float64),
        tensor(*cross)[None],
        tensor(variance),
    )


def normals(*shape: int, seed: int = 0) -> torch.Tensor:
    """Repeatable."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_entropy_and_probabilities_of_the_best() -> None:
    """ln 2 for a fair coin, 0 for certainty; counting by hand."""
    assert float(entropy(tensor(0.5, 0.5))) == pytest.approx(math.log(2))
    assert float(entropy(tensor(1.0, 0.0))) == 0.0
    samples = torch.stack([tensor(1, 2, 0), tensor(3, 2, 0), tensor(0, 5, 1), tensor(0, 1, 9)])
    assert best_probabilities(samples).tolist() == [0.25, 0.5, 0.25]


def test_an_independent_observation_gains_exactly_nothing() -> None:
    """Its outcome says nothing about the representers."""
    gain = information_gain(two_points((0.0, 0.0), 1.3), normals(100, 2), normals(100, seed=1), quantiles(8))
    assert gain.tolist() == [0.0]


def test_an_observation_that_tells_the_best_gains_the_whole_entropy() -> None:
    """The noise-free difference of two points has the sign that decides between them."""
    base = normals(400, 2)
    gain = information_gain(two_points((1.0, -1.0), 2.0), base, normals(400, seed=1), quantiles(8))
    assert float(gain) == pytest.approx(float(entropy(best_probabilities(base))), abs=1e-12)


def test_gain_of_a_noisy_observation_against_the_closed_form() -> None:
    """Given y = f1 - f2 + noise, the first is best with probability Phi(y rho / sqrt(...))."""
    noise = 1.5
    gain = information_gain(
        two_points((1.0, -1.0), 2.0 + noise), normals(20_000, 2), normals(20_000, seed=1), quantiles(32)
    )
    # f1 - f2 given y is normal with mean 2 y / (2 + noise) and variance 2 - 4 / (2 + noise).
    y = quantiles(4001) * math.sqrt(2 + noise)
    p = torch.special.ndtr(2 * y / (2 + noise) / math.sqrt(2 - 4 / (2 + noise)))
    expected = math.log(2) - float(entropy(torch.stack([p, 1 - p], dim=-1)).mean())
    assert float(gain) == pytest.approx(expected, abs=0.01)


def test_less_noise_gains_more() -> None:
    """Monotone in the noise, between nothing and everything."""
    gains = [
        float(
            information_gain(
                two_points((1.0, -1.0), 2.0 + noise), normals(4000, 2), normals(4000, seed=1), quantiles(16)
            )
        )
        for noise in (0.0, 0.5, 2.0, 20.0)
    ]
    assert gains == sorted(gains, reverse=True)
    assert 0 < gains[-1] < gains[0] <= math.log(2) + 1e-9


def test_knowledge_gradient_of_one_alternative() -> None:
    """Against a known 0, an unknown of mean m and standard deviation s is worth s h(-|m| / s)."""
    for mean, deviation in ((0.0, 1.0), (-0.5, 0.7), (0.4, 0.3)):
        belief = Belief(
            tensor(0.0, mean)[None],
            torch.eye(2, dtype=torch.float64),
            tensor(0.0, deviation**2)[None],
            tensor(deviation**2),
        )
        z = -abs(mean) / deviation
        expected = deviation * (math.exp(-z * z / 2) / math.sqrt(2 * math.pi) + z * 0.5 * math.erfc(-z / math.sqrt(2)))
        assert float(knowledge_gradient(belief, *normal_grid(601))) == pytest.approx(expected, abs=2e-4)


def test_answers_still_out_take_away_what_they_will_tell() -> None:
    """The observation that runs already is worth nothing a second time, up to its noise."""
    belief = two_points((1.0, -1.0), 2.0 + 1e-6)
    after = belief.after(
        cross=tensor(1.0, -1.0)[None],
        between=tensor(2.0)[None],
        covariance=tensor(2.0 + 1e-6)[None],
        draws=normals(4, 1),
    )
    assert after.mean.shape == (4, 2)
    assert float(after.variance) == pytest.approx(2e-6, rel=1e-3)
    assert torch.allclose(after.cross, torch.zeros(1, 2, dtype=torch.float64), atol=1e-5)
    # Two draws of opposite sign move the means in opposite directions by slope times deviation.
    assert torch.allclose(after.mean[:, 0], -after.mean[:, 1])


# -- costs -------------------------------------------------------------------------------------------------------


def test_unknown_costs_are_proportional_to_the_budget() -> None:
    """By the median rate of the known ones; by the budgets where none is known."""
    nan = math.nan
    assert proportional_costs(np.array([nan, nan]), np.array([1.0, 4.0])).tolist() == [1.0, 4.0]
    assert proportional_costs(np.array([10.0, nan]), np.array([1.0, 4.0])).tolist() == [10.0, 40.0]


def test_affine_costs_are_recovered() -> None:
    """Seconds 6 + 54 share: a tenth is fixed; never less than the overhead."""
    share = np.array([0.1, 0.25, 0.5, 1.0])
    assert affine_coefficients(share, 6 + 54 * share, 0.01) == pytest.approx((0.1, 0.9))
    assert affine_coefficients(share, 60 * share, 0.05) == pytest.approx((0.05, 0.95))
    assert affine_coefficients(share, np.full(4, math.nan), 0.05) == pytest.approx((0.05, 0.95))


def test_cost_model_extrapolates_a_power_law_and_adds_the_overhead() -> None:
    """Trained below a quarter of the budget, it predicts a full trial within a fifth."""
    rng = np.random.default_rng(0)
    budget = np.repeat([1 / 64, 1 / 32, 1 / 16, 1 / 4], 6)
    position = log_share(budget, 1 / 64, 1.0)
    rows = torch.as_tensor(np.column_stack([rng.random((24, 2)), position]))
    full = rows.clone()
    full[:, -1] = 1.0
    model = log_cost_model(rows, 100.0 * budget, full, overhead=0.1)
    with torch.no_grad():
        predicted = model(full).squeeze(-1).numpy()
    assert predicted == pytest.approx(110.0, rel=0.2)
    assert model.overhead == pytest.approx(10.0, rel=0.2)


# -- data --------------------------------------------------------------------------------------------------------


def observed(values: list[float | None], *, direction: str = "minimize", budget: float = 1.0) -> History:
    """A history over one float, one trial per value; None fails."""
    objective = Objective("loss", "minimize" if direction == "minimize" else "maximize")
    history = History(Space({"x": Float(0, 1)}), (objective,), fidelity=FRACTION)
    for number, value in enumerate(values):
        history = events.start(events.ask(history, {"x": number / 10}, budget=budget), number)
        if value is None:
            history = events.fail(history, number, "diverged")
        else:
            history = events.tell(history, number, {"loss": value}, seconds=30.0)
    return history


def data_of(history: History, log: bool = True) -> FidelityData:
    """With the default encoding."""
    assert history.fidelity is not None
    return FidelityData.of(history, history.fidelity, Encoding(history.space), log=log)


def test_logarithms_are_taken_of_positive_losses_only() -> None:
    """Not of accuracies, not of losses with a value at 0, not when switched off."""
    assert data_of(observed([0.1, 0.2, 0.4])).scale.log
    assert not data_of(observed([0.1, 0.2, 0.4], direction="maximize")).scale.log
    assert not data_of(observed([0.1, 0.0, 0.4])).scale.log
    assert not data_of(observed([0.1, 0.2, 0.4]), log=False).scale.log
    data, history = data_of(observed([0.1, 0.2, 0.4])), observed([0.1, 0.2, 0.4])
    assert [data.scale.value(float(y), history) for y in data.y] == pytest.approx([0.1, 0.2, 0.4])
    assert data.y[0] > data.y[1] > data.y[2]
    assert data.y[0] - data.y[1] == pytest.approx(data.y[1] - data.y[2])


def test_failures_get_the_worst_of_their_budget() -> None:
    """And nothing is NaN."""
    data = data_of(observed([0.1, None, 0.4]))
    assert data.failed.tolist() == [False, False, True] or data.failed.tolist() == [False, True, False]
    assert float(data.y[data.failed][0]) == pytest.approx(float(data.y.min()))
    assert np.isfinite(data.y).all()


def test_violated_constraints_count_as_failures() -> None:
    """The best value does not help where it is not allowed."""
    history = observed([0.1, 0.2, 0.4])
    history = replace(history, constraints=(OutcomeConstraint("loss", ">=", 0.15),))
    data = data_of(history)
    assert data.failed.tolist() == [True, False, False]
    assert float(data.y[0]) == pytest.approx(float(data.y[2]))


def test_costs_of_resumed_budgets_add_up() -> None:
    """A new trial at 9 epochs would pay for the way there as well; data fractions do not."""
    for fidelity, expected in ((EPOCHS, [10.0, 30.0]), (replace(EPOCHS, resumes=False), [10.0, 20.0])):
        history = History(Space({"x": Float(0, 1)}), fidelity=fidelity)
        history = events.start(events.ask(history, {"x": 0.5}, budget=3.0), 0)
        history = events.tell(history, 0, {"value": 0.5}, seconds=10.0)
        history = events.start(events.promote(history, 0, 9.0), 0)
        history = events.tell(history, 0, {"value": 0.6}, seconds=20.0)
        assert data_of(history).cost.tolist() == expected


# -- the sampler -------------------------------------------------------------------------------------------------


def quick_fabolas() -> FabolasSampler:
    """Small, for tests."""
    return FabolasSampler(QUICK, n_initial=4, candidates=24, fit_steps=15)


class TestFabolas(BudgetSamplerConformance):
    """With entropy search."""

    build_sampler = quick_fabolas


def test_the_first_trials_run_each_point_at_the_small_budgets_of_the_paper() -> None:
    """1/64, 1/32, 1/16, 1/8 of the data, then the next point."""
    sampler, history = FabolasSampler(n_initial=8), history_on_budgets(0)
    for seed in range(8):
        suggestion = ask(sampler, history, seed)
        history = events.ask(history, suggestion.point, budget=suggestion.budget)
    assert [trial.budget for trial in history] == pytest.approx([1 / 64, 1 / 32, 1 / 16, 1 / 8] * 2)
    points = [dict(trial.point) for trial in history]
    assert points[:4] == [points[0]] * 4
    assert points[4:] == [points[4]] * 4
    assert points[0] != points[4]


@pytest.mark.parametrize("acquisition", [QUICK, MaxValueEntropy(values=4, outcomes=16)])
def test_the_model_chooses_a_cheap_budget_and_says_what_it_is_worth(
    acquisition: EntropySearch | MaxValueEntropy,
) -> None:
    """Among trials at all budgets, one below the full budget pays most."""
    history = history_on_budgets(16)
    for trial in history_on_budgets(2, seed=5):  # and some answers are out
        history = events.ask(history, trial.point, budget=trial.budget)
    suggestion = ask(FabolasSampler(acquisition, candidates=48, fit_steps=30), history, 0)
    assert suggestion.budget is not None
    assert suggestion.budget < 0.5
    assert math.isfinite(suggestion.labels["acquisition"])


def test_incumbent_is_the_best_prediction_at_the_full_budget_not_the_smallest_loss() -> None:
    """At small budgets losses are larger; a mediocre full trial must not win by that."""
    sampler, history = FabolasSampler(QUICK), history_on_budgets(24)
    incumbent = sampler.incumbent(history)
    assert incumbent is not None
    losses = {repr(dict(trial.point)): falling_loss(trial.point, 1.0) for trial in history}
    ranks = sorted(losses.values())
    assert losses[repr(dict(incumbent.point))] <= ranks[2]
    assert incumbent.value == pytest.approx(losses[repr(dict(incumbent.point))], abs=0.08)
    assert sampler.incumbent(history_on_budgets(0)) is None


def test_spaces_with_constraints_and_categories_are_respected() -> None:
    """Every candidate is decoded and checked; ask validates."""
    space = Space(
        {"x": Float(0, 1), "y": Float(0, 1), "n": Int(1, 3), "op": Categorical(("a", "b"))},
        constraints=("x + y <= 0.6",),
    )
    history = history_on_budgets(14, space=space)
    for seed in range(3):
        ask(FabolasSampler(QUICK, candidates=24, fit_steps=15), history, seed)


@pytest.mark.parametrize(
    "wrong", [{"design": []}, {"design": [1.5]}, {"overhead": 1.0}, {"n_initial": 1}, {"candidates": 2}]
)
def test_arguments_out_of_range(wrong: dict[str, object]) -> None:
    """Each is named with what was expected."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        FabolasSampler(**wrong)  # type: ignore[arg-type]


def test_threads_are_restored() -> None:
    """One while it thinks."""
    before = torch.get_num_threads()
    ask(FabolasSampler(QUICK, candidates=24, fit_steps=15), history_on_budgets(12), 0)
    assert torch.get_num_threads() == before


def test_a_model_that_cannot_be_fitted_falls_back_to_the_design(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suggestion says so; the incumbent is the best at the largest budget."""

    def fail(*_: object) -> None:
        raise FACTORIZATION_ERRORS[0]

    sampler, history = FabolasSampler(QUICK), history_on_budgets(16)
    monkeypatch.setattr(sampler, "fit", fail)
    assert ask(sampler, history, 0).labels["fallback"] == "NotPSDError"
    incumbent, best = sampler.incumbent(history), history.best()
    assert incumbent is not None
    assert best is not None
    assert incumbent.point == best[0].point
    assert incumbent.value == best[1].values["loss"]


def test_a_space_that_is_used_up_is_repeated() -> None:
    """Two points at one budget: the third trial repeats one, and says why."""
    space = Space({"op": Categorical(("a", "b"))})
    history = History(space, (Objective("loss", "minimize"),), fidelity=Fidelity(5, 5))
    for number, option in enumerate("abab"):
        history = events.start(events.ask(history, {"op": option}, budget=5.0), number)
        history = events.tell(history, number, {"loss": 1.0 + number % 2}, seconds=3.0)
    suggestion = ask(FabolasSampler(QUICK, n_initial=2, candidates=8, fit_steps=5), history, 0)
    assert suggestion.labels["fallback"] == "everything was tried"
