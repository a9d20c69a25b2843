"""What FABOLAS, multi-task and multi-fidelity samplers have in common: they choose a point *and* its budget."""

from __future__ import annotations

import math
import random
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darts_hpo.errors import ConfigError
from darts_hpo.space import Categorical, Float, Point, Value
from darts_hpo.tuning.acquisitions.per_cost import GainPerCost, Question, Score
from darts_hpo.tuning.encoding import Encoding
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity
from darts_hpo.tuning.samplers.base import Incumbent, Sampler, Suggestion
from darts_hpo.tuning.surrogates.backend import gpytorch, numerics
from darts_hpo.tuning.surrogates.fidelity_data import FidelityData, distinct_points, required_fidelity
from darts_hpo.tuning.surrogates.map_fit import FACTORIZATION_ERRORS
from darts_hpo.tuning.trial import Result


@dataclass(frozen=True)
class Models:
    """What a sampler fits.

    Args:
        gain: a BoTorch model of the standardized gain over ``(x, fidelity coordinate)``.
        cost: a deterministic BoTorch model of the cost over the same rows.
    """

    gain: Any
    cost: Any


class FidelityAwareSampler(Sampler):
    """Fits a model across budgets and proposes the point and budget with the largest gain at the full budget per cost.

    Every suggestion starts a new trial, which pays for its whole budget, also where budgets are epochs that could be
    resumed. Where a scheduler gives the budget, only the point is chosen.

    The first ``n_initial`` trials form a design: every random point runs at each of :meth:`first_budgets` in turn.

    Args:
        acquisition: gain per cost.
        n_initial: trials before the model takes over.
        overhead: what a trial costs at least, besides its budget, as a share of a full trial. Without it, the
            smallest budget nearly always pays most.
        log: model the logarithm of the objective, where that is a loss to be minimized and all values are positive;
            otherwise, and with False, the value itself.
        candidates: pairs of point and budget that compete, before the best ones are refined.
        fit_steps: of L-BFGS-B at most, for every model.

    Raises:
        ConfigError: an argument is out of range.
    """

    chooses_budget = True

    def __init__(
        self,
        acquisition: GainPerCost,
        n_initial: int,
        overhead: float,
        log: bool,
        candidates: int,
        fit_steps: int,
    ) -> None:
        if n_initial < 2 or candidates < 8:
            raise ConfigError(f"n_initial={n_initial}, candidates={candidates}: expected at least 2 and at least 8.")
        if not 0.0 <= overhead < 1.0:
            raise ConfigError(f"overhead={overhead}: expected a share of a full trial's cost, at least 0, below 1.")
        self.acquisition, self.n_initial = acquisition, n_initial
        self.overhead, self.log, self.candidates, self.fit_steps = overhead, log, candidates, fit_steps

    @abstractmethod
    def coordinate(self, budget: NDArray[np.float64], fidelity: Fidelity) -> NDArray[np.float64]:
        """Budgets as the model sees them; the same shape."""

    @abstractmethod
    def first_budgets(self, fidelity: Fidelity) -> NDArray[np.float64]:
        """At which every point of the design runs, in this order."""

    @abstractmethod
    def budgets(self, fidelity: Fidelity, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Budgets that may be proposed, shape ``[count]``; the full one is among them in the long run."""

    def allowed(self, budget: float, fidelity: Fidelity) -> float:
        """The nearest budget that can be proposed."""
        return fidelity.rounded(budget)

    @abstractmethod
    def fit(self, rows: Tensor, data: FidelityData, fidelity: Fidelity) -> Models:
        """The models of gain and cost.

        Args:
            rows: shape ``[n, d + 1]``, points with their fidelity coordinates.
            data: the same rows with what was observed.
            fidelity: range of budgets.
        """

    def suggest(self, history: History, *, seed: int, budget: float | None = None) -> Suggestion:
        """The point and the budget with the largest gain per cost; see :class:`Sampler`.

        Labels: ``design`` for the first trials, ``fallback`` with the reason where the model failed, else
        ``acquisition`` (gain per cost).
        """
        fidelity = required_fidelity(history, type(self).__name__)
        encoding = Encoding(history.space)
        data = FidelityData.of(history, fidelity, encoding, log=self.log)
        rng = np.random.default_rng(seed)
        if len(history.proposals) < self.n_initial or data.observed < 2:
            return self._designed(history, fidelity, encoding, rng, budget)
        with _quiet(seed):
            try:
                rows = self._rows(data.x, data.budget, fidelity)
                models = self.fit(rows, data, fidelity)
                return _Search(self, history, fidelity, encoding, data, models, rng, budget).best(seed)
            except FACTORIZATION_ERRORS as error:
                suggestion = self._designed(history, fidelity, encoding, rng, budget)
                return Suggestion(suggestion.point, suggestion.budget, {"fallback": type(error).__name__})

    def incumbent(self, history: History) -> Incumbent | None:
        """The observed point with the best posterior mean at the full budget (section 4.3 of the FABOLAS paper).

        None where nothing was observed. It need never have run at the full budget.

        Raises:
            ConfigError: the study has no budgets, or several objectives.
        """
        fidelity = required_fidelity(history, type(self).__name__)
        encoding = Encoding(history.space)
        data = FidelityData.of(history, fidelity, encoding, log=self.log)
        points, originals = distinct_points(data)
        if not len(points):
            return None
        with _quiet(0):
            try:
                models = self.fit(self._rows(data.x, data.budget, fidelity), data, fidelity)
                full = np.full(len(points), fidelity.maximum)
                with torch.no_grad():
                    mean = models.gain.posterior(self._rows(points, full, fidelity)).mean.squeeze(-1)
            except FACTORIZATION_ERRORS:  # without a model, the best at the largest budget is what is known
                observed = history.best()
                return None if observed is None else Incumbent(observed[0].point, _value(history, observed[1]))
        best = int(mean.argmax())
        return Incumbent(originals[best], data.scale.value(float(mean[best]), history))

    def _rows(self, points: NDArray[np.float64], budget: NDArray[np.float64], fidelity: Fidelity) -> Tensor:
        coordinate = self.coordinate(budget, fidelity)
        return torch.as_tensor(np.concatenate([points, coordinate[:, None]], axis=1))

    def _designed(
        self,
        history: History,
        fidelity: Fidelity,
        encoding: Encoding,
        rng: np.random.Generator,
        budget: float | None,
    ) -> Suggestion:
        budgets = self.first_budgets(fidelity)
        number = len(history.proposals)
        position = number % len(budgets)
        wanted = self.allowed(float(budgets[position]), fidelity)
        point: Point = history.proposals[number - position].point if position else {}
        if not position or budget is not None or _taken(history, point, wanted):
            point = _apart(history, encoding, rng)
        return Suggestion(dict(point), wanted if budget is None else budget, {"design": position})


def checked_design(design: Sequence[float]) -> tuple[float, ...]:
    """Positions on the logarithmic scale of budgets.

    Raises:
        ConfigError: there is none, or one lies outside [0, 1].
    """
    if not design or not all(0.0 <= position <= 1.0 for position in design):
        raise ConfigError(f"design={list(design)}: expected positions from 0 (minimum) to 1 (maximum).")
    return tuple(design)


class _Search:
    """Candidates, their scores and their refinement, for one suggestion."""

    def __init__(
        self,
        sampler: FidelityAwareSampler,
        history: History,
        fidelity: Fidelity,
        encoding: Encoding,
        data: FidelityData,
        models: Models,
        rng: np.random.Generator,
        budget: float | None,
    ) -> None:
        self.sampler, self.history, self.fidelity, self.encoding = sampler, history, fidelity, encoding
        self.data, self.models, self.rng, self.budget = data, models, rng, budget

    def best(self, seed: int) -> Suggestion:
        """The best pair of point and budget that is new."""
        random_points = self._random(self.sampler.candidates // 2)
        with torch.no_grad():
            observed, _ = distinct_points(self.data)
            seeds = self._leaders(np.concatenate([random_points, observed]), 6)
        near = self._near(np.repeat(seeds, max(self.sampler.candidates // 12, 1), axis=0), None)
        points = np.concatenate([random_points, near, seeds])
        with torch.no_grad():
            score = self.sampler.acquisition.score(self._question(np.concatenate([points, observed]), seed))
        budget = self._budgets(len(points))
        points, budget, value = self._scored(score, points, budget)
        for width in (0.1, 0.03, 0.01):
            top = np.argsort(-value, kind="stable")[:5]
            around = self._near(np.repeat(points[top], 12, axis=0), width)
            moved = self._moved(np.repeat(budget[top], 12)[: len(around)], width)
            more_points, more_budget, more_value = self._scored(score, around, moved)
            points, budget = np.concatenate([points, more_points]), np.concatenate([budget, more_budget])
            value = np.concatenate([value, more_value])
        return self._chosen(points, budget, value)

    def _question(self, pool: NDArray[np.float64], seed: int) -> Question:
        full = self.sampler.coordinate(np.array([self.fidelity.maximum]), self.fidelity)
        return Question(
            model=self.models.gain,
            cost_model=self.models.cost,
            pool=torch.as_tensor(np.unique(pool, axis=0)),
            target=float(full[0]),
            pending=self.sampler._rows(self.data.pending_x, self.data.pending_budget, self.fidelity),
            generator=torch.Generator().manual_seed(seed),
        )

    def _scored(
        self, score: Score, points: NDArray[np.float64], budget: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        if not len(points):
            return points, budget, np.zeros(0)
        return points, budget, score(self.sampler._rows(points, budget, self.fidelity)).numpy()

    def _chosen(
        self, points: NDArray[np.float64], budget: NDArray[np.float64], value: NDArray[np.float64]
    ) -> Suggestion:
        order = np.argsort(-value, kind="stable")
        for index in order:
            point = self.encoding.decode(points[index])
            # Encoding and decoding may round a point across the border of a constraint.
            if self.history.space.satisfies(point) and not _taken(self.history, point, float(budget[index])):
                return self._suggestion(point, float(budget[index]), float(value[index]))
        # A small space where everything was tried: repeating is what is left.
        return Suggestion(self._sampled(1)[0], float(budget[order[0]]), {"fallback": "everything was tried"})

    def _suggestion(self, point: Point, budget: float, value: float) -> Suggestion:
        labels = {"acquisition": value} if math.isfinite(value) else {"fallback": "no finite acquisition value"}
        return Suggestion(self.history.space.validate(point), budget, labels)

    def _budgets(self, count: int) -> NDArray[np.float64]:
        if self.budget is not None:
            return np.full(count, self.budget)
        return self._rounded(self.sampler.budgets(self.fidelity, count, self.rng))

    def _moved(self, budget: NDArray[np.float64], width: float) -> NDArray[np.float64]:
        """Budgets near others; half of them stay where they are."""
        if self.budget is not None:
            return budget
        drawn = self.sampler.budgets(self.fidelity, len(budget), self.rng)
        # A budget drawn afresh, pulled towards the old one, stays inside the range.
        pulled = budget * (drawn / budget) ** min(3.0 * width, 1.0)
        kept = self.rng.random(len(budget)) < 0.5
        return self._rounded(np.where(kept, budget, pulled))

    def _rounded(self, budget: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([self.sampler.allowed(float(b), self.fidelity) for b in budget])

    def _random(self, count: int) -> NDArray[np.float64]:
        return self.encoding.encode(self._sampled(count))

    def _sampled(self, count: int) -> list[dict[str, Value]]:
        source = random.Random(int(self.rng.integers(2**31)))
        return [self.history.space.sample(source) for _ in range(count)]

    def _leaders(self, points: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        """The points with the best posterior means at the full budget."""
        full = np.full(len(points), self.fidelity.maximum)
        mean = self.models.gain.posterior(self.sampler._rows(points, full, self.fidelity)).mean.squeeze(-1)
        return points[np.argsort(-mean.numpy(), kind="stable")[:count]]

    def _near(self, points: NDArray[np.float64], width: float | None) -> NDArray[np.float64]:
        """One valid neighbour of each point; invalid ones are replaced by the point itself."""
        moved = []
        for row in points:
            step = float(self.rng.choice([0.2, 0.05, 0.02])) if width is None else width
            candidate = _neighbour(row, self.encoding, step, self.rng)
            point = self.encoding.decode(candidate)
            moved.append(self.encoding.snap(candidate) if self.history.space.satisfies(point) else row)
        return np.array(moved).reshape(len(moved), self.encoding.width)


def _neighbour(
    row: NDArray[np.float64], encoding: Encoding, width: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A row moved by normal steps; now and then another option of a categorical or the next integer."""
    result = row.copy()
    for column in encoding.columns:
        if isinstance(column.parameter, Categorical):
            if rng.random() < 0.2:
                result[column.columns] = np.eye(column.width)[rng.integers(column.width)]
            continue
        step = width
        if not isinstance(column.parameter, Float):
            step = max(width, 1.0 / (column.parameter.high - column.parameter.low + 1))
        moved = result[column.start] + step * rng.standard_normal()
        # Steps across a border are reflected: clipping would pile candidates up on it.
        result[column.start] = np.clip(abs(moved) if moved < 0 else 2.0 - moved if moved > 1 else moved, 0.0, 1.0)
    return result


@contextmanager
def _quiet(seed: int) -> Iterator[None]:
    """:func:`numerics`, and PyTorch is told that sparse indices, of which task kernels make many, need no checks."""
    with numerics(seed), torch.sparse.check_sparse_tensor_invariants(enable=False), warnings.catch_warnings():
        # Where all values are equal, or a point is repeated at several budgets, variances round to below zero.
        warnings.simplefilter("ignore", category=gpytorch.utils.warnings.NumericalWarning)
        yield


def _value(history: History, result: Result) -> float:
    return result.values[history.objectives[0].name]


def _taken(history: History, point: Point, budget: float) -> bool:
    """Whether exactly this was proposed before."""
    return any(trial.budget == budget and dict(trial.point) == dict(point) for trial in history.proposals)


def _apart(history: History, encoding: Encoding, rng: np.random.Generator, attempts: int = 32) -> dict[str, Value]:
    """The random point farthest from all that were proposed."""
    source = random.Random(int(rng.integers(2**31)))
    points = [history.space.sample(source) for _ in range(attempts)]
    if not history.proposals:
        return points[0]
    known = encoding.encode([trial.point for trial in history.proposals])
    distance = np.linalg.norm(encoding.encode(points)[:, None] - known[None], axis=-1).min(axis=1)
    return points[int(distance.argmax())]
