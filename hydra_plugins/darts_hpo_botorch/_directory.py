"""Where a sweep lives: in a directory that the same command finds again."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from darts_hpo.tuning.grammar import override_name

_CLOCK = re.compile(r"\$\{now:[^}]*\}")


def settle_directory(config: DictConfig, identity: Mapping[str, Any]) -> Path:
    """The sweep's directory, which is also written into the configuration.

    A directory with the time in its name is another one at every start, so that nothing could ever be continued:
    where only the defaults say so, the parts with the time give way to ``botorch-<hash of what is tuned>``. One that
    was typed is taken as it is.

    Args:
        config: of the sweep.
        identity: what decides which trials are run, as JSON. Commands that agree in it continue each other.
    """
    raw = str(OmegaConf.to_container(config.hydra.sweep, resolve=False)["dir"])  # type: ignore[index,call-overload]
    typed = any(override_name(override) == "hydra.sweep.dir" for override in config.hydra.overrides.hydra)
    if _CLOCK.search(raw) and not typed:
        kept = [part for part in _CLOCK.sub("\0", raw).split("/") if "\0" not in part]
        text = json.dumps(identity, sort_keys=True, default=str)
        raw = "/".join([*kept, f"botorch-{hashlib.sha256(text.encode()).hexdigest()[:8]}"])
    with read_write(config.hydra.sweep), open_dict(config.hydra.sweep):
        config.hydra.sweep.dir = raw
        directory = Path(str(config.hydra.sweep.dir)).absolute()
        config.hydra.sweep.dir = str(directory)
    return directory
