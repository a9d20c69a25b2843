"""Classification of labelled data by a circuit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from darts_hpo.errors import ConfigError
from darts_hpo.report import Figure
from darts_hpo.training.task import Split
from quantum.tasks.angles import AngleMap, checked_angles, fitted_map, range_map
from quantum.tasks.base import QuantumTask
from quantum.tasks.batches import FeatureBatch, FeatureRows, feature_loader
from quantum.tasks.datasets.labelled import LabelledData
from quantum.tasks.splits import checked_fractions, prepared_splits


class QuantumClassification(QuantumTask):
    """Cross-entropy and accuracy on features that a circuit takes as angles.

    Features of known range (pixels) are mapped to the interval of angles as they are. Others, and principal
    components, are standardized by the statistics of the train split alone, arch, val and test unseen. A smaller
    share of the training data (``data_fraction``) leaves the map as it is: scores at different shares are then of
    the same inputs.

    Metrics: ``accuracy`` in [0, 1], larger is better, and ``loss``, the mean cross-entropy in nats, smaller is better.
    Where the network offers further evaluations, ``accuracy_<evaluation>`` and ``loss_<evaluation>``.

    Args:
        data: what a reader gave.
        fractions: shares of train, arch, val and test, positive, of sum 1; every class is divided alike. Where the
            data set brings its own test samples, those are the test split and the others share the rest.
        angles: smallest and largest angle in radians.
        components: project features to so many principal components, fitted on the train split; None keeps them.
        spread: standard deviations from the middle of the interval to its ends, where features are standardized.
        feature_noise: standard deviation of Gaussian noise on the angles of training batches, in radians.
        primary: metric that selections maximize.
        evaluations: the network's other passes that ``primary`` or a sweep's objective may name.
        eval_batch_size: samples per batch in evaluation.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(
        self,
        data: LabelledData,
        fractions: Sequence[float] = (0.4, 0.2, 0.2, 0.2),
        angles: Sequence[float] = (0.0, math.pi),
        components: int | None = None,
        spread: float = 3.0,
        feature_noise: float = 0.0,
        primary: str = "accuracy",
        evaluations: Sequence[str] = (),
        eval_batch_size: int = 256,
    ) -> None:
        super().__init__(("accuracy", "loss"), primary, evaluations)
        if eval_batch_size < 1:
            raise ConfigError(f"task.eval_batch_size={eval_batch_size}: expected at least 1.")
        if not 0 < spread < math.inf:
            raise ConfigError(f"task.spread={spread}: expected a positive number of standard deviations.")
        if not 0 <= feature_noise < math.inf:
            raise ConfigError(f"task.feature_noise={feature_noise}: expected a standard deviation in radians, from 0.")
        if components is not None and not 1 <= components <= data.n_features:
            raise ConfigError(f"task.components={components}: expected 1 to {data.n_features}, the features, or null.")
        self._data, self._fractions, self._interval = data, checked_fractions(fractions), checked_angles(angles)
        self._components, self._spread, self._noise = components, spread, feature_noise
        self._eval_batch_size = eval_batch_size
        self._seed = 0
        self._splits: dict[str, list[int]] = {}
        self._labels = torch.from_numpy(data.labels)
        self._map: AngleMap | None = None
        self._angles = torch.empty(0)

    def prepare(self, run_dir: Path, seed: int) -> None:
        """Divide the samples, or take the division in ``splits.json``, and map features to angles.

        Raises:
            ConfigError: a split is empty, or there are more components than the train split spans.
            DataError: ``splits.json`` exists and is no division of these samples.
        """
        data = self._data
        self._seed = seed
        self._splits = prepared_splits(
            run_dir / "splits.json", data.labels, self._fractions, seed, held_out=data.held_out
        )
        if self._components is None and data.value_range is not None:
            self._map = range_map(data.n_features, data.value_range, self._interval)
        else:
            self._map = fitted_map(
                data.features[self._splits["train"]],
                self._interval,
                spread=self._spread,
                components=self._components,
                standardize=data.value_range is None,
            )
        self._angles = torch.from_numpy(self._map(data.features))

    def strata(self, split: Split) -> list[int]:
        """The samples' classes."""
        return [int(self._labels[index]) for index in self._splits[split]]

    def keep(self, split: Split, positions: Sequence[int]) -> None:
        """Leave out all samples of a split but some."""
        self._splits[split] = [self._splits[split][position] for position in positions]

    @property
    def n_features(self) -> int:
        """Angles that the network is given."""
        return self._data.n_features if self._components is None else self._components

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The number of angles."""
        return (self.n_features,)

    def network_arguments(self) -> Mapping[str, Any]:
        """Numbers of angles and classes."""
        return {"n_inputs": self.n_features, "n_outputs": len(self._data.class_names)}

    def loader(
        self, split: Split, *, training: bool, batch_size: int | None = None, epochs: int = 1
    ) -> DataLoader[FeatureBatch]:
        """Batches of :class:`FeatureBatch`; shuffled, noisy if so configured, and of full size where training."""
        del epochs  # nothing is switched off in the last epochs
        indices = [index for part in split.split("+") for index in self._splits[part]]
        rows = FeatureRows(self._angles, self._labels, indices, noise=self._noise if training else 0.0, seed=self._seed)
        size = self._eval_batch_size if batch_size is None else batch_size
        return feature_loader(rows, training=training, batch_size=size, seed=self._seed)

    def inputs(self, batch: FeatureBatch) -> Tensor:
        """The angles `B x F`."""
        return batch.features

    def loss(
        self, network: nn.Module, outputs: Tensor, batch: FeatureBatch, memo: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Mean cross-entropy of the logits `B x C`, in nats."""
        del network, memo
        return {"loss": F.cross_entropy(outputs, batch.labels)}

    def scores(self, outputs: Tensor, batch: FeatureBatch) -> dict[str, Tensor]:
        """Whether the largest output is the sample's class, and its cross-entropy."""
        return {
            "accuracy": (outputs.argmax(dim=1) == batch.labels).double(),
            "loss": F.cross_entropy(outputs, batch.labels, reduction="none"),
        }

    def figures(self, network: nn.Module) -> Sequence[Figure]:
        """The confusion of classes on the val split."""
        from quantum.tasks.confusion import confusion_figure

        return [confusion_figure(network, self.loader("val", training=False), self._data.class_names)]

    def deployment(self) -> Mapping[str, Any]:
        """Labels, and how a raw sample becomes angles.

        Raises:
            ConfigError: the task is not prepared.
        """
        if self._map is None:
            raise ConfigError("The task must be prepared before it can tell how features become angles.")
        return {
            "task": "classification",
            "labels": list(self._data.class_names),
            "preprocessing": {**self._data.preprocessing, "angles": self._map.to_json()},
        }
