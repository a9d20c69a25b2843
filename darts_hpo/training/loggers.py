"""Loggers beside the CSV files that every run writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from darts_hpo.errors import MissingDependencyError

if TYPE_CHECKING:
    from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger


def tensorboard(save_dir: str) -> TensorBoardLogger:
    """TensorBoard files in ``<run>/tensorboard``."""
    from pytorch_lightning.loggers import TensorBoardLogger

    return TensorBoardLogger(save_dir, name="tensorboard", version="")


def wandb(save_dir: str, project: str = "darts-hpo", name: str | None = None, mode: str | None = None) -> WandbLogger:
    """Weights & Biases; offline where no key is configured, to be uploaded later with ``wandb sync``.

    Args:
        save_dir: the run directory; files go to ``<run>/wandb``.
        project: of W&B.
        name: shown there; the run directory's name by default.
        mode: ``online``, ``offline`` or ``disabled``; None decides by the presence of a key.

    Raises:
        MissingDependencyError: wandb is not installed.
    """
    try:
        import wandb as client
    except ImportError:
        raise MissingDependencyError("logger=wandb needs the package wandb: pip install wandb") from None
    from pytorch_lightning.loggers import WandbLogger

    if mode is None:
        mode = "online" if os.environ.get("WANDB_API_KEY") or client.api.api_key else "offline"
    run_name = name or Path(save_dir).name
    return WandbLogger(
        name=run_name,
        save_dir=save_dir,
        project=project,
        mode=mode,
        id=f"{Path(save_dir).parent.name}-{Path(save_dir).name}",  # a continued run continues there too
        resume="allow",
        log_model=False,
    )
