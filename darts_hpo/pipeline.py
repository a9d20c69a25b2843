"""From a configuration to a found, trained, measured and exported network; every stage can be continued.

Stages: search, derive, retrain, reference, evaluate, export, report. Each leaves its result in the run directory
before the next begins; running the same command again skips what is there and continues what is not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import pickle
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn

from darts_hpo.bilevel import BilevelRule
from darts_hpo.config import IGNORED_BY_IDENTITY, RetrainConfig, RunConfig, SearchConfig, build
from darts_hpo.costs import CostModel, CostPenalty, deployed
from darts_hpo.errors import (
    ConfigError,
    DartsHPOError,
    GenotypeError,
    RunDirectoryError,
    RunStopped,
    TrainingError,
    unknown_name,
)
from darts_hpo.genotype import Genotype
from darts_hpo.relaxations import Relaxation
from darts_hpo.runs.directory import RunDirectory, flattened
from darts_hpo.runs.files import write_json
from darts_hpo.runs.provenance import provenance
from darts_hpo.supernet import Supernet
from darts_hpo.training.callbacks import LastCheckpoint, RetrainRecorder, RngState, SearchRecorder
from darts_hpo.training.evaluation import evaluate, inherited_network
from darts_hpo.training.precision import resolve_precision
from darts_hpo.training.progress import StageProgress
from darts_hpo.training.resources import StageUsage, measured
from darts_hpo.training.retrain import RetrainModule
from darts_hpo.training.search import Penalty, SearchModule, require_supported_gates
from darts_hpo.training.task import Split, Task
from darts_hpo.training.threads import fastest_thread_count
from darts_hpo.training.weight_training import WeightSchedule, training_loader, weight_optimizer

log = logging.getLogger(__name__)

METRICS_SCHEMA_VERSION = 1


def run_pipeline(config: RunConfig) -> float | None:
    """Run or continue everything a configuration asks for.

    Returns:
        The val score of the found network, in the task's primary metric; None where the budget ended before it.

    Raises:
        DartsHPOError: a setting or file is wrong, the directory is in use or belongs to another configuration, or
            training failed; in the last case ``metrics.json`` says so.
    """
    # Lightning announces products and hardware at every fit; warnings still come through.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning").setLevel(logging.WARNING)
    directory = RunDirectory(Path(config.run_dir))
    with directory.lock():
        return Pipeline(config, directory).run()


class Pipeline:
    """The stages of one run.

    Args:
        config: checked configuration.
        directory: the run directory, locked by the caller.
    """

    def __init__(self, config: RunConfig, directory: RunDirectory) -> None:
        self.config, self.directory = config, directory
        self.metrics: dict[str, Any] = self._stored_metrics()
        self.task: Task
        self.supernet: Supernet
        self.relaxation: Relaxation

    def run(self) -> float | None:
        """Every stage that is not done yet."""
        with self._undoing_a_failed_start():
            self.directory.write_config(dataclasses.asdict(self.config), IGNORED_BY_IDENTITY)
            if self.directory.finished() and self.directory.report.exists():
                log.info("%s is finished; start another run with run=NAME.", self.directory.path)
                self._print_table()
                return self._score()
            self._prepare()
        self.directory.clear_stop()
        self.directory.link_latest()
        self._status("RUNNING")
        try:
            self._stages()
            self._status("COMPLETED")
            self._report()
        except RunStopped as stop:
            self._status("STOPPED", str(stop))
            self._report_what_there_is()
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, DartsHPOError) else f"{type(error).__name__}: {error}"
            with suppress(RunDirectoryError):  # a full disk does not take the reason either
                self._status("FAILED", reason)
                self._report_what_there_is()
            raise
        self._print_table()
        return self._score()

    # -- preparation --------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        config = self.config
        self.task = build(config.task)
        self.task.prepare(self.directory.path, config.seed)
        self._set_threads()
        self._seed("search")
        self.supernet = build(config.supernet, **self.task.network_arguments())
        fixed: dict[str, str] = {}
        # Hydra nests what is written with dots.
        for name, option in flattened(config.search.fixed).items():
            fixed |= self.supernet.fixed_choices(name, str(option))
        self.relaxation = build(
            config.relaxation, space=self.supernet.space, fixed=fixed, generator=self._generator("logits")
        )
        self.rule = build(config.bilevel)
        self.selector = build(config.selector)
        self.costs = {name: build(node) for name, node in config.costs.items() if node}
        self.penalty: CostPenalty | None = build(config.penalty) if config.penalty else None
        if not self.directory.provenance.exists():
            trainer = config.trainer
            precision = {
                "search": resolve_precision(trainer.precision, trainer.accelerator, self.rule),
                "retrain": resolve_precision(trainer.precision, trainer.accelerator),
            }
            write_json(self.directory.provenance, provenance(config.seed) | {"precision": precision})
        self._check_training()

    def _check_training(self) -> None:
        """Refuse now what training would refuse later: a retraining comes hours after the command was typed."""
        config = self.config
        self._trainer(self.rule, logger=False, enable_checkpointing=False)
        if self.penalty is not None:
            names = {cost.name for cost in self.costs.values()}
            if self.penalty.cost.name not in names:
                raise ConfigError(
                    unknown_name("cost in penalty.cost (of those in costs)", self.penalty.cost.name, names)
                )
        if config.retrain.inherit_weights and not self.relaxation.searched:
            raise ConfigError(
                "retrain.inherit_weights=true needs a search, but every choice is fixed; set it to false."
            )
        stages: list[tuple[str, SearchConfig | RetrainConfig, Split]] = [("retrain", config.retrain, "train+arch")]
        if self.relaxation.searched:
            require_supported_gates(self.relaxation, self.supernet)
            stages.append(("search", config.search, "train"))
            if self.rule.needs_arch_batch:
                stages.append(("search", config.search, "arch"))
        for stage, settings, split in stages:
            training_loader(self.task, split, stage=stage, batch_size=settings.batch_size, epochs=settings.epochs)
            weight_optimizer(self.task, self.supernet, settings.optimizer)
            WeightSchedule(settings.optimizer, settings.schedule, steps_per_epoch=1, epochs=settings.epochs)

    def _set_threads(self) -> None:
        """As configured; else as the run began, for sums depend on it; else what is fastest here."""
        threads = self.config.trainer.threads
        if threads is None and self.directory.provenance.exists():
            threads = self._recorded("torch_threads")
        torch.set_num_threads(fastest_thread_count() if threads is None else threads)

    def _recorded(self, fact: str) -> Any:
        """A fact of the run's first start, which decides its results and must not change on another machine."""
        path = self.directory.provenance
        try:
            return json.loads(path.read_text())[fact]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunDirectoryError(f"{path} is damaged or lacks {fact!r}; start another run with run=NAME.") from error

    # -- stages -------------------------------------------------------------------------------------------------

    def _stages(self) -> None:
        if not self.directory.genotype.exists():
            with self._stage("search"):
                self._search()
        found = self._found_genotype()
        found.require_space(self.supernet.name, self.supernet.genotype_space)
        reference = self.supernet.genotype(self.supernet.reference_choices())
        candidates = {"found": (found, self.directory.retrain)}
        if self.config.reference:
            candidates["reference"] = (reference, self.directory.reference)
        for who, (genotype, folder) in candidates.items():
            if who == "reference" and genotype == found:
                # The same network, trained the same way from the same seed, would give the same numbers.
                log.info("The found network is the reference network; it is not trained twice.")
                self._store(who, self.metrics["found"])
                continue
            if self.metrics.get(who) is not None and (folder / "best.ckpt").exists():
                continue
            with self._stage("retrain" if who == "found" else "reference"):
                self._retrain(who, genotype, folder)
            with self._stage(f"evaluate_{who}"):
                self._store(who, self._evaluate(genotype, folder))
        if not (self.directory.export / "bundle.pt").exists():
            with self._stage("export"):
                self._export(found)

    def _search(self) -> None:
        config = self.config.search
        models = self._cost_models()
        module = SearchModule(
            self.task,
            self.supernet,
            self.relaxation,
            self.rule,
            config,
            seed=self._stage_seed("gates"),
            penalty=self._penalty(models),
            costs={name: model.expected for name, model in models.items()},
        )
        checkpoint = self.directory.search / "last.ckpt"
        if self.relaxation.searched:
            log.info(
                "Searching %d choices of %s (%s architectures) for %d epochs",
                len(self.relaxation.searched),
                self.supernet.name,
                f"{self.supernet.genotype_space.size:,}",
                config.epochs,
            )
            budget = self.config.budget.search_epochs or config.epochs
            progress = StageProgress("search", config.epochs, self.task.primary_metric)
            recorder = SearchRecorder(
                self.directory, budget=budget, primary_metric=self.task.primary_metric, on_epoch=progress.epoch
            )
            self._fit("search", module, (config.epochs, budget), [recorder, progress], checkpoint)
        else:
            log.info("Every choice is fixed: the search is skipped.")
        choices = self.selector.select(
            self.relaxation, lambda options: module.discretized_score(options)[self.task.primary_metric]
        )
        discretized = self._discretized(module, choices) if self.relaxation.searched else None
        facts = {
            "probabilities": self.supernet.genotype_probabilities(self.relaxation.probabilities()),
            "entropy": self.relaxation.entropy(),
            "costs": {name: model.exact(choices) for name, model in models.items()},
            "seed": self.config.seed,
        }
        genotype = self.supernet.genotype(choices, facts)
        self.metrics["search"] = {
            "entropy": facts["entropy"],
            "indicators": self.supernet.collapse_indicators(self.relaxation.probabilities()),
            "discretized_val": discretized,
        }
        self._write_metrics()
        # Last: its presence says that the search is done.
        write_json(self.directory.genotype, genotype.to_json())

    def _discretized(self, module: SearchModule, choices: Mapping[str, str]) -> dict[str, float]:
        """Val metrics of the selected network before any retraining: what a scheduler sees of the whole search."""
        values = module.discretized_score(choices)
        epoch, metric = self.config.search.epochs - 1, self.task.primary_metric
        self.directory.progress.truncate_from(epoch, stage="search")
        self.directory.progress.append({"stage": "search", "epoch": epoch, metric: values[metric]})
        return values

    def _retrain(self, who: str, genotype: Genotype, folder: Path) -> None:
        config = self.config.retrain
        module = RetrainModule(self.task, self._fresh_network(genotype), config)
        checkpoint = folder / "last.ckpt"
        budget = self.config.budget.retrain_epochs or config.epochs
        title = "retrain" if who == "found" else "reference"
        log.info("Training the %s network for %d epochs", who, config.epochs)
        progress = StageProgress(title, config.epochs, self.task.primary_metric)
        recorder = RetrainRecorder(
            self.directory,
            folder,
            stage="retrain" if who == "found" else None,  # the reference is nobody's objective
            budget=budget,
            primary_metric=self.task.primary_metric,
            on_epoch=progress.epoch,
        )
        self._fit(title, module, (config.epochs, budget), [recorder, progress], checkpoint)

    def _evaluate(self, genotype: Genotype, folder: Path) -> dict[str, Any]:
        network = self._best_network(genotype, folder)
        device = _device(self.config.trainer.accelerator)
        lean = deployed(network).to(device)
        shape = self.task.input_shape
        costs: dict[str, float | None] = {"params_train": float(sum(p.numel() for p in network.parameters()))}
        for name, cost in self.costs.items():
            costs["params_deployed" if name == "params" else name] = cost.measure(deployed(network), shape)
        return {
            "genotype": dict(genotype.choices),
            "val": evaluate(lean, self.task, "val", device=device),
            "test": evaluate(lean, self.task, "test", device=device),
            "costs": costs,
        }

    def _export(self, genotype: Genotype) -> None:
        from darts_hpo.export import export_onnx, save_bundle

        network = deployed(self._best_network(genotype, self.directory.retrain)).eval()
        deployment = dict(self.task.deployment())
        if self.config.export.onnx:
            parity = export_onnx(
                network,
                self.task.input_shape,
                self.directory.export / "model.onnx",
                metadata={name: json.dumps(value) for name, value in deployment.items()},
                tolerance=self.task.export_tolerance(),
            )
            self.metrics["export"] = dataclasses.asdict(parity)
        # Last: its presence says that the export is done.
        save_bundle(
            self.directory.export / "bundle.pt",
            network_target=f"{type(network).__module__}.{type(network).__qualname__}.from_config",
            network_config=network.config(),  # type: ignore[operator]
            state_dict=network.state_dict(),
            genotype=genotype.to_json(),
            labels=deployment.get("labels", []),
            preprocessing=deployment.get("preprocessing", {}),
            metrics=self.metrics["found"],
        )

    def _found_genotype(self) -> Genotype:
        try:
            return Genotype.load(self.directory.genotype)
        except GenotypeError as error:
            remedy = "delete it and run the same command: it is taken from the search again"
            raise RunDirectoryError(f"{str(error).rstrip('.')}; {remedy}.") from error

    # -- networks -----------------------------------------------------------------------------------------------

    def _fresh_network(self, genotype: Genotype) -> nn.Module:
        """What retraining starts from: drawn from the same seed for found and reference, or the supernet's weights."""
        self._seed("retrain")
        if not self.config.retrain.inherit_weights:
            return self.supernet.derive(genotype)
        self._load_search_weights()
        return inherited_network(
            self.supernet,
            genotype,
            self.task,
            device=torch.device("cpu"),
            calibration_batches=self.config.search.calibration_batches,
            batch_size=self.config.search.batch_size,
        )

    def _best_network(self, genotype: Genotype, folder: Path) -> nn.Module:
        network = self.supernet.derive(genotype)
        state = _load(folder / "best.ckpt", f"delete {folder} and run the same command: the network is trained again")
        network.load_state_dict(state["network"])
        return network.eval()

    def _load_search_weights(self) -> None:
        state = _load(self.directory.search / "last.ckpt", "start another run with run=NAME")["state_dict"]
        prefix = "supernet."
        self.supernet.load_state_dict(
            {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        )

    def _cost_models(self) -> dict[str, CostModel]:
        """Measured once per run, then read back: a resumed run sees the same latencies."""
        path = self.directory.search / "costs.json"
        if path.exists():
            try:
                stored = json.loads(path.read_text())
                models = {name: CostModel.from_json(data) for name, data in stored.items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise RunDirectoryError(
                    f"{path} is damaged ({error}); delete it and run the same command: costs are measured again."
                ) from error
            for model in models.values():
                model.require_supernet(self.supernet)
            return models
        models = {
            name: CostModel.measure(self.supernet, cost, self.task.input_shape) for name, cost in self.costs.items()
        }
        write_json(path, {name: model.to_json() for name, model in models.items()})
        return models

    def _penalty(self, models: Mapping[str, CostModel]) -> Penalty | None:
        penalty = self.penalty
        if penalty is None:
            return None
        model = next(model for model in models.values() if model.name == penalty.cost.name)
        return lambda loss, distributions: penalty.term(loss, model, distributions)

    # -- training -----------------------------------------------------------------------------------------------

    def _fit(
        self,
        stage: str,
        module: pl.LightningModule,
        length: tuple[int, int],
        callbacks: list[Callback],
        checkpoint: Path,
    ) -> None:
        """Train a module from its checkpoint, or from the start.

        Args:
            stage: for messages.
            module: what is trained.
            length: epochs of the full training, and after how many this invocation ends.
            callbacks: recorders and displays; the checkpoint is written after them.
            checkpoint: of the last finished epoch.

        Raises:
            RunStopped: the training is not complete, because of its budget or a request to stop.
        """
        epochs, budget = length
        done = 0
        if checkpoint.exists():
            remedy = "delete it and run the same command: this stage starts over"
            done = int(_load(checkpoint, remedy)["epoch"]) + 1
        if done < epochs and done >= budget:
            raise RunStopped(self._why_incomplete(stage, done, epochs))
        if self.config.trainer.channels_last:
            module.to(memory_format=torch.channels_last)
        trainer = self._trainer(
            getattr(module, "rule", None),
            max_epochs=epochs,
            callbacks=[RngState(), *callbacks, LastCheckpoint(checkpoint)],
            logger=self._loggers(),
        )
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, ckpt_path=str(checkpoint) if done else None, weights_only=True)
        except torch.OutOfMemoryError as error:
            section = "search" if stage == "search" else "retrain"
            raise TrainingError(
                f"The device ran out of memory in the stage {stage}; use a smaller {section}.batch_size."
            ) from error
        except SystemExit:  # Lightning's answer to Ctrl-C, which it turns off besides
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from None
        if module.current_epoch < epochs:
            raise RunStopped(self._why_incomplete(stage, module.current_epoch, epochs))

    def _trainer(self, rule: BilevelRule | None, **arguments: Any) -> pl.Trainer:
        """A trainer on the configured device.

        Raises:
            ConfigError: there is no such device, or it cannot do what is asked for.
        """
        config = self.config.trainer
        precision = self._recorded("precision")["retrain" if rule is None else "search"]
        try:
            return pl.Trainer(
                accelerator=config.accelerator,
                devices=1,
                precision=precision,
                deterministic=config.deterministic,
                limit_val_batches=0,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=str(self.directory.path),
                **arguments,
            )
        except (MisconfigurationException, ValueError) as error:
            raise ConfigError(
                f"trainer.accelerator={config.accelerator} with trainer.precision={config.precision} cannot be used: "
                f"{' '.join(str(error).split())} Use trainer.accelerator=auto."
            ) from error

    def _why_incomplete(self, stage: str, epoch: int, epochs: int) -> str:
        ended = f"{stage} ended after epoch {epoch} of {epochs}"
        if self.directory.stop_requested():
            return f"{ended}: STOP was found. The same command continues."
        kind = "search" if stage == "search" else "retrain"
        return f"{ended}: budget.{kind}_epochs is used up. The same command with a larger one continues."

    def _loggers(self) -> list[Any]:
        directory = str(self.directory.path)
        return [build(node, save_dir=directory) for node in self.config.logger.values() if node]

    def _stage_seed(self, stage: str) -> int:
        """Stages draw from streams of their own, so that one's length does not shift another's."""
        digest = hashlib.sha256(f"{self.config.seed}/{stage}".encode()).digest()
        return int.from_bytes(digest[:4], "big")

    def _seed(self, stage: str) -> None:
        pl.seed_everything(self._stage_seed(stage), verbose=False)

    def _generator(self, stage: str) -> torch.Generator:
        return torch.Generator().manual_seed(self._stage_seed(stage))

    # -- records ------------------------------------------------------------------------------------------------

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        if self.directory.stop_requested():
            raise RunStopped(f"STOP was found before the stage {name}. The same command continues.")
        usage = StageUsage()
        try:
            with measured(usage):
                yield
        finally:  # a stage that was stopped has used its share too
            earlier = self.metrics["stages"].get(name, {})
            self.metrics["stages"][name] = {
                "seconds": earlier.get("seconds", 0.0) + usage.seconds,
                "peak_memory_mb": max(earlier.get("peak_memory_mb", 0.0), usage.peak_memory_mb),
                "peak_gpu_memory_mb": max(earlier.get("peak_gpu_memory_mb", 0.0), usage.peak_gpu_memory_mb),
            }
        self._write_metrics()

    def _store(self, who: str, result: Mapping[str, Any]) -> None:
        self.metrics[who] = dict(result)
        self._write_metrics()

    def _stored_metrics(self) -> dict[str, Any]:
        empty: dict[str, Any] = {
            "schema_version": METRICS_SCHEMA_VERSION,
            "status": "RUNNING",
            "reason": None,
            "primary_metric": None,
            "found": None,
            "reference": None,
            "search": None,
            "export": None,
            "stages": {},
        }
        try:
            return empty | json.loads(self.directory.metrics.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return empty

    def _status(self, status: str, reason: str | None = None) -> None:
        self.metrics |= {"status": status, "reason": reason, "primary_metric": self.task.primary_metric}
        self._write_metrics()

    def _write_metrics(self) -> None:
        self.directory.write_metrics(self.metrics)

    def _score(self) -> float | None:
        found = self.metrics.get("found")
        return None if found is None else float(found["val"][self.metrics["primary_metric"]])

    def _report(self) -> None:
        from darts_hpo.report import write_report

        found = Genotype.load(self.directory.genotype)
        network = deployed(self._best_network(found, self.directory.retrain)).eval()
        write_report(self.directory.path, self.task.figures(network))

    def _report_what_there_is(self) -> None:
        from darts_hpo.report import write_report

        write_report(self.directory.path)

    def _print_table(self) -> None:
        from darts_hpo.report.table import results_table

        log.info("%s", results_table(self.metrics))
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


def _device(accelerator: str) -> torch.device:
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")


def _load(path: Path, remedy: str) -> dict[str, Any]:
    """A checkpoint of ours, on the CPU.

    Raises:
        RunDirectoryError: it is missing or damaged.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise RunDirectoryError(f"{path} is missing or damaged; {remedy}.") from error
    return content
