"""The life of a run: what is left to do, in which order, and what is said when it ends in whatever way."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from darts_hpo.config import IGNORED_BY_IDENTITY, RunConfig
from darts_hpo.costs import deployed
from darts_hpo.errors import DartsHPOError, GenotypeError, RunDirectoryError, RunStopped
from darts_hpo.genotype import Genotype
from darts_hpo.pipeline.assembly import cost_key, cost_labels
from darts_hpo.pipeline.context import Context, prepare
from darts_hpo.pipeline.exporting import export
from darts_hpo.pipeline.ledger import Ledger
from darts_hpo.pipeline.objective import Objective
from darts_hpo.pipeline.random_genotypes import draw, record
from darts_hpo.pipeline.retraining import FOUND, RANDOM, REFERENCE, evaluate_network, retrain
from darts_hpo.pipeline.searching import search
from darts_hpo.runs.directory import RunDirectory

log = logging.getLogger(__name__)


class Run:
    """One run in its directory.

    Args:
        config: checked configuration.
        directory: the run directory, locked by the caller.
    """

    def __init__(self, config: RunConfig, directory: RunDirectory) -> None:
        self.config, self.directory = config, directory
        self.ledger = Ledger(directory)

    def result(self) -> float | dict[str, float]:
        """Do what is not done yet and return what the objective names.

        Raises:
            RunStopped: a STOP file, or a budget that ended before there was anything to return.
            DartsHPOError: something is wrong; once training has begun, ``metrics.json`` says so too.
        """
        with self._undoing_a_failed_start():
            self.directory.write_config(dataclasses.asdict(self.config), IGNORED_BY_IDENTITY)
            if (value := self._finished()) is not None:
                log.info("%s is finished; start another run with run=NAME.", self.directory.path)
                self._print_table()
                return value
            context = prepare(self.config, self.directory, self.ledger)
        self.directory.clear_stop()
        self.directory.link_latest()
        parts = context.parts
        self.ledger.store(
            status="RUNNING",
            reason=None,
            primary_metric=parts.task.primary_metric,
            cost_labels=cost_labels(parts.costs),
        )
        try:
            paused = self._stages(context)
            value = context.objective.value(self.ledger.metrics)
            if value is None:
                raise RunStopped(paused or "The run ended without a value of its objective.")
            self.ledger.status("STOPPED" if paused else "COMPLETED", paused)
            self._report(context)
        except RunStopped as stop:
            self.ledger.status("STOPPED", str(stop))
            self._report_what_there_is()
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, DartsHPOError) else f"{type(error).__name__}: {error}"
            with suppress(RunDirectoryError):  # a full disk does not take the reason either
                self.ledger.status("FAILED", reason)
                self._report_what_there_is()
            raise
        if paused:
            log.info("paused: %s", paused)
        self._print_table()
        return value

    def _finished(self) -> float | dict[str, float] | None:
        """The objective's value where nothing is left to do for it.

        A run that completed for a cheap objective goes on where one that needs more is asked for.
        """
        if not (self.directory.finished() and self.directory.report.exists()):
            return None
        objective = Objective(
            self.config.objective,
            primary_metric=self.ledger["primary_metric"],
            metrics=(self.ledger[FOUND] or {}).get("val", ()),
            costs={cost_key(name) for name, node in self.config.costs.items() if node},
        )
        wants_reference = self.config.reference and self.ledger[REFERENCE] is None
        wants_random = len(self.ledger[RANDOM]) < self.config.random
        exported = (self.directory.export / "bundle.pt").exists()
        if objective.needs_retraining and (wants_reference or wants_random or not exported):
            return None
        return objective.value(self.ledger.metrics)

    def _stages(self, run: Context) -> str | None:
        """Every stage that is not done yet; returns why the run paused, None where it did not."""
        if not self.directory.genotype.exists():
            with self.ledger.stage("search"):
                paused = search(run)
            if paused:
                return paused
        found = self._found_genotype()
        found.require_space(run.parts.supernet.name, run.parts.supernet.genotype_space)
        if not run.objective.needs_retraining:
            return None
        if paused := self._network(run, FOUND, found):
            return paused
        if self.config.reference:
            reference = run.parts.supernet.genotype(run.parts.supernet.reference_choices())
            if reference == found:
                # The same network, trained the same way from the same seed, would give the same numbers.
                log.info("The found network is the reference network; it is not trained twice.")
                self.ledger.store(reference=self.ledger[FOUND])
            elif paused := self._network(run, REFERENCE, reference):
                return paused
        if not (self.directory.export / "bundle.pt").exists():
            with self.ledger.stage("export"):
                export(run, found)
        # Last: what was found is delivered before many networks are trained only to compare it with.
        self._random_networks(run)
        return None

    def _network(self, run: Context, who: str, genotype: Genotype) -> str | None:
        """Train and measure the found or the reference network, unless that is done."""
        folder = self.directory.retrain if who == FOUND else self.directory.reference
        if self.ledger[who] is not None and (folder / "best.ckpt").exists():
            return None
        with self.ledger.stage("retrain" if who == FOUND else REFERENCE):
            paused = retrain(run, who, genotype, folder)
        if paused:
            return paused
        with self.ledger.stage(f"evaluate_{who}"):
            self.ledger.store(**{who: evaluate_network(run, genotype, folder)}, paused=None)
        return None

    def _random_networks(self, run: Context) -> None:
        """Train and measure every random network that is asked for and not done; those of an earlier start stay."""
        parts = run.parts
        drawn = draw(parts.supernet, parts.relaxation.fixed, self.config.random, run.seeds.of(RANDOM))
        genotypes = record(drawn, self.directory.random)
        for number, genotype in list(enumerate(genotypes))[len(self.ledger[RANDOM]) :]:
            genotype.require_space(parts.supernet.name, parts.supernet.genotype_space)
            folder = self.directory.random / str(number)
            trained = [self.ledger[who] for who in (FOUND, REFERENCE) if self.ledger[who]]
            measured = next((one for one in trained if one["genotype"] == genotype.choices), None)
            if measured is not None:
                log.info("Random network %d is one that was trained already; it is not trained twice.", number)
            else:
                with self.ledger.stage(RANDOM):
                    retrain(run, RANDOM, genotype, folder, f"{RANDOM} {number + 1} of {len(genotypes)}")
                with self.ledger.stage(f"evaluate_{RANDOM}"):
                    measured = evaluate_network(run, genotype, folder)
            self.ledger.store(random=[*self.ledger[RANDOM], measured])

    def _found_genotype(self) -> Genotype:
        try:
            return Genotype.load(self.directory.genotype)
        except GenotypeError as error:
            remedy = "delete it and run the same command: it is taken from the search again"
            raise RunDirectoryError(f"{str(error).rstrip('.')}; {remedy}.") from error

    # -- what is said of it -------------------------------------------------------------------------------------

    def _report(self, run: Context) -> None:
        from darts_hpo.report import write_report

        if self.ledger[FOUND] is None:
            self._report_what_there_is()
            return
        found = Genotype.load(self.directory.genotype)
        network = deployed(run.networks.best(found, self.directory.retrain)).eval()
        parts = run.parts
        write_report(self.directory.path, parts.task.figures(network), parts.supernet.figures(network))

    def _report_what_there_is(self) -> None:
        from darts_hpo.report import write_report

        write_report(self.directory.path)

    def _print_table(self) -> None:
        from darts_hpo.report.table import results_table

        log.info("%s", results_table(self.ledger.metrics))
        if self.config.retrain.inherit_weights and (self.ledger[REFERENCE] or self.ledger[RANDOM]):
            log.info("Every network started from the weights of the search (retrain.inherit_weights=true).")
        log.info("Everything is in %s; open %s", self.directory.path, self.directory.report.name)

    @contextmanager
    def _undoing_a_failed_start(self) -> Iterator[None]:
        """A mistake found before any work leaves nothing behind: no new directory, no new file in an old one."""
        path = self.directory.path
        before = set(path.iterdir())
        try:
            yield
        except BaseException:
            if {entry.name for entry in before} <= {".lock", "train.log"}:
                shutil.rmtree(path, ignore_errors=True)
            else:
                for entry in set(path.iterdir()) - before:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            raise
