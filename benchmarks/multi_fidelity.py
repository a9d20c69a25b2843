"""Epochs that multi-fidelity methods need to reach the loss of random search, on real learning curves.

    nice python -m benchmarks.multi_fidelity [--data FOLDER] [--task NAME ...] [--method NAME ...] [--seeds 20]

Four text classifiers of TaskSet (Metz et al. 2020), each trained with the same 1,000 settings of Adam. A curve has the
validation loss before training and after every 1/50 of it, called an epoch here; a trial that diverges fails in the
epoch it does. What is finished is kept in ``benchmarks/results/multi_fidelity.json`` and not run again: stop it, start
it again, it continues.

The mark is what random search reaches with 100 trials of 50 epochs, as the median over its luck: the 7th best of the
1,000 final losses, for 0.9**7 < 1/2. A method has reached it when a trial with *all* its epochs has, so that a
lucky loss on the way doesn't count. Epochs are all that were done by then, those of trials still under way included
and of failed ones up to where they diverged, for everyone, random search included.

Only settings of the table can be tried, each once, and a sampler sees the settings that were really tried. Random
search draws rows; the samplers that rank a pool of candidates (KDE, Bertrand) get rows as their pool; what TPE
proposes in the continuous space is moved to the nearest row left, which with 1,000 rows in 8 dimensions is rarely
near: a handicap of the table, not of the method.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darts_hpo.space import Float, Point, Space
from darts_hpo.tuning.encoding import Encoding
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity, Objective
from darts_hpo.tuning.samplers.base import Exhausted, Sampler, Suggestion
from darts_hpo.tuning.samplers.bertrand import BertrandSampler
from darts_hpo.tuning.samplers.kde import KDESampler
from darts_hpo.tuning.samplers.tpe import TPESampler
from darts_hpo.tuning.schedulers.asha import ASHA
from darts_hpo.tuning.schedulers.base import Scheduler
from darts_hpo.tuning.schedulers.full import FullBudget
from darts_hpo.tuning.schedulers.hyperband import Hyperband
from darts_hpo.tuning.simulation import Measurement, SimulatedStudy, Trace, simulate
from darts_hpo.tuning.study import Study

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results" / "multi_fidelity.json"
TRIALS = 100
"""Of random search."""
SHARES = (0.2, 0.5)
"""Of the epochs of random search that the other methods get: the second where the first aren't enough for the mark."""

ADAM = Space(
    {
        "learning_rate": Float(1e-8, 10.0, log=True),
        "one_minus_beta1": Float(1e-4, 1.0, log=True),
        "one_minus_beta2": Float(1e-6, 1.0, log=True),
        "epsilon": Float(1e-10, 1e3, log=True),
        "l1": Float(1e-8, 10.0, log=True),
        "l2": Float(1e-8, 10.0, log=True),
        "linear_decay": Float(1e-7, 1e-4, log=True),
        "exponential_decay": Float(1e-6, 1e-3, log=True),
    }
)
"""The ranges that TaskSet drew the table's settings from."""


class LearningCurves:
    """The table of one task.

    Args:
        path: an ``.npz`` file with hyperparameters, shape ``[n, 8]``, and validation losses, shape ``[n, 51]``.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as stored:
            settings = stored["hyperparameters"].astype(np.float64)
            self.losses: NDArray[np.float64] = stored["valid_loss"].astype(np.float64)
        for column in (1, 2):  # both betas lie close to 1: their distance from it is what has a scale
            settings[:, column] = 1.0 - settings[:, column]
        self.points: list[Point] = [ADAM.validate(dict(zip(ADAM, map(float, row), strict=True))) for row in settings]
        self.rows = Encoding(ADAM).encode(self.points)
        self._row_of = {tuple(point.values()): row for row, point in enumerate(self.points)}
        self.epochs = self.losses.shape[1] - 1
        finite = np.isfinite(self.losses)
        self.diverges = np.where(finite.all(axis=1), self.epochs + 1, np.argmin(finite, axis=1))

    def row_of(self, point: Point) -> int:
        """The row of a setting."""
        return self._row_of[tuple(point.values())]

    def __call__(self, point: Point, budget: float | None, previous: float) -> Measurement:
        """A run from one epoch to another; one simulated second per epoch."""
        row, last = self.row_of(point), self.epochs if budget is None else int(budget)
        if self.diverges[row] <= last:
            end = max(float(self.diverges[row]), previous)
            return Measurement(None, end - previous, reached=end)
        return Measurement(float(self.losses[row, last]), last - previous)

    @property
    def final(self) -> NDArray[np.float64]:
        """Losses at the end, best first; infinite where training diverged."""
        return np.sort(np.where(self.diverges <= self.epochs, np.inf, self.losses[:, -1]))

    @property
    def mark(self) -> float:
        """The median, over its luck, of the best loss that random search finds in :data:`TRIALS` rows."""
        n, miss, rank = len(self.points), 1.0, 0
        while miss > 0.5:  # probability that none of the best ``rank`` rows is drawn
            miss *= (n - TRIALS - rank) / (n - rank)
            rank += 1
        return float(self.final[rank - 1])

    @property
    def epochs_of_random_search(self) -> float:
        """Expected epochs of :data:`TRIALS` random rows, those that diverge ending when they do."""
        return TRIALS * float(np.minimum(self.diverges, self.epochs).mean())


class Table:
    """The rows that a study has left."""

    def __init__(self, curves: LearningCurves) -> None:
        self.curves = curves

    def left(self, history: History) -> NDArray[np.intp]:
        """Indices of rows not tried yet.

        Raises:
            Exhausted: there is none.
        """
        free = np.ones(len(self.curves.points), dtype=np.bool_)
        free[[self.curves.row_of(trial.point) for trial in history]] = False
        if not free.any():
            raise Exhausted("Every row of the table was tried.")
        return np.flatnonzero(free)

    def random(self, history: History, seed: int) -> Suggestion:
        """A row drawn from those left."""
        return Suggestion(self.curves.points[int(random.Random(seed).choice(self.left(history).tolist()))])

    def nearest(self, history: History, rows: NDArray[np.float64]) -> NDArray[np.intp]:
        """For each of some encoded points, the nearest row left."""
        left = self.left(history)
        distances = np.linalg.norm(self.curves.rows[left][None] - rows[:, None], axis=-1)
        return np.asarray(left[distances.argmin(axis=1)])


class RandomRows(Sampler):
    """Rows drawn at random, none twice."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def suggest(self, history: History, *, seed: int, budget: float | None = None) -> Suggestion:
        """See :meth:`Sampler.suggest`."""
        return self.table.random(history, seed)


class NearestRows(Sampler):
    """The row nearest to what another sampler proposes; random rows until its model begins."""

    def __init__(self, sampler: Sampler, table: Table) -> None:
        self.sampler, self.table = sampler, table

    def suggest(self, history: History, *, seed: int, budget: float | None = None) -> Suggestion:
        """See :meth:`Sampler.suggest`."""
        suggestion = self.sampler.suggest(history, seed=seed, budget=budget)
        if not suggestion.labels:
            return self.table.random(history, seed)
        row = self.table.nearest(history, Encoding(ADAM).encode([suggestion.point]))[0]
        return Suggestion(self.table.curves.points[row], labels=suggestion.labels)


class KDERows(KDESampler):
    """BOHB's model, its candidates moved to the nearest rows before they are ranked."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table

    def suggest(self, history: History, *, seed: int, budget: float | None = None) -> Suggestion:
        """See :meth:`Sampler.suggest`."""
        rng = np.random.default_rng(seed)
        model = None if rng.random() < self.random_fraction else self.model(history, rng)
        if model is None:
            return self.table.random(history, seed)
        rows = self.table.nearest(history, model.good.candidates(rng, self.candidates, self.bandwidth_factor))
        encoded = self.table.curves.rows[rows]
        ratios = np.log(np.maximum(model.good.density(encoded), 1e-32))
        ratios -= np.log(np.maximum(model.bad.density(encoded), 1e-32))
        return Suggestion(self.table.curves.points[rows[int(ratios.argmax())]], labels={"model_budget": model.budget})


class BertrandRows(BertrandSampler):
    """Draws by normalized expected improvement from the rows left."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table

    def candidates(self, history: History, rng: random.Random) -> Sequence[Point]:
        """All rows left, in random order."""
        left = self.table.left(history).tolist()
        rng.shuffle(left)
        return [self.table.curves.points[row] for row in left]


METHODS: Mapping[str, Callable[[Table], tuple[Sampler, Scheduler]]] = {
    "random search": lambda table: (RandomRows(table), FullBudget()),
    "Hyperband": lambda table: (RandomRows(table), Hyperband()),
    "ASHA": lambda table: (RandomRows(table), ASHA()),
    "BOHB": lambda table: (KDERows(table), Hyperband()),
    "Hyperband + GP": lambda table: (BertrandRows(table), Hyperband()),
    "ASHA + KDE": lambda table: (KDERows(table), ASHA()),
    "ASHA + TPE": lambda table: (NearestRows(TPESampler(), table), ASHA()),
}


def run(curves: LearningCurves, method: str, seed: int, slots: int) -> dict[str, Any]:
    """One study, until it has reached the mark or used its epochs.

    Returns:
        Improvements of the best final loss as pairs of epochs and loss, the epochs used and the number of trials.
    """
    for share in (1.0,) if method == "random search" else SHARES:
        study = one_study(curves, method, seed, slots, share * curves.epochs_of_random_search)
        if epochs_to(study["improvements"], curves.mark) < math.inf:
            break
    return study


def one_study(curves: LearningCurves, method: str, seed: int, slots: int, epochs: float) -> dict[str, Any]:
    """As :func:`run` says, with a fixed number of epochs."""
    begun = time.process_time()
    sampler, scheduler = METHODS[method](Table(curves))
    study = Study(
        ADAM,
        (Objective("loss", "minimize"),),
        sampler=sampler,
        scheduler=scheduler,
        fidelity=Fidelity(1, curves.epochs),
        seed=seed,
    )
    trace = simulate(SimulatedStudy(study), curves, slots=slots, budget=epochs)
    improvements = trace.incumbents(
        maximize=False, score=lambda run: run.value if run.reached == curves.epochs else None
    )
    return {
        "improvements": [[epochs_until(trace, when), round(loss, 6)] for when, loss in improvements],
        "epochs": trace.spent,
        "trials": len(study.history),
        "cpu_seconds": round(time.process_time() - begun, 2),
    }


def epochs_until(trace: Trace, when: float) -> float:
    """All epochs done by a simulated time, those of trials still under way included; an epoch is a second."""
    return sum(max(min(run.finished or when, when) - run.started, 0.0) for run in trace.runs)


def epochs_to(improvements: Iterable[Sequence[float]], mark: float) -> float:
    """Epochs until a loss is reached; infinite where it is not."""
    return next((epochs for epochs, loss in improvements if loss <= mark + 1e-6), math.inf)


def loss_at(improvements: Iterable[Sequence[float]], epochs: float) -> float:
    """The best loss after so many epochs; infinite where there is none."""
    return min((loss for used, loss in improvements if used <= epochs), default=math.inf)


def main() -> None:
    """Run what is missing, store every study, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "learning_curves")
    parser.add_argument("--task", nargs="+", help="names of files in the folder; all by default")
    parser.add_argument("--method", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=20, help="this many, from 0")
    parser.add_argument("--slots", type=int, default=8, help="trials at once")
    arguments = parser.parse_args()
    paths = {path.stem: path for path in sorted(arguments.data.glob("*.npz"))}
    tasks = {name: LearningCurves(paths[name]) for name in arguments.task or paths}

    stored: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for seed in range(arguments.seeds):
        for task, curves in tasks.items():
            for method in arguments.method:
                studies = stored.setdefault(f"{task}, {arguments.slots} at once", {}).setdefault(method, {})
                if str(seed) not in studies:
                    studies[str(seed)] = run(curves, method, seed, arguments.slots)
                    store(stored)
    print_table(tasks, stored, arguments)


def store(stored: Mapping[str, Any]) -> None:
    """Replace the file as a whole, one study a line."""
    lines = []
    for setting, methods in stored.items():
        blocks = []
        for method, studies in methods.items():
            rows = ",\n".join(f"   {json.dumps(seed)}: {json.dumps(study)}" for seed, study in studies.items())
            blocks.append(f"  {json.dumps(method)}: {{\n{rows}\n  }}")
        lines.append(f" {json.dumps(setting)}: {{\n" + ",\n".join(blocks) + "\n }")
    RESULTS.parent.mkdir(exist_ok=True)
    beside = RESULTS.with_suffix(".new")
    beside.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    beside.replace(RESULTS)


def print_table(tasks: Mapping[str, LearningCurves], stored: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    """Epochs to the mark as shares of those of random search, and the best final loss after a fifth of them."""
    for task, curves in tasks.items():
        whole = curves.epochs_of_random_search
        print(f"\n{task}, {arguments.slots} at once")
        print(f"the mark: loss {curves.mark:.4f}, which {TRIALS} random trials reach in {whole:.0f} epochs")
        print(
            f"{'':16}{'epochs to the mark':>20}{'quartiles':>16}{'within 1/5':>12}{'loss at 1/5':>13}"
            f"{'CPU s':>8}{'seeds':>7}"
        )
        for method in arguments.method:
            studies = list(stored.get(f"{task}, {arguments.slots} at once", {}).get(method, {}).values())
            if not studies:
                continue
            shares = [epochs_to(study["improvements"], curves.mark) / whole for study in studies]
            # Of an even number, the later of the two in the middle: nothing is counted that was not reached.
            low, middle, high = (float(np.quantile(shares, q, method="higher")) for q in (0.25, 0.5, 0.75))
            losses = [loss_at(study["improvements"], 0.2 * whole) for study in studies]
            print(
                f"{method:16}{shown(middle):>20}{shown(low):>8} -{shown(high):>6}"
                f"{f'{sum(share <= 0.2 for share in shares)}/{len(shares)}':>12}{statistics.median(losses):>13.4f}"
                f"{statistics.median(study['cpu_seconds'] for study in studies):>8.1f}{len(studies):>7}"
            )


def shown(share: float) -> str:
    """A share of the epochs of random search, or that the mark was not reached."""
    return f"{share:.3f}" if share < math.inf else "never"


if __name__ == "__main__":
    main()
