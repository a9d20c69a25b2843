"""What all tasks of circuits share: metrics from scores of samples, ideal and under a network's other passes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from darts_hpo.errors import ConfigError, unknown_name
from darts_hpo.training.task import Metric, Task


class QuantumTask(Task):
    """A task whose metrics are means of per-sample scores.

    A network may offer other ways to compute its outputs through a method ``evaluations()``, a mapping of names to
    functions of the inputs: ``noisy`` for outputs under its noise model, ``shots`` for finite sampling. Every metric
    is then computed for each of them too, as ``<metric>_<name>``: ``accuracy_noisy``. Names that a sweep or a
    selection is to rely on are declared in ``evaluations``, so that they can be checked before a run begins.

    Args:
        metrics: names of the ideal metrics.
        primary: the metric that selections maximize; one of ``metrics`` or ``<metric>_<evaluation>``.
        evaluations: other passes that the network must offer.

    Raises:
        ConfigError: ``primary`` is no metric of the task.
    """

    def __init__(self, metrics: Sequence[str], primary: str, evaluations: Sequence[str] = ()) -> None:
        self._evaluations = tuple(evaluations)
        self._metric_names = (*metrics, *(f"{name}_{way}" for way in self._evaluations for name in metrics))
        if primary not in self._metric_names:
            hint = " Metrics such as <metric>_noisy need task.evaluations=[noisy]." if not self._evaluations else ""
            raise ConfigError(unknown_name("metric in task.primary", primary, self._metric_names) + hint)
        self.primary_metric = primary

    @property
    def metric_names(self) -> Sequence[str]:
        """The ideal metrics, and each under every declared evaluation.

        A network that offers further evaluations has its metrics under them computed and reported as well.
        """
        return self._metric_names

    @abstractmethod
    def scores(self, outputs: Tensor, batch: Any) -> Mapping[str, Tensor]:
        """Scores of every sample.

        Args:
            outputs: of the network, the batch first.
            batch: the batch.

        Returns:
            Names and tensors of shape `B`.
        """

    def summary(self, means: Mapping[str, float]) -> dict[str, float]:
        """The metrics, made of the scores' means over a split."""
        return dict(means)

    def metric(self) -> Metric:
        """Means over a split, of the ideal outputs and of every evaluation that the network offers."""
        return SampleMeans(self)

    def require_network(self, network: nn.Module) -> None:
        """Refuse a network that does not offer a declared evaluation.

        Raises:
            ConfigError: names it and what gives it.
        """
        offered = offered_evaluations(network)
        for name in self._evaluations:
            if name not in offered:
                raise ConfigError(
                    unknown_name("evaluation of the network in task.evaluations", name, offered)
                    + " A noise model gives noisy (noise=device, with evaluation in supernet.noisy), "
                    "supernet.shots=NUMBER gives shots."
                )


class SampleMeans(Metric):
    """Means of a task's scores over samples.

    Args:
        task: computes the scores and summarizes their means.
    """

    def __init__(self, task: QuantumTask) -> None:
        self._task = task
        self._sums: dict[str, dict[str, float]] = {}
        self._counts: dict[str, int] = {}

    def update(self, network: nn.Module, outputs: Tensor, batch: Any) -> None:
        """Take in a batch, and run the network's other evaluations on it."""
        self._add("", outputs, batch)
        with torch.no_grad():
            for name, evaluate in offered_evaluations(network).items():
                self._add(f"_{name}", evaluate(self._task.inputs(batch)), batch)

    def _add(self, suffix: str, outputs: Tensor, batch: Any) -> None:
        scores = self._task.scores(outputs.detach(), batch)
        sums = self._sums.setdefault(suffix, {})
        for name, values in scores.items():
            sums[name] = sums.get(name, 0.0) + float(values.double().sum())
        self._counts[suffix] = self._counts.get(suffix, 0) + len(next(iter(scores.values())))

    def compute(self) -> dict[str, float]:
        """Ideal metrics under their names, the others with the evaluation's name appended."""
        metrics: dict[str, float] = {}
        for suffix, sums in self._sums.items():
            summary = self._task.summary({name: total / self._counts[suffix] for name, total in sums.items()})
            metrics |= {f"{name}{suffix}": value for name, value in summary.items()}
        return metrics


def offered_evaluations(network: nn.Module) -> Mapping[str, Callable[[Tensor], Tensor]]:
    """A network's other passes: functions of the inputs by name; empty where it has no such method."""
    offered = getattr(network, "evaluations", None)
    return offered() if callable(offered) else {}
