"""The sweeper as Hydra sees it: its options, and a door to the modules that do the work."""

# Hydra reads these annotations at run time, so they are written as types and not as text.
# ruff: noqa: UP006, UP035, UP045

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import MISSING, DictConfig, OmegaConf


@dataclass
class BudgetConf:
    """What a scheduler may vary (``hydra.sweeper.budget``).

    Args:
        key: override that limits a trial, for example ``budget.search_epochs``; null: trials run to their end.
        minimum: smallest budget.
        maximum: the full one, whose score counts.
        resumes: a trial continues to a larger budget (epochs); false: it starts afresh (a larger share of the data).
        integer: budgets are whole numbers.
        total: the sweep ends when the budgets given add up to this; null: no bound.
    """

    key: Optional[str] = None
    minimum: float = 1
    maximum: Optional[float] = None
    resumes: bool = True
    integer: bool = True
    total: Optional[float] = None


@dataclass
class ReplicatesConf:
    """Repetitions at the end, which show how much of a gain was luck (``hydra.sweeper.replicates``).

    Args:
        top: number of best trials to repeat; 0: none.
        seeds: how often each.
        key: override that holds a run's seed; repetitions count on from its value.
    """

    top: int = 0
    seeds: int = 2
    key: str = "seed"


@dataclass
class ProgressConf:
    """How schedulers read ``progress.jsonl`` in a trial's directory (``hydra.sweeper.progress``).

    Args:
        value: key of the intermediate value; null: ``value``, or the only number beside ``step``.
        where: only lines with these values count.
    """

    value: Optional[str] = None
    where: Dict[str, str] = field(default_factory=dict)


@dataclass
class BotorchConf:
    """Options of the sweeper (``hydra.sweeper``).

    Args:
        params: override to its range; the command line wins.
        search_space: path of a JSON file with NNI's search space or ours.
        conditions: parameter to parent to the parent's values with which it exists.
        constraints: comparisons over parameters.
        objectives: name to maximize or minimize; empty: the returned number is maximized.
        outcome_constraints: metric to a bound, for example ``{params: "<= 2e6"}``.
        n_trials: configurations in all; a larger number continues a finished sweep.
        slots: trials that run at once.
        sampler: what proposes; a group with options.
        scheduler: what gives budgets and stops; a group with options.
        executor: where trials run; a group with options.
        budget: see :class:`BudgetConf`.
        belief: parameter to what is believed about its good values.
        warm_start: points to try first.
        defaults_first: the values in the application's own configuration are tried before everything else.
        replicates: see :class:`ReplicatesConf`.
        progress: see :class:`ProgressConf`.
        record: name to ``file.json:dotted.path`` in a trial's directory: facts to keep in its record.
        posterior: the answer also names the maximum of a Gaussian process's posterior mean, whatever the sampler.
        report: write report.html at the end.
        seed: of all suggestions.
        timeout: seconds a trial may take; null: for ever.
        retries: further attempts for a trial whose process vanished without an answer.
        max_failures: failed trials in a row after which the sweep ends with an error.
        poll_seconds: pause between two looks at the trials.
        allow: further packages whose classes ``sampler``, ``scheduler`` and ``executor`` may name.
    """

    _target_: str = "hydra_plugins.darts_hpo_botorch.sweeper.BotorchSweeper"
    _recursive_: bool = False  # Hydra 1.3 would build the sampler before the sweeper; 1.4 does not
    defaults: List[Any] = field(
        default_factory=lambda: ["_self_", {"sampler": "gp"}, {"scheduler": "full"}, {"executor": "local"}]
    )
    params: Dict[str, Any] = field(default_factory=dict)
    search_space: Optional[str] = None
    conditions: Dict[str, Any] = field(default_factory=dict)
    constraints: List[str] = field(default_factory=list)
    objectives: Dict[str, str] = field(default_factory=dict)
    outcome_constraints: Dict[str, str] = field(default_factory=dict)
    n_trials: Optional[int] = 25
    slots: int = 1
    sampler: Any = MISSING
    scheduler: Any = MISSING
    executor: Any = MISSING
    budget: BudgetConf = field(default_factory=BudgetConf)
    belief: Dict[str, Any] = field(default_factory=dict)
    warm_start: List[Any] = field(default_factory=list)
    defaults_first: bool = False
    replicates: ReplicatesConf = field(default_factory=ReplicatesConf)
    progress: ProgressConf = field(default_factory=ProgressConf)
    record: Dict[str, str] = field(default_factory=dict)
    posterior: bool = True
    report: bool = True
    seed: int = 0
    timeout: Optional[float] = None
    retries: int = 1
    max_failures: int = 10
    poll_seconds: float = 0.5
    allow: List[str] = field(default_factory=list)


class BotorchSweeper(Sweeper):
    """Tunes a Hydra application; ``hydra/sweeper=botorch`` selects it.

    Args:
        options: of :class:`BotorchConf`, as Hydra passes them. They are read from the configuration in
            :meth:`sweep`, where interpolations can be resolved.
    """

    def __init__(self, **options: Any) -> None:
        del options
        self.config: Optional[DictConfig] = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before :meth:`sweep`."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: List[str]) -> Any:
        """Tune until the study is over; the same command continues one that was interrupted.

        Args:
            arguments: overrides of the command line without those of ``hydra``.

        Returns:
            The recommendation.
        """
        from hydra_plugins.darts_hpo_botorch._sweep import run_sweep

        return run_sweep(self, arguments)


def _stored() -> DictConfig:
    """The options; keys may be added where they are names of parameters or metrics."""
    node = OmegaConf.structured(BotorchConf)
    for key in ("params", "conditions", "objectives", "outcome_constraints", "belief", "record"):
        OmegaConf.set_struct(node[key], False)
    OmegaConf.set_struct(node.progress.where, False)
    return node


ConfigStore.instance().store(group="hydra/sweeper", name="botorch_base", node=_stored(), provider="darts-hpo-botorch")
