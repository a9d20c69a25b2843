"""One sweep, from its configuration to its answer."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Protocol

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from darts_hpo.errors import DartsHPOError, RunStopped
from darts_hpo.space import Categorical, Value
from darts_hpo.tuning.answer import ATTEMPT_VARIABLE
from darts_hpo.tuning.executors.base import Executor
from darts_hpo.tuning.executors.hydra_launcher import HydraJob, HydraLauncher, Launch
from darts_hpo.tuning.grammar import SweepSpace, override_name, read_space
from darts_hpo.tuning.history import History
from darts_hpo.tuning.loop import Loop, LoopSettings
from darts_hpo.tuning.overrides import override_value
from darts_hpo.tuning.progress import Progress
from darts_hpo.tuning.recommendation import Recommendation
from darts_hpo.tuning.samplers.base import Exhausted, Sampler
from darts_hpo.tuning.study import Study
from darts_hpo.tuning.trial import Trial
from hydra_plugins.darts_hpo_botorch import _options as read
from hydra_plugins.darts_hpo_botorch._command import Command, original_command
from hydra_plugins.darts_hpo_botorch._directory import settle_directory
from hydra_plugins.darts_hpo_botorch._results import RESULTS_FILE, say_answer, write_report, write_results
from hydra_plugins.darts_hpo_botorch.callback import ResultCallback

log = logging.getLogger(__name__)

_MOST_CHECKED = 8
"""Points composed before anything runs; each takes Hydra a moment."""

ASKED_FULL_ERROR = "DARTS_HPO_ASKED_HYDRA_FULL_ERROR"
"""Environment variable by which our command line passes on what the user had set for HYDRA_FULL_ERROR."""

_CALLBACK = f"{ResultCallback.__module__}.{ResultCallback.__qualname__}"


class SweepError(DartsHPOError, CompactHydraException):
    """A mistake of the user's; Hydra shows its message alone."""


class SweepStopped(RunStopped, CompactHydraException):
    """The sweep was asked to stop; Hydra shows the message alone."""


class HydraSweep(Protocol):
    """What Hydra has told its sweeper."""

    config: DictConfig | None
    hydra_context: HydraContext | None
    task_function: TaskFunction

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose every list of overrides."""


def run_sweep(hydra: HydraSweep, arguments: Sequence[str]) -> Recommendation:
    """Tune until the study is over.

    Raises:
        SweepError: a mistake of the user's, in one line.
        SweepStopped: a file named STOP lies in the sweep's directory.
    """
    assert hydra.config is not None
    assert hydra.hydra_context is not None
    try:
        with _hydra_resolver(hydra.config):
            return _Sweep(hydra, hydra.config, hydra.hydra_context, arguments).run()
    except RunStopped as stop:
        raise SweepStopped(str(stop)) from stop
    except DartsHPOError as error:
        raise SweepError(str(error)) from error


class _Sweep:
    """What is known once the configuration is read."""

    def __init__(self, hydra: HydraSweep, config: DictConfig, context: HydraContext, arguments: Sequence[str]) -> None:
        self.hydra, self.config, self.context = hydra, config, context
        options = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
        assert isinstance(options, dict)
        self.options: dict[str, Any] = {str(key): value for key, value in options.items()}
        self.space: SweepSpace = read_space(
            self.options["params"],
            arguments,
            search_space=read.search_space_file(self.options["search_space"]),
            conditions=self.options["conditions"],
            constraints=self.options["constraints"],
            group_options=context.config_loader.get_group_options,
        )
        self.kept = [argument for argument in arguments if override_name(argument) not in self.space.space]
        self.warm_start, self.no_defaults = read.warm_start(self.options, config, self.space)
        self.replicate_seeds = read.replicate_seeds(self.options["replicates"], config)
        self.record = read.record_reader(self.options["record"])
        self.executor: Executor = self._build(self.options["executor"])
        self.command = None if isinstance(self.executor, HydraLauncher) else self._command()
        self.directory = settle_directory(config, self._identity())

    def run(self) -> Recommendation:
        """The whole sweep."""
        options = self.options
        self.hydra.validate_batch_is_legal(self._samples())
        self._try_out()
        with self._study() as study, _log_file(self.directory):
            self._save_command()
            log.info(
                "The sweep is in %s; the same command continues it, hydra.sweep.dir=DIRECTORY begins another.",
                self.directory,
            )
            if self.no_defaults:
                log.info("The application's own values are not tried first: %s", self.no_defaults)
            _say_resumed(study)
            if isinstance(self.executor, HydraLauncher):
                self.executor.connect(self._launch())
            settings = LoopSettings(
                retries=options["retries"],
                failures_in_a_row=options["max_failures"],
                poll_seconds=options["poll_seconds"],
                replicate_top=options["replicates"]["top"],
                replicate_seeds=self.replicate_seeds,
                record=self.record,
                progress=Progress(options["progress"]["value"], tuple(options["progress"]["where"].items())),
                on_answer=lambda _: write_results(self.directory, study.history),
            )
            Loop(study, self.executor, self.job, settings).run()
            answer = study.recommend(model=options["posterior"])
            write_results(self.directory, study.history, answer)
            say_answer(study.history, answer)
            report = options["report"] and write_report(self.directory)
            files = f"{'report.html, ' if report else ''}{RESULTS_FILE}, journal.jsonl"
            log.info("Everything is in %s: %s and a directory per trial.", self.directory, files)
        if len(study.history) and not study.history.observations:
            raise DartsHPOError(f"Every trial failed, the last because {study.history.trials[-1].reason}.")
        return answer

    def _try_out(self) -> None:
        """Let sampler and scheduler look at the empty study: what they refuse is said before any trial has run.

        Raises:
            DartsHPOError: they cannot work on this space, these objectives or budgets.
        """
        options = self.options
        history = History(
            self.space.space,
            read.objectives(options["objectives"]),
            (),
            read.outcome_constraints(options["outcome_constraints"]),
            read.fidelity(options["budget"]),
        )
        HydraJob(0, 0, self.directory, timeout=options["timeout"])
        action = self._build(options["scheduler"]).next(history)
        sampler = self._sampler()
        budget = None if sampler.chooses_budget else getattr(action, "budget", None)
        with suppress(Exhausted):
            sampler.suggest(history, seed=0, budget=budget)

    def job(self, trial: Trial, attempt: int) -> HydraJob:
        """What an executor runs for an attempt of a trial."""
        name = self._directory_name(trial)
        directory = self.directory / name
        own = self._own_overrides(trial)
        job = HydraJob(
            trial.number, attempt, directory, timeout=self.options["timeout"], environment=_environment_of_trials()
        )
        if self.command is None:
            attempt_set = f"++hydra.job.env_set.{ATTEMPT_VARIABLE}='{attempt}'"
            where = (f"hydra.sweep.dir={override_value(str(self.directory))}", f"hydra.sweep.subdir={name}")
            return replace(job, overrides=(*self.kept, *own, *where, attempt_set))
        single_run = (
            "hydra.mode=RUN",
            f"hydra.run.dir={override_value(str(directory))}",
            f"hydra.job.num={trial.number}",
            f"hydra.job.id={trial.number}",
            f"++hydra.callbacks.darts_hpo._target_={_CALLBACK}",
        )
        command = (*self.command.program, *self.command.arguments, *own, *single_run)
        return replace(job, command=command, overrides=(*self.kept, *own))

    def _directory_name(self, trial: Trial) -> str:
        """Its number; a trial that starts afresh with a larger budget must not find what the smaller one left."""
        if trial.results and trial.budget is not None and not self.options["budget"]["resumes"]:
            return f"{trial.number}_{trial.budget:g}"
        return str(trial.number)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _build(self, node: Mapping[str, Any], **arguments: Any) -> Any:
        return read.build(node, self.options["allow"], **arguments)

    def _command(self) -> Command:
        return original_command().without_sweep([*self.space.space])

    def _study(self) -> Study:
        options = self.options
        return Study(
            self.space.space,
            read.objectives(options["objectives"]),
            sampler=self._sampler(),
            scheduler=self._build(options["scheduler"]),
            constraints=read.outcome_constraints(options["outcome_constraints"]),
            fidelity=read.fidelity(options["budget"]),
            n_trials=options["n_trials"],
            total_budget=options["budget"]["total"],
            warm_start=self.warm_start,
            seed=options["seed"],
            directory=self.directory,
        )

    def _save_command(self) -> None:
        """Write ``multirun.yaml``. Where the sweep began with other settings, say so: values may not compare."""
        path = self.directory / "multirun.yaml"
        if path.exists():
            before = {o for o in OmegaConf.load(path).hydra.overrides.task if override_name(o) not in self.space.space}
            if difference := sorted(before ^ set(self.kept)):
                log.warning("This sweep began with other settings, of which these differ: %s", ", ".join(difference))
        OmegaConf.save(self.config, path)

    def _sampler(self) -> Sampler:
        node, belief = self.options["sampler"], self.options["belief"]
        sampler: Sampler = self._build(node)
        if not belief:
            return sampler
        if "belief" in inspect.signature(type(sampler)).parameters:  # it knows best what to do with one
            return self._build({**node, "belief": belief})
        from darts_hpo.tuning.samplers.belief import BeliefSampler

        return BeliefSampler(sampler, belief)

    def _identity(self) -> dict[str, Any]:
        """What decides which trials are run, and what they are worth; not how many, nor where they run."""
        deciding = ("objectives", "outcome_constraints", "sampler", "scheduler", "budget", "belief", "seed")
        return {
            "program": self.config.hydra.job.name,
            "config": self.config.hydra.job.config_name,
            "overrides": self.kept,
            "fixed": self.space.fixed,
            "space": self.space.space.to_json(),
            "warm_start": self.warm_start,
            **{name: self.options[name] for name in deciding},
        }

    def _own_overrides(self, trial: Trial) -> list[str]:
        """What sets a trial apart from the others."""
        overrides = self.space.overrides(trial.point)
        budget, key = self.options["budget"], self.options["budget"]["key"]
        if key is not None and trial.budget is not None:
            overrides.append(f"{key}={int(trial.budget) if budget['integer'] else trial.budget!r}")
        if trial.seed is not None:
            overrides.append(f"{self.options['replicates']['key']}={trial.seed}")
        return overrides

    def _samples(self) -> list[list[str]]:
        """Points that show every option of every categorical, as far as a few can."""
        space, rng = self.space.space, Random(self.options["seed"])
        widths = [len(p.options) for p in space.parameters.values() if isinstance(p, Categorical)]
        points: list[Mapping[str, Value]] = [*self.warm_start[:1]]
        shown: set[tuple[str, Value]] = set()
        for _ in range(4 * max(widths, default=1)):
            point = space.sample(rng)
            news = {(name, v) for name, v in point.items() if isinstance(space[name], Categorical)} - shown
            if (news or not points) and len(points) < _MOST_CHECKED:
                points.append(point)
                shown |= news
        samples = [[*self.kept, *self.space.overrides(point)] for point in points]
        fidelity = read.fidelity(self.options["budget"])
        whole = Trial(
            0, points[0], budget=None if fidelity is None else fidelity.maximum, seed=self._first_fresh_seed()
        )
        return [[*self.kept, *self._own_overrides(whole)], *samples]

    def _first_fresh_seed(self) -> int | None:
        return self.replicate_seeds[0] if self.replicate_seeds and self.options["replicates"]["top"] else None

    def _launch(self) -> Launch:
        """Hydra's launcher, which is built when the directory is known: some write there."""
        from hydra.core.plugins import Plugins

        callbacks = self.context.callbacks.callbacks
        if not any(isinstance(callback, ResultCallback) for callback in callbacks):
            callbacks.append(ResultCallback())
        with read_write(self.config.hydra), open_dict(self.config.hydra):
            launcher = Plugins.instance().instantiate_launcher(
                hydra_context=self.context, task_function=self.hydra.task_function, config=self.config
            )
        return partial(_launch_batch, launcher.launch)


def _environment_of_trials() -> dict[str, str]:
    """Trials say what went wrong in one line, unless the user asked for more; our command line asks for itself."""
    asked = os.environ.get(ASKED_FULL_ERROR)
    return {} if asked is None else {"HYDRA_FULL_ERROR": asked}


def _launch_batch(
    launch: Callable[..., Sequence[Any]], overrides: Sequence[Sequence[str]], first: int
) -> Sequence[Any]:
    return launch([list(job) for job in overrides], initial_job_idx=first)


def _say_resumed(study: Study) -> None:
    history: History = study.history
    if len(history):
        log.info(
            "Continuing: %d trials so far, %d of them failed, %d running when the sweep ended.",
            len(history),
            len(history.failed),
            len(history.running),
        )


@contextmanager
def _hydra_resolver(config: DictConfig) -> Iterator[None]:
    """Inside, ``${hydra:...}`` can be resolved, as in a job."""
    instance = HydraConfig.instance()
    before = instance.cfg
    instance.cfg = OmegaConf.masked_copy(config, "hydra")  # type: ignore[assignment]
    try:
        yield
    finally:
        instance.cfg = before


@contextmanager
def _log_file(directory: Path) -> Iterator[None]:
    """Inside, what the sweep says is also kept in its directory, and shown where the application shows nothing."""
    logger = logging.getLogger("darts_hpo")
    plugin = logging.getLogger(__package__)
    kept = logging.FileHandler(directory / "sweep.log", encoding="utf-8")
    kept.setFormatter(logging.Formatter("[%(asctime)s][%(levelname)s] %(message)s"))
    handlers: list[logging.Handler] = [kept]
    if not logging.getLogger().handlers:
        shown = logging.StreamHandler(sys.stdout)
        shown.setFormatter(logging.Formatter("%(message)s"))
        handlers.append(shown)
    levels = {source: source.level for source in (logger, plugin)}
    for source in levels:
        source.setLevel(logging.INFO if not source.isEnabledFor(logging.INFO) else source.level)
        for handler in handlers:
            source.addHandler(handler)
    try:
        yield
    finally:
        for source, level in levels.items():
            source.setLevel(level)
            for handler in handlers:
                source.removeHandler(handler)
        kept.close()
