"""The comparison of samplers: its problems, its clock, its statistics and its way to talk with other libraries."""

import argparse
import io
import json
import math
import pickle
import random
import statistics
import tempfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.hpo import __main__ as program
from benchmarks.hpo import cells, tables
from benchmarks.hpo.cells import MODES, Cell, Mode, run_cell
from benchmarks.hpo.methods import COMPARED, METHODS, Method, method
from benchmarks.hpo.problems import PROBLEMS, Answer, Problem, invented_seconds, problem
from benchmarks.hpo.report import report
from benchmarks.hpo.statistics import FLOOR, compare, course, finish_times, mean_over_problems, median_band, ranks
from benchmarks.hpo.worker import RemoteTuner
from darts_hpo.space import Categorical, Float, Int, Space
from darts_hpo.tuning.simulation import simulate

# -- problems --------------------------------------------------------------------------------------------------------

OPTIMA = {
    "branin": (math.pi, 2.275),
    "hartmann6": (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573),
    "ackley6": (0.0,) * 6,
}
BEST_OF_TABLES = {
    "mlp_vehicle": -0.95157,
    "mlp_phoneme": -0.94447,
    "fcnet_protein": 0.221379,
    "nb201_cifar100": -73.4933,
}


@pytest.mark.parametrize("name", OPTIMA)
def test_functions_reach_their_best_where_the_literature_says(name):
    found = problem(name)
    answer = found.evaluate(dict(zip(found.space, OPTIMA[name], strict=True)))
    assert answer.loss == pytest.approx(found.best, abs=1e-4)


def test_ackleys_optimum_is_not_the_centre_that_some_methods_try_first():
    space = problem("ackley6").space
    assert all(0.2 < space[name].to_unit(0.0) < 0.4 for name in space)


@pytest.mark.parametrize("name", BEST_OF_TABLES)
def test_tables_answer_everywhere_and_their_best_is_known(name):
    found = problem(name)
    assert found.best == pytest.approx(BEST_OF_TABLES[name], abs=5e-5)
    rng = random.Random(0)
    answers = [found.evaluate(found.space.sample(rng)) for _ in range(500)]
    assert all(answer.loss >= found.best and answer.seconds > 0 for answer in answers)
    corners = [{name: ends(parameter)[side] for name, parameter in found.space.parameters.items()} for side in (0, 1)]
    assert all(math.isfinite(found.evaluate(corner).loss) for corner in corners)


def ends(parameter):
    return (
        parameter.options[:: len(parameter.options) - 1]
        if isinstance(parameter, Categorical)
        else (
            parameter.low,
            parameter.high,
        )
    )


@pytest.mark.parametrize(
    ("name", "rows"), [("mlp_vehicle", 30_000), ("fcnet_protein", 62_208), ("nb201_cifar100", 15_625)]
)
def test_the_space_of_a_table_is_its_grid(name, rows):
    assert problem(name).space.size == rows


@pytest.mark.needs_data
def test_a_configuration_of_the_pool_stands_for_itself():
    found = problem("curves_irnn")
    columns, losses = tables.learning_curves("taskset_imdb_patch32_IRNN64_relu_last_bs128")
    assert losses.shape == (1000, 51)
    failures = 0
    for index in range(0, 1000, 37):
        # An interval's own ends must stay inside it after the round trip through logarithms.
        answer = found.evaluate({name: float(column[index]) for name, column in columns.items()})
        expected = losses[index, -1] if np.isfinite(losses[index]).all() else None
        assert answer.loss == (None if expected is None else pytest.approx(expected))
        failures += answer.loss is None
    assert failures > 0


@pytest.mark.needs_data
def test_failed_trainings_take_the_share_of_their_time_that_they_ran():
    found = problem("curves_irnn")
    rng = random.Random(0)
    seconds = {True: [], False: []}
    for _ in range(300):
        answer = found.evaluate(found.space.sample(rng))
        seconds[answer.loss is None].append(answer.seconds)
    assert statistics.median(seconds[True]) < statistics.median(seconds[False]) / 2


def test_invented_durations_are_lognormal_and_always_the_same():
    seconds = [invented_seconds({"x": index}) for index in range(4000)]
    assert seconds == [invented_seconds({"x": index}) for index in range(4000)]
    logarithms = [math.log(value) for value in seconds]
    assert statistics.mean(logarithms) == pytest.approx(math.log(300), abs=0.03)
    assert statistics.stdev(logarithms) == pytest.approx(0.5, abs=0.03)


def test_tables_cannot_run_code():
    with pytest.raises(pickle.UnpicklingError, match="os"):
        tables.read_plain(io.BytesIO(b"cos\nsystem\n(S'true'\ntR."))
    assert tables.read_plain(io.BytesIO(pickle.dumps({"00": [1.0]}))) == {"00": [1.0]}


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(SystemExit, match="branin"):
        problem("brannin")
    with pytest.raises(SystemExit, match="optuna_gp"):
        method("optuna-gp")


# -- the clock -------------------------------------------------------------------------------------------------------


def test_thinking_keeps_workers_waiting():
    plain, charged = finish_times([10, 4, 3], [1, 1, 1], slots=2)
    assert plain.tolist() == [10, 4, 7]
    # Asked at 0, 1 and, once the second trial has ended at 6, then.
    assert charged.tolist() == [11, 6, 10]


def test_one_at_a_time_everything_adds_up():
    plain, charged = finish_times([5, 5, 5], [1, 2, 3], slots=1)
    assert plain.tolist() == [5, 10, 15]
    assert charged.tolist() == [6, 13, 21]


def test_a_slow_thinker_is_the_bottleneck():
    _, charged = finish_times([1.0] * 50, [10.0] * 50, slots=40)
    # The second round waits for the last of the first, because all of them ended at once without thinking.
    assert charged[-1] == pytest.approx((40 * 10 + 1) + (10 * 10 + 1))


class Counter:
    def __init__(self):
        self.count = 0

    def ask(self, now):
        self.count += 1
        return self.count - 1, self.count - 1, None

    def tell(self, key, value):
        pass


@pytest.mark.parametrize("slots", [1, 3, 7])
@pytest.mark.parametrize("ties", [False, True])
def test_the_replayed_clock_is_that_of_the_simulation(slots, ties):
    rng = random.Random(slots)
    seconds = [float(rng.randint(1, 4)) if ties else rng.lognormvariate(0, 1) for _ in range(60)]
    trace = simulate(Counter(), lambda point, budget, previous: (0.0, seconds[point]), slots=slots, runs=60)
    plain, charged = finish_times(seconds, [0.0] * 60, slots)
    assert plain.tolist() == pytest.approx([run.finished for run in trace.runs])
    assert charged.tolist() == pytest.approx(plain.tolist())


# -- statistics ------------------------------------------------------------------------------------------------------


def test_a_course_follows_the_order_of_ending():
    cell = Cell(0, losses=[5.0, None, 3.0, 2.0], seconds=[10, 1, 2, 3], cpu=[0, 0, 0, 0])
    run = course(cell, slots=4, best=1.0, unit=2.0)
    assert run.by_trial.tolist() == [np.inf, 1.0, 0.5, 0.5]
    assert run.finished.tolist() == [1, 2, 3, 10]
    assert [run.at(seconds) for seconds in (0.5, 1, 2, 2.9, 3, 99)] == [np.inf, np.inf, 1.0, 1.0, 0.5, 0.5]


def test_what_is_found_is_found():
    cell = Cell(0, losses=[1.0], seconds=[1], cpu=[0])
    assert course(cell, 1, best=1.0, unit=2.0).by_trial.tolist() == [FLOOR]


def test_equals_share_their_rank_and_incomplete_blocks_stay_out():
    regrets = {
        "a": {("p", 0): 1.0, ("p", 1): 1.0},
        "b": {("p", 0): 2.0},
        "c": {("p", 0): 1.0, ("p", 1): 5.0},
    }
    assert ranks(regrets) == {("p", 0): {"a": 1.5, "b": 3.0, "c": 1.5}}


def test_a_run_that_came_to_nothing_ranks_last():
    assert ranks({"a": {("p", 0): np.inf}, "b": {("p", 0): 9.0}}) == {("p", 0): {"a": 2.0, "b": 1.0}}


def test_problems_count_alike_however_many_seeds_they_have():
    values = {("p", seed): 1.0 for seed in range(9)} | {("q", 0): 3.0}
    estimate = mean_over_problems(values)
    assert (estimate.mean, estimate.low, estimate.high) == (2.0, 2.0, 2.0)


def test_the_interval_narrows_with_seeds():
    rng = np.random.default_rng(0)
    widths = []
    for count in (5, 80):
        estimate = mean_over_problems({("p", seed): float(rng.normal()) for seed in range(count)})
        assert estimate.low < estimate.mean < estimate.high
        widths.append(estimate.high - estimate.low)
    # 95 % of a normal mean: 2 * 1.96 / sqrt(80).
    assert widths[1] == pytest.approx(0.44, rel=0.2)
    assert widths[1] < widths[0]


def test_the_median_bears_infinities():
    middle, low, high = median_band(np.array([[np.inf, 1.0], [np.inf, 2.0], [3.0, 3.0], [4.0, 4.0]]))
    assert middle.tolist() == [np.inf, 2.5]
    assert not np.isnan([low, high]).any()
    assert (low <= middle).all()
    assert (middle <= high).all()


def test_a_ratio_is_geometric_and_its_test_two_sided():
    ours = {(name, seed): 1.0 for name in "pqrstuvw" for seed in range(5)}
    theirs = {block: 4.0 if block[1] % 2 else 1.0 for block in ours}
    result = compare(ours, theirs)
    assert result.ratio.mean == pytest.approx(4.0 ** (-2 / 5))
    assert result.per_problem["p"] == pytest.approx(4.0 ** (-2 / 5))
    # Eight differences of one sign: both tails of 2^-8.
    assert result.p_problems == pytest.approx(2 / 2**8)
    assert result.pairs == 40
    assert compare(theirs, ours).ratio.mean == pytest.approx(4.0 ** (2 / 5))
    same = compare(ours, ours)
    assert (same.ratio.mean, same.p_problems, same.p_cells) == (1.0, 1.0, 1.0)
    assert compare(ours, {("elsewhere", 0): 1.0}) is None


# -- other libraries, in processes of their own ----------------------------------------------------------------------

STAND_IN = f"""
import os, random, sys
sys.path.insert(0, {str(Path(cells.__file__).parent / "peers")!r})
from serve import Tuner, serve

class StandIn(Tuner):
    def __init__(self, space, seed, trials, settings):
        print("libraries print")
        if settings.get("refuses"):
            raise ValueError("not such a space")
        self.rng, self.count, self.settings = random.Random(seed), 0, settings
    def ask(self):
        self.count += 1
        if self.count == self.settings.get("dies at"):
            print("last words", file=sys.stderr, flush=True)
            os._exit(3)
        if self.count == self.settings.get("raises at"):
            raise RuntimeError("no idea")
        low = 7.0 if self.count == self.settings.get("strays at") else 0.0
        return self.count, {{"x": self.settings.get("scale") or low + self.rng.random(), "n": 3}}
    def tell(self, key, value):
        print("told", key, value)

serve(StandIn)
"""


class Parabola(Problem):
    def __init__(self):
        super().__init__("parabola", Space({"x": Float(0.0, 1.0), "n": Int(1, 5)}), 0.0)

    def evaluate(self, point):
        failed = point["x"] > 0.9
        return Answer(None if failed else float(point["x"]) ** 2, 1.0 + float(point["x"]))


@pytest.fixture
def stand_in(tmp_path):
    wrapper = tmp_path / "with_stand_in.py"
    wrapper.write_text(STAND_IN)
    return lambda **settings: Method("stand_in", str(wrapper), {"_target_": "darts_hpo.none.None", **settings})


MODE = Mode("short", 4, trials=12)


def test_a_cell_holds_every_trial_and_the_time_of_thinking(stand_in):
    cell = run_cell(stand_in(), Parabola(), MODE, seed=1)
    assert cell.error is None
    assert cell.failures == []
    assert len(cell.losses) == len(cell.seconds) == len(cell.cpu) == 12
    assert all(value >= 0 for value in cell.cpu)
    assert cell.losses == run_cell(stand_in(), Parabola(), MODE, seed=1).losses
    assert cell.losses != run_cell(stand_in(), Parabola(), MODE, seed=2).losses
    rng = random.Random(1)
    drawn = [rng.random() for _ in range(12)]
    assert cell.losses == [None if x > 0.9 else pytest.approx(x**2) for x in drawn]


def test_failed_calls_are_counted_and_a_random_point_is_tried_instead(stand_in):
    settings = {"raises at": 2, "strays at": 5}
    cell = run_cell(stand_in(**settings), Parabola(), MODE, seed=1)
    assert len(cell.losses) == 12
    assert len(cell.failures) == 2
    assert "no idea" in cell.failures[0]
    assert "outside" in cell.failures[1]


def test_the_last_digit_is_forgiven(stand_in):
    space = Space({"x": Float(0.0, 1.0), "n": Int(1, 5)})
    with tempfile.TemporaryFile() as log, RemoteTuner(stand_in(scale=1 + 1e-12), space, 0, 20, log) as tuner:
        points = [tuner.ask(0.0)[1] for _ in range(20)]
    assert tuner.failures == []
    assert all(point["x"] == 1.0 for point in points)


def test_a_process_that_dies_is_a_result_and_leaves_its_last_words(stand_in):
    cell = run_cell(stand_in(**{"dies at": 3}), Parabola(), MODE, seed=1)
    assert "ended with code 3" in cell.error
    assert "last words" in cell.error
    assert cell.losses == ()


def test_a_library_that_refuses_the_space_says_why(stand_in):
    assert "not such a space" in run_cell(stand_in(refuses=True), Parabola(), MODE, seed=1).error


def test_our_studies_speak_the_protocol():
    space = Space({"x": Float(1e-3, 1.0, log=True), "n": Int(1, 5), "kind": Categorical(("a", "b"))})
    with tempfile.TemporaryFile() as log, RemoteTuner(METHODS["random"], space, 0, 3, log) as tuner:
        for value in (0.5, None, 0.25):
            key, point, budget = tuner.ask(0.0)
            assert space.validate(point) == point
            assert budget is None
            tuner.tell(key, value)
    assert tuner.failures == []


# -- results ---------------------------------------------------------------------------------------------------------


def test_cells_survive_their_file(tmp_path):
    path = cells.path_of("async40", "branin", "gp", tmp_path)
    stored = {seed: Cell(seed, [1.0, None], [2.0, 3.0], [0.1, 0.2], 0.3, ["ask: no"]) for seed in (3, 1)}
    cells.write(path, stored, problem="branin", software={"numpy": "2"})
    assert cells.read(path) == {1: stored[1], 3: stored[3]}
    assert json.loads(path.read_text())["problem"] == "branin"
    assert cells.read(tmp_path / "none.json") == {}
    assert not list(tmp_path.rglob("*.tmp"))


def given(**settings):
    return argparse.Namespace(
        methods=["random", "gp"],
        problems=list(PROBLEMS),
        modes=list(MODES),
        seeds=range(2),
        again=False,
        renew=False,
        **settings,
    )


def test_first_seeds_come_before_second_ones_and_three_problems_are_sequential_too():
    order = list(program.tasks(given()))
    assert len(order) == 2 * 2 * (len(PROBLEMS) + 3)
    assert [task.seed for task in order] == sorted(task.seed for task in order)
    assert {task.problem for task in order if task.mode.name == "sequential"} == set(cells.SEQUENTIAL_PROBLEMS)


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "path_of", lambda mode, name, chosen: tmp_path / mode / f"{name}--{chosen}.json")
    first, second = list(program.tasks(given()))[:2]
    cells.write(first.path, {0: Cell(0, [1.0], [1.0], [0.0], code=first.method.code)})
    cells.write(second.path, {0: Cell(0, error="died", code="older")})
    assert first not in program.missing(given())
    assert second not in program.missing(given())
    options = given()
    options.again = True
    assert second in program.missing(options)
    assert first not in program.missing(options)
    options = given()
    options.renew = True
    assert second in program.missing(options)
    assert first not in program.missing(options)


def test_variants_are_run_only_when_named():
    assert "gp" in COMPARED
    assert "gp_warp" in METHODS
    assert "gp_warp" not in COMPARED


def test_seeds_are_given_as_a_range():
    assert list(program.seed_range("2-4")) == [2, 3, 4]
    assert list(program.seed_range("7")) == [7]
    with pytest.raises(argparse.ArgumentTypeError, match="0-9"):
        program.seed_range("a few")


def test_a_methods_code_is_known_without_importing_it():
    assert METHODS["optuna_gp"].code == "optuna==5.0.0"
    assert METHODS["gp"].code == METHODS["gp_warp"].code
    assert len({METHODS[name].code for name in ("random", "sobol", "tpe")}) == 3


def test_the_report_ranks_compares_and_draws(tmp_path, capsys):
    best = problem("branin").best
    for name, distance in {"random": 4.0, "gp": 1.0, "ax": 2.0}.items():
        losses = [None, best + 9.0, *[best + distance] * 98]
        runs = {seed: Cell(seed, losses, [5.0] * 100, [0.5] * 100, 50.0, ["ask: no"]) for seed in range(3)}
        if name == "ax":
            runs[2] = Cell(2, error="died")
        cells.write(cells.path_of("async40", "branin", name, tmp_path), runs)
    report(["random", "gp", "ax", "smac"], tmp_path)
    printed = capsys.readouterr().out
    assert "average rank of 3 methods over 1 problems, 3 blocks" in printed
    assert "sequential: nothing measured yet" in printed
    summary = json.loads((tmp_path / "summary.json").read_text())["async40"]
    assert summary["ranks"]["gp"]["equal trials"]["mean"] == 1.0
    # Twice second, and last where it died.
    assert summary["ranks"]["ax"]["equal trials"]["mean"] == pytest.approx((2 + 2 + 3) / 3)
    assert summary["comparisons"]["equal trials"]["random"]["ratio"]["mean"] == pytest.approx(0.25)
    assert summary["comparisons"]["equal trials"]["ax"]["pairs"] == 2
    assert summary["suggestions"]["ax"]["runs_that_died"] == 1
    assert summary["suggestions"]["ax"]["failed_calls"] == 2
    assert (tmp_path / "async40.png").stat().st_size > 10_000


def test_without_random_search_there_is_no_deadline_but_a_report(tmp_path, capsys):
    for name in ("gp", "tpe"):
        runs = {0: Cell(0, [problem("branin").best + 1.0] * 100, [5.0] * 100, [0.5] * 100)}
        cells.write(cells.path_of("async40", "branin", name, tmp_path), runs)
    report(["gp", "tpe"], tmp_path)
    ranked = json.loads((tmp_path / "summary.json").read_text())["async40"]["ranks"]
    assert ranked["gp"] == {"equal trials": {"mean": 1.5, "low": 1.5, "high": 1.5}}
    assert "average rank of 2 methods over 1 problems" in capsys.readouterr().out
