"""Bayesian optimization with Gaussian processes."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from darts_hpo.errors import ConfigError, unknown_name
from darts_hpo.space import Point
from darts_hpo.tuning.acquisitions.base import Acquisition, Score, Situation
from darts_hpo.tuning.acquisitions.hypervolume import QLogNoisyExpectedHypervolumeImprovement
from darts_hpo.tuning.acquisitions.maximize import Domain, SearchSettings, maximize
from darts_hpo.tuning.acquisitions.noisy_improvement import LogNoisyExpectedImprovement
from darts_hpo.tuning.acquisitions.weighting import biased, product
from darts_hpo.tuning.beliefs import Belief
from darts_hpo.tuning.history import History
from darts_hpo.tuning.outcomes import pending
from darts_hpo.tuning.samplers.base import Suggestion
from darts_hpo.tuning.samplers.points import tried
from darts_hpo.tuning.samplers.ranking import LogBias, RankingSampler
from darts_hpo.tuning.samplers.sobol import SobolSampler
from darts_hpo.tuning.surrogates.backend import numerics
from darts_hpo.tuning.surrogates.evidence import Failures, Surrogate, fitted
from darts_hpo.tuning.surrogates.fitting import FitSchedule, Fitter
from darts_hpo.tuning.surrogates.gaussian_process import FitError, ModelSettings, Warp
from darts_hpo.tuning.surrogates.mixed_kernel import Kernel
from darts_hpo.tuning.surrogates.scaling import Scale

_INITIAL: Mapping[str, Any] = {"phase": "initial"}


class GPSampler(RankingSampler):
    """Fits a Gaussian process to the results and proposes where an acquisition is largest.

    The first points come from a scrambled Sobol sequence. So do further ones, where trials run side by side, until more
    of them have given a result or failed than there are parameters: a model of fewer knows no more than which corners
    of the space nobody has been to. From then on running trials are pending points: no answer is awaited, and none is
    asked for twice. Results are those at the largest budget with more of them than parameters.

    Args:
        acquisition: what makes a point worth trying; by default the logarithm of the noisy expected improvement,
            and with several objectives that of the hypervolume.
        initial: proposals before the model is asked, warm-start points included; by default ``max(2 (d + 1), 8)``.
        kernel: ``matern`` or ``rbf``, of the differences of numbers and the Hamming distances of categoricals.
        warp: learn a monotone map of every number, for objectives that change fast at one end of a parameter and
            slowly at the other; ``auto`` where that explains the results better.
        scale: of the gains: ``half_rank`` keeps of the worse half the order only, ``power`` draws in a long tail of
            bad ones by a power transformation, ``standardize`` is linear.
        failures: ``feasibility`` models failing as an outcome constraint, which learns where trials diverge and is
            not misled by those that fail by chance; ``ignore`` leaves failed trials out, ``impute`` gives them the
            worst finite gain.
        belief: what good values are thought to be, as :class:`Belief` reads it; the acquisition is multiplied by
            its density to the power ``belief_strength / n`` after ``n`` results, and every other initial point is
            drawn from it.
        belief_strength: about how many results it takes to outweigh the belief.
        candidates: random points scored per suggestion.
        local: further ones drawn around the best points known.
        restarts: climbs from the best of these.
        steps: of each climb.
        refit_always: up to so many results, every new one refits the hyperparameters.
        refit_growth: beyond, the next fit waits for so many times as many results.
        sobol_seed: of the first points.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """

    def __init__(
        self,
        acquisition: Acquisition | None = None,
        initial: int | None = None,
        kernel: Kernel = "matern",
        warp: Warp = "auto",
        scale: Scale = "half_rank",
        failures: Failures = "feasibility",
        belief: Mapping[str, Mapping[str, Any]] | None = None,
        belief_strength: float = 10.0,
        candidates: int = 256,
        local: int = 128,
        restarts: int = 6,
        steps: int = 50,
        refit_always: int = 15,
        refit_growth: float = 1.2,
        sobol_seed: int = 0,
    ) -> None:
        for what, name, valid in (
            ("kernel", kernel, get_args(Kernel)),
            ("scale", scale, get_args(Scale)),
            ("treatment of failures", failures, get_args(Failures)),
        ):
            if name not in valid:
                raise ConfigError(unknown_name(what, str(name), valid))
        if warp not in (True, False, "auto"):
            raise ConfigError(f"warp={warp!r}; expected true, false or auto.")
        if initial is not None and initial < 1:
            raise ConfigError(f"initial={initial}; expected at least one point before the model.")
        if candidates < 1 or restarts < 1 or steps < 1 or local < 0:
            raise ConfigError(
                f"candidates={candidates}, restarts={restarts}, steps={steps}, local={local}; expected at least 1, "
                "and local at least 0."
            )
        if belief_strength < 0.0:
            raise ConfigError(f"belief_strength={belief_strength}; expected a number of at least 0.")
        self.acquisition, self.initial = acquisition, initial
        self.failures, self.scale = failures, scale
        self.belief, self.belief_strength = belief, belief_strength
        self.search = SearchSettings(candidates, local, restarts, steps)
        self._sobol = SobolSampler(sobol_seed)
        self._fitter = Fitter(ModelSettings(kernel, warp), FitSchedule(refit_always, refit_growth))

    def suggest(self, history: History, *, seed: int, budget: float | None = None) -> Suggestion:
        """See :meth:`Sampler.suggest`."""
        return self._suggest(history, seed, None)

    def suggest_biased(
        self, history: History, *, seed: int, budget: float | None = None, log_bias: LogBias
    ) -> Suggestion:
        """See :meth:`RankingSampler.suggest_biased`."""
        return self._suggest(history, seed, log_bias)

    def _suggest(self, history: History, seed: int, log_bias: LogBias | None) -> Suggestion:
        acquisition = self._acquisition(history)
        belief = Belief(history.space, self.belief) if self.belief is not None else None
        initial = self.initial if self.initial is not None else max(2 * (len(history.space) + 1), 8)
        index = len(history.proposals)
        answered = {trial.number for trial, _ in history.observations} | {trial.number for trial in history.failed}
        if index < initial or len(answered) < min(initial, len(history.space) + 1) or not history.observations:
            if belief is not None and index % 2:
                return Suggestion(belief.sample(random.Random(f"{self._sobol.seed}:{index}")), labels=_INITIAL)
            return replace(self._sobol.suggest(history, seed=seed), labels=_INITIAL)
        biases = [log_bias] if log_bias is not None else []
        if belief is not None:
            biases.append(_fading(belief, self.belief_strength / max(len(history.observations), 1)))
        try:
            with numerics(seed):
                return self._modelled(history, acquisition, biases, seed)
        except FitError as error:
            point = self._sobol.suggest(history, seed=seed)
            return replace(point, labels={"phase": "fallback", "fallback": str(error)})

    @property
    def name(self) -> str:
        """``gp``."""
        return "gp"

    def _acquisition(self, history: History) -> Acquisition:
        several = len(history.objectives) > 1
        if self.acquisition is None:
            return QLogNoisyExpectedHypervolumeImprovement() if several else LogNoisyExpectedImprovement()
        if self.acquisition.several_objectives is not several:
            number = "several objectives" if several else "one objective"
            raise ConfigError(
                f"{type(self.acquisition).__name__} does not work with {number}; leave the acquisition out for the "
                "one that does."
            )
        return self.acquisition

    def _modelled(self, history: History, acquisition: Acquisition, biases: Sequence[LogBias], seed: int) -> Suggestion:
        domain = Domain(history.space)
        surrogate = fitted(history, domain.encoding, self._fitter, failures=self.failures, scale=self.scale)
        waiting = domain.rows(pending(history))
        situation = Situation(
            objectives=surrogate.objectives,
            observed=surrogate.observed,
            values=surrogate.values,
            pending=waiting,
            candidates=domain.spread(self.search.candidates, seed + 1),
            seed=seed,
            constraints=surrogate.constraints,
            bounds=surrogate.bounds,
            feasible=surrogate.feasible,
        )
        score = _weighted(acquisition, situation, [biased(bias, domain.encoding) for bias in biases])
        point, height = maximize(score, domain, self.search, seed, _incumbents(surrogate), set(tried(history)))
        labels: dict[str, Any] = {"phase": "model"}
        if math.isfinite(height):
            labels["acquisition"] = height
        if surrogate.trouble is not None:
            labels["fallback"] = surrogate.trouble
        return Suggestion(history.space.validate(point), labels=labels)


def _weighted(acquisition: Acquisition, situation: Situation, biases: Sequence[Score]) -> Score:
    """The acquisition's score, multiplied by what else bears on a point where anything does."""
    weights = list(biases)
    if situation.constraints and not acquisition.constrained:
        weights.append(situation.log_feasibility)
    return product(acquisition.log_score(situation), *weights) if weights else acquisition.score(situation)


def _incumbents(surrogate: Surrogate, number: int = 5) -> torch.Tensor:
    """The best observed rows by posterior mean, feasible ones first; with several objectives some of each."""
    share = max(1, number // len(surrogate.objectives))
    found = []
    for process in surrogate.objectives:
        mean, _ = process.posterior(surrogate.observed)
        order = torch.where(surrogate.feasible, mean, mean - 1e6).argsort(descending=True, stable=True)
        found.append(surrogate.observed[order[:share]])
    return torch.cat(found)


def _fading(belief: Belief, exponent: float) -> LogBias:
    """A belief's log density, times an exponent that falls as results come in (piBO, Hvarfner et al. 2022, eq. 6)."""

    def log_bias(points: Sequence[Point]) -> NDArray[np.float64]:
        return np.asarray(exponent * belief.log_density(points), dtype=np.float64)

    return log_bias
