"""Sequential model-based optimization with neural networks as the surrogate (DNGO: Snoek et al. 2015)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erfcx, log_ndtr
from torch import Tensor

from darts_hpo.errors import ConfigError, unknown_name
from darts_hpo.space import Point
from darts_hpo.tuning.encoding import Encoding
from darts_hpo.tuning.history import History
from darts_hpo.tuning.outcomes import observed, pending, ranking, scalarized, with_failures
from darts_hpo.tuning.samplers.base import Suggestion
from darts_hpo.tuning.samplers.candidates import search
from darts_hpo.tuning.samplers.random import RandomSampler
from darts_hpo.tuning.samplers.ranking import LogBias, RankingSampler

_ACQUISITIONS = ("ei", "ucb")


class NeuralSampler(RankingSampler):
    """An ensemble of small networks, each with Bayesian linear regression on its last layer.

    Every network learns features of the encoded point by gradient; the posterior over its output weights is then
    computed exactly, with precisions that maximize the evidence (Snoek et al. 2015, section 3). The networks start
    from different weights and their predictions are mixed, so that the uncertainty also covers the features
    (deep ensembles: Lakshminarayanan et al. 2017). Fitting costs time linear in the number of results, where a
    Gaussian process's is cubic.

    Trials still running are given the value that the model expects of them (the kriging believer). Several
    objectives are joined by random weights, drawn anew for every proposal (ParEGO, Knowles 2006).

    Args:
        startup: random points before the first model.
        acquisition: ``ei``, the expected improvement, or ``ucb``, mean plus ``kappa`` standard deviations.
        kappa: of ``ucb``.
        members: networks in the ensemble.
        width: units of each of their two hidden layers.
        steps: of full-batch Adam per proposal.
        candidates: random points ranked per proposal, before local search.

    Raises:
        ConfigError: an argument is out of range, or the acquisition unknown.
    """

    def __init__(
        self,
        startup: int = 10,
        acquisition: str = "ei",
        kappa: float = 2.0,
        members: int = 5,
        width: int = 32,
        steps: int = 200,
        candidates: int = 1000,
    ) -> None:
        if acquisition not in _ACQUISITIONS:
            raise ConfigError(unknown_name("acquisition of the neural sampler", str(acquisition), _ACQUISITIONS))
        if startup < 2 or min(members, width, steps, candidates) < 1 or not kappa >= 0.0:
            raise ConfigError(
                f"A neural sampler with startup={startup}, members={members}, width={width}, steps={steps}, "
                f"candidates={candidates}, kappa={kappa}; expected at least 2, 1, 1, 1, 1 and 0."
            )
        self.startup, self.acquisition, self.kappa = startup, acquisition, kappa
        self.members, self.width, self.steps, self.candidates = members, width, steps, candidates

    def suggest_biased(
        self, history: History, *, seed: int, budget: float | None = None, log_bias: LogBias
    ) -> Suggestion:
        """The candidate with the greatest acquisition value; see :meth:`RankingSampler.suggest_biased`.

        For ``ucb``, which is no positive value that could be multiplied, the bias is added to it in units of the
        spread of the results.
        """
        rng = Random(seed)
        outcomes = with_failures(observed(history, self.startup), history)
        if len(outcomes) < self.startup:
            return RandomSampler().suggest(history, seed=seed)
        encoding, numbers = Encoding(history.space), np.random.default_rng(seed)
        x = encoding.encode(outcomes.points)
        y = standardized(scalarized(outcomes, numbers))
        ensemble = Ensemble.fit(
            x, y, members=self.members, width=self.width, steps=self.steps, seed=rng.getrandbits(31)
        )
        if running := pending(history):
            x_running = encoding.encode(running)
            ensemble = ensemble.told(x_running, ensemble.predict(x_running)[0])
        incumbent = float(ensemble.predict(x)[0].max())  # noise has no say in what is best

        def score(points: Sequence[Point]) -> NDArray[np.float64]:
            mean, variance = ensemble.predict(encoding.encode(points))
            deviation = np.sqrt(variance)
            if self.acquisition == "ucb":
                return np.asarray(mean + self.kappa * deviation + log_bias(points), dtype=np.float64)
            return np.asarray(log_ei(mean, deviation, incumbent) + log_bias(points), dtype=np.float64)

        starts: list[Point] = [outcomes.points[index] for index in ranking(outcomes)[:5]]
        point = search(score, history, rng, starts, random_points=self.candidates)
        if point is None:
            return RandomSampler().suggest(history, seed=rng.getrandbits(31))
        return Suggestion(point, labels={self.acquisition: float(score([point])[0])})


@dataclass(frozen=True)
class Ensemble:
    """Networks with Bayesian last layers.

    Args:
        weights: of both hidden layers, ``[members, in, out]`` and ``[members, out]``, twice.
        gram: ``[members, h, h]``, features transposed times features.
        moment: ``[members, h]``, features transposed times targets.
        alpha: ``[members]``, precision of the output weights.
        beta: ``[members]``, precision of the noise.
    """

    weights: tuple[Tensor, ...]
    gram: Tensor
    moment: Tensor
    alpha: Tensor
    beta: Tensor

    @classmethod
    def fit(
        cls, x: NDArray[np.float64], y: NDArray[np.float64], *, members: int, width: int, steps: int, seed: int
    ) -> Ensemble:
        """Learn the features by least squares, then the output layers by evidence.

        Args:
            x: shape ``[n, d]``, in the unit cube.
            y: shape ``[n]``, standardized.
            members: networks.
            width: of the hidden layers.
            steps: of Adam.
            seed: of the networks' first weights.
        """
        generator = torch.Generator().manual_seed(seed)
        inputs, targets = _inputs(x), torch.from_numpy(y).float()
        d = inputs.shape[1]

        def normal(*shape: int, scale: float) -> Tensor:
            return (torch.randn(shape, generator=generator) * scale).requires_grad_()

        weights = (
            normal(members, d, width, scale=1.5 / math.sqrt(d)),
            normal(members, 1, width, scale=0.5),
            normal(members, width, width, scale=1.0 / math.sqrt(width)),
            normal(members, 1, width, scale=0.1),
        )
        head = normal(members, width, 1, scale=1.0 / math.sqrt(width))
        optimizer = torch.optim.Adam([*weights, head], lr=1e-2)
        with torch.enable_grad():
            for step in range(steps):
                for group in optimizer.param_groups:
                    group["lr"] = 1e-2 * 0.5 * (1.0 + math.cos(math.pi * step / steps))
                predicted = (_hidden(weights, inputs) @ head).squeeze(-1)
                decay = sum((weight**2).sum() for weight in (weights[0], weights[2], head))
                loss = ((predicted - targets) ** 2).mean(dim=1).sum() + 1e-4 * decay
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        fixed = tuple(weight.detach() for weight in weights)
        features = _features(fixed, inputs)
        gram, moment = features.mT @ features, features.mT @ targets.double()
        alpha, beta = _evidence(features, targets.double())
        return cls(fixed, gram, moment, alpha, beta)

    def told(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> Ensemble:
        """The ensemble with further results in its last layers; features and precisions stay.

        Args:
            x: shape ``[n, d]``.
            y: shape ``[n]``.
        """
        features = _features(self.weights, _inputs(x))
        gram = self.gram + features.mT @ features
        return Ensemble(self.weights, gram, self.moment + features.mT @ torch.from_numpy(y), self.alpha, self.beta)

    def predict(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and variance of the noise-free value, mixed over the networks.

        Args:
            x: shape ``[n, d]``.

        Returns:
            Two of shape ``[n]``; the variance is positive.
        """
        h = self.gram.shape[-1]
        precision = self.alpha[:, None, None] * torch.eye(h, dtype=torch.float64) + self.beta[:, None, None] * self.gram
        factor = torch.linalg.cholesky(precision)
        output = torch.cholesky_solve((self.beta[:, None] * self.moment)[..., None], factor)
        features = _features(self.weights, _inputs(x))
        means = (features @ output).squeeze(-1)
        half = torch.linalg.solve_triangular(factor, features.mT, upper=False)
        variances = half.square().sum(dim=1)
        total = variances.mean(dim=0) + means.var(dim=0, unbiased=False)
        return means.mean(dim=0).numpy(), total.clamp_min(1e-10).numpy()


def _inputs(x: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(2.0 * x - 1.0).float()


def _hidden(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
    first = torch.tanh(inputs @ weights[0] + weights[1])
    return torch.tanh(first @ weights[2] + weights[3])


def _features(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Shape ``[members, n, h]``, in float64: the last hidden layer and a constant."""
    with torch.no_grad():
        hidden = _hidden(weights, inputs).double()
    return torch.cat([hidden, torch.ones_like(hidden[..., :1])], dim=-1)


def _evidence(features: Tensor, targets: Tensor, rounds: int = 20) -> tuple[Tensor, Tensor]:
    """Precisions of weights and noise that maximize the evidence, by MacKay's fixed point (Bishop 2006, 3.5.2).

    Args:
        features: shape ``[members, n, h]``.
        targets: shape ``[n]``.
        rounds: of the iteration.

    Returns:
        Two of shape ``[members]``, kept within bounds in which everything stays invertible.
    """
    members, n, _ = features.shape
    eigenvalues, basis = torch.linalg.eigh(features.mT @ features)
    eigenvalues = eigenvalues.clamp_min(0.0)
    rotated = (basis.mT @ (features.mT @ targets)[..., None]).squeeze(-1)
    alpha, beta = torch.ones(members, dtype=torch.float64), torch.full((members,), 100.0, dtype=torch.float64)
    for _ in range(rounds):
        scaled = beta[:, None] * eigenvalues
        output = beta[:, None] * rotated / (alpha[:, None] + scaled)
        effective = (scaled / (alpha[:, None] + scaled)).sum(dim=1)
        fitted = (features @ (basis @ output[..., None])).squeeze(-1)
        residual = ((targets - fitted) ** 2).sum(dim=1)
        alpha = (effective / output.square().sum(dim=1).clamp_min(1e-12)).clamp(1e-3, 1e3)
        beta = ((n - effective).clamp_min(1e-3) / residual.clamp_min(1e-12)).clamp(1.0, 1e5)
    return alpha, beta


def standardized(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values of mean 0 and standard deviation 1; all 0 where they are equal."""
    spread = float(values.std())
    if spread <= 1e-12 * max(float(np.abs(values).max()), 1e-300):
        return np.zeros(len(values))
    return np.asarray((values - values.mean()) / spread, dtype=np.float64)


def log_ei(mean: NDArray[np.float64], deviation: NDArray[np.float64], incumbent: float) -> NDArray[np.float64]:
    """Logarithm of the expected improvement above the incumbent, exact where it underflows (Ament et al. 2023)."""
    z = (mean - incumbent) / deviation
    log_density = -0.5 * z**2 - 0.5 * math.log(2.0 * math.pi)
    near = np.maximum(z, -1.0)
    direct = np.log(np.exp(-0.5 * near**2) / math.sqrt(2.0 * math.pi) + near * np.exp(log_ndtr(near)))
    far = np.clip(-z, 1.0, 1e6)
    # phi(z) + z Phi(z) = phi(z) (1 - |z| sqrt(pi / 2) erfcx(|z| / sqrt 2)); beyond 1e4 the bracket is 1 / z^2.
    bracket = 1.0 - far * math.sqrt(math.pi / 2.0) * erfcx(far / math.sqrt(2.0))
    tail = log_density + np.log(np.where(far > 1e4, far**-2.0, np.maximum(bracket, 1e-300)))
    return np.asarray(np.where(z > -1.0, direct, tail) + np.log(deviation), dtype=np.float64)
