"""Compare samplers, resumably.

    python -m benchmarks.hpo environments                   make the environments of the other libraries
    python -m benchmarks.hpo run [--methods gp ax ...] [--problems ...] [--modes ...] [--seeds 0-9] [--minutes N]
    python -m benchmarks.hpo report                         print the tables, write summary.json and the plots

``run`` does what is missing, seed by seed, so that every method is measured everywhere before any gets a second
seed. It stops between two cells after ``--minutes``, or when the file given by ``--stop`` appears.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.environments import make
from benchmarks.hpo import cells
from benchmarks.hpo.cells import MODES, SEQUENTIAL_PROBLEMS, Cell, Mode
from benchmarks.hpo.environments import PEERS
from benchmarks.hpo.methods import COMPARED, Method, method
from benchmarks.hpo.problems import PROBLEMS, problem
from darts_hpo.errors import unknown_name


@dataclass(frozen=True)
class Task:
    """A cell to be done."""

    method: Method
    problem: str
    mode: Mode
    seed: int

    @property
    def path(self) -> Path:
        """The file that it goes into."""
        return cells.path_of(self.mode.name, self.problem, self.method.name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make environments, run, or report."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hpo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("environments", help="make the environments of the other libraries")
    run_parser = commands.add_parser("run", help="run what is missing")
    run_parser.add_argument("--methods", nargs="+", default=COMPARED, metavar="NAME")
    run_parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), metavar="NAME")
    run_parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    run_parser.add_argument("--seeds", type=seed_range, default=range(10), metavar="FIRST-LAST")
    run_parser.add_argument("--jobs", type=int, default=1, help="cells at the same time, one thread each")
    run_parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell after this time")
    run_parser.add_argument("--stop", type=Path, help="begin no cell once this file is there")
    run_parser.add_argument("--again", action="store_true", help="also try again what came to nothing before")
    run_parser.add_argument("--renew", action="store_true", help="also repeat what other code of the method computed")
    report_parser = commands.add_parser("report", help="print and plot what there is")
    report_parser.add_argument("--methods", nargs="+", default=COMPARED, metavar="NAME")
    given = parser.parse_args(arguments)
    if given.command == "environments":
        for peer in PEERS.values():
            make(peer)
    elif given.command == "run":
        run(given)
    else:
        from benchmarks.hpo.report import report  # scipy and matplotlib are for the report alone

        report([method(name).name for name in given.methods])


def seed_range(text: str) -> range:
    """``"0-9"`` or ``"3"``.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    first, _, last = text.partition("-")
    try:
        return range(int(first), int(last or first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no range of seeds; type for example 0-9") from None


def tasks(given: argparse.Namespace) -> Iterator[Task]:
    """Cells in the order of doing: first seeds before second ones; sequential studies after concurrent ones."""
    for name in given.problems:
        if name not in PROBLEMS:
            raise SystemExit(unknown_name("problem", name, PROBLEMS))
    methods = [method(name) for name in given.methods]
    for seed, mode, name, chosen in itertools.product(given.seeds, given.modes, given.problems, methods):
        if mode != "sequential" or name in SEQUENTIAL_PROBLEMS:
            yield Task(chosen, name, MODES[mode], seed)


def missing(given: argparse.Namespace) -> list[Task]:
    """The tasks that no file answers."""
    known: dict[Path, dict[int, Cell]] = {}
    left = []
    for task in tasks(given):
        done = known.setdefault(task.path, cells.read(task.path)).get(task.seed)
        failed = done is not None and done.error is not None
        outdated = done is not None and done.code != task.method.code
        if done is None or (failed and given.again) or (outdated and given.renew):
            left.append(task)
    return left


def run(given: argparse.Namespace) -> None:
    """Run what is missing; results are written as they come."""
    end = time.monotonic() + 60 * given.minutes
    queue = missing(given)
    for chosen in {task.method.name: task.method for task in queue}.values():
        assert chosen.command  # says so now, not after hours, if an environment is missing
    print(f"{len(queue)} cells to do")

    def stopped() -> bool:
        return time.monotonic() > end or (given.stop is not None and given.stop.exists())

    with ThreadPoolExecutor(given.jobs) as pool:
        waiting = iter(queue)
        running: dict[Future[tuple[Cell, float]], Task] = {}
        while True:
            while len(running) < given.jobs and not stopped() and (task := next(waiting, None)) is not None:
                running[pool.submit(timed, task)] = task
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                keep(running.pop(future), *future.result())


def timed(task: Task) -> tuple[Cell, float]:
    """The cell, and the seconds that it took."""
    begun = time.monotonic()
    return cells.run_cell(task.method, problem(task.problem), task.mode, task.seed), time.monotonic() - begun


def keep(task: Task, cell: Cell, took: float) -> None:
    """Add a cell to its file and say how it went."""
    # Read again: another process may have added cells of other seeds meanwhile.
    stored = cells.read(task.path)
    stored[task.seed] = cell
    cells.write(
        task.path, stored, problem=task.problem, method=task.method.name, mode=task.mode.name, software=software(task)
    )
    losses = [loss for loss in cell.losses if loss is not None]
    outcome = cell.error or f"best {min(losses, default=float('nan')):.6g}, suggesting {sum(cell.cpu):.1f} s"
    if cell.failures:
        outcome += f", {len(cell.failures)} failed calls ({cell.failures[0]})"
    print(f"{task.mode.name} {task.problem} {task.method.name} seed {task.seed}: {outcome} ({took:.0f} s)", flush=True)


def software(task: Task) -> dict[str, str]:
    """What computed it."""
    shared = {name: version(name) for name in ("torch", "botorch", "scikit-learn", "numpy", "scipy")}
    if task.method.peer is None:
        return {"darts-hpo": version("darts-hpo"), **shared}
    return {"peer": PEERS[task.method.peer].requirement, **shared}


if __name__ == "__main__":
    main()
