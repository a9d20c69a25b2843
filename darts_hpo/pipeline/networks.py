"""The networks of a run: as retraining starts them, and as it left the best of them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from darts_hpo.config import RunConfig
from darts_hpo.genotype import Genotype
from darts_hpo.pipeline.assembly import Parts
from darts_hpo.pipeline.checkpoints import load_checkpoint
from darts_hpo.pipeline.seeds import Seeds
from darts_hpo.runs.directory import RunDirectory
from darts_hpo.training.evaluation import inherited_network


class Networks:
    """Derives networks from the supernet and fills them with weights.

    Args:
        config: of the run.
        directory: of the run.
        parts: of the run.
        seeds: of the run.
    """

    def __init__(self, config: RunConfig, directory: RunDirectory, parts: Parts, seeds: Seeds) -> None:
        self._config, self._directory, self._parts, self._seeds = config, directory, parts, seeds

    def fresh(self, genotype: Genotype) -> nn.Module:
        """What retraining starts from: drawn from the same seed for every network, or the supernet's weights.

        Where ``retrain.inherit_weights`` is set, the reference and random networks too start from what the search has
        trained: they are compared as choices of one supernet, not as trained from scratch.
        """
        self._seeds.seed("retrain")
        if not self._config.retrain.inherit_weights:
            return self._parts.supernet.derive(genotype)
        self._load_search_weights()
        return inherited_network(
            self._parts.supernet,
            genotype,
            self._parts.task,
            device=torch.device("cpu"),
            calibration_batches=self._config.search.calibration_batches,
            batch_size=self._config.search.batch_size,
        )

    def best(self, genotype: Genotype, folder: Path) -> nn.Module:
        """The network of the best epoch of a retraining, in evaluation mode on the CPU.

        Raises:
            RunDirectoryError: its checkpoint is missing or damaged.
        """
        network = self._parts.supernet.derive(genotype)
        remedy = f"delete {folder} and run the same command: the network is trained again"
        network.load_state_dict(load_checkpoint(folder / "best.ckpt", remedy)["network"])
        return network.eval()

    def _load_search_weights(self) -> None:
        path = self._directory.search / "last.ckpt"
        state = load_checkpoint(path, "start another run with run=NAME")["state_dict"]
        prefix = "supernet."
        self._parts.supernet.load_state_dict(
            {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        )


def working_device(accelerator: str) -> torch.device:
    """Where networks are scored outside of training, by ``trainer.accelerator``."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")
