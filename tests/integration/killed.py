"""``train.py`` that receives SIGKILL at an exact moment: ``killed.py FOLDER EPOCH BATCH|checkpoint arguments...``.

FOLDER is ``search``, ``retrain``, ``reference`` or the number of a random network. With ``checkpoint`` the kill comes
when half of that epoch's checkpoint is written. Moments counted in batches are reached on every machine; moments
watched from outside are not.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from darts_hpo.cli import main
from darts_hpo.training.callbacks import LastCheckpoint
from darts_hpo.training.retrain import RetrainModule
from darts_hpo.training.search import SearchModule


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_batch(folder: str, epoch: int, batch: int) -> None:
    for module in (SearchModule, RetrainModule):
        original = module.training_step

        def step(self: Any, data: Any, index: int, original: Any = original) -> None:
            original(self, data, index)
            here = next(c.path.parent.name for c in self.trainer.callbacks if isinstance(c, LastCheckpoint))
            if (here, self.current_epoch, index) == (folder, epoch, batch):
                die()

        module.training_step = step


def die_in_checkpoint(folder: str, epoch: int) -> None:
    original = pl.Trainer.save_checkpoint

    def save(self: Any, path: Path, **arguments: Any) -> None:
        original(self, path, **arguments)
        if Path(path).parent.name == folder and self.current_epoch == epoch:
            os.truncate(path, Path(path).stat().st_size // 2)
            die()

    pl.Trainer.save_checkpoint = save


if __name__ == "__main__":
    stage, at_epoch, moment = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if moment == "checkpoint":
        die_in_checkpoint(stage, at_epoch)
    else:
        die_at_batch(stage, at_epoch, int(moment))
    main(sys.argv[4:])
