"""The command line: composes the configuration with Hydra and runs the pipeline."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, TextIO, cast

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from darts_hpo.config import register_resolvers, typed_config
from darts_hpo.errors import DartsHPOError, RunStopped, nearest_names
from darts_hpo.runs import RunDirectory

log = logging.getLogger(__name__)

EXIT_STOPPED = 3
"""Exit status of a run that was asked to stop; the same command continues it."""

EXIT_INTERRUPTED = 130
"""Exit status after Ctrl-C; the same command continues the run."""


def config_dir() -> Path:
    """The configuration of this checkout, or the one that the installed wheel carries."""
    package = Path(__file__).resolve().parent
    for candidate in (package.parent / "conf", package / "conf"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise DartsHPOError("The configuration folder conf/ is missing; reinstall darts-hpo.")


def normalised(arguments: Sequence[str]) -> list[str]:
    """Spare people Hydra's ``+``: ``experiment=x`` appends a group, ``search.fixed.<choice>=option`` adds a key."""
    plus = [re.sub(r"^experiment=", "+experiment=", argument) for argument in arguments]
    return [re.sub(r"^search\.fixed\.", "++search.fixed.", argument) for argument in plus]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exits with 0 when the run completed, 1 on an error, 3 when it was asked to stop, 130 after Ctrl-C.
    """
    given = normalised(sys.argv[1:] if arguments is None else arguments)
    register_resolvers()
    logging.raiseExceptions = False  # a full disk is reported once and by us, not by every line of the log
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        one_run = not any(argument.startswith("-") for argument in given)
        if one_run:
            _check_composition(given)
        with _exceptions_from_hydra(remark=not one_run):
            sys.argv = [sys.argv[0], *given]
            hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")(_task)()
    except RunStopped as stop:
        _say(f"stopped: {stop}")
        sys.exit(EXIT_STOPPED)
    except KeyboardInterrupt:
        _say("interrupted: the same command continues from the last finished epoch.")
        sys.exit(EXIT_INTERRUPTED)
    except (DartsHPOError, HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        _say(f"error: {_one_line(error, given)}")
        sys.exit(1)


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - the command line's own voice


@contextmanager
def _exceptions_from_hydra(*, remark: bool) -> Iterator[None]:
    """Inside, Hydra hands exceptions over instead of printing them its own way.

    Args:
        remark: keep its line "Error executing job with overrides", which tells the jobs of a multirun apart.
    """
    asked = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ["DARTS_HPO_ASKED_HYDRA_FULL_ERROR"] = asked or "0"  # for the trials of a sweep
    stream = sys.stderr if remark else cast(TextIO, _WithoutRemark(sys.stderr))
    try:
        with redirect_stderr(stream):
            yield
    finally:
        os.environ.pop("DARTS_HPO_ASKED_HYDRA_FULL_ERROR", None)
        if asked is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = asked


class _WithoutRemark:
    """A stream that leaves out what Hydra writes before it raises a job's exception."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if text.startswith("Error executing job with overrides") else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _task(cfg: DictConfig) -> float | dict[str, float]:
    """One run. Returns its objective to the sweeper."""
    from darts_hpo.pipeline import run_pipeline

    warnings.filterwarnings("ignore", module="pytorch_lightning")
    return run_pipeline(typed_config(cfg, run_dir=HydraConfig.get().runtime.output_dir))


def _check_composition(overrides: Sequence[str]) -> None:
    """Compose once before Hydra makes any directory, so that a typing error leaves nothing behind."""
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        typed_config(compose("train", overrides=list(overrides)))
        run_dir = Path(compose("train", overrides=list(overrides), return_hydra_config=True).hydra.run.dir)
    GlobalHydra.instance().clear()
    RunDirectory(run_dir).create()  # where that is refused, Hydra would answer with a traceback


def _one_line(error: Exception, overrides: Sequence[str]) -> str:
    """What was wrong, the nearest valid names and what to type."""
    text = str(error)
    if isinstance(error, DartsHPOError):
        return text
    groups = sorted(path.name for path in config_dir().iterdir() if path.is_dir() and path.name != "hydra")
    match = re.search(r"Could not find '([^']+)'", text)
    if isinstance(error, MissingConfigException) and match and "/" in match.group(1):
        group, _, option = match.group(1).rpartition("/")
        valid = sorted(path.stem for path in (config_dir() / group).glob("*.yaml")) or sorted(error.options or ())
        if not valid:
            return f"There is no configuration group {group!r}. Valid: {', '.join(groups)}."
        return f"There is no {group}={option}.{_hint(option, valid, f'{group}=')} Valid: {', '.join(valid)}."
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(match.group(1), overrides, groups)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:2]) if lines else type(error).__name__


def _hint(name: str, valid: Sequence[str], prefix: str = "") -> str:
    close = nearest_names(name, valid)
    return f" Did you mean {' or '.join(prefix + other for other in close)}?" if close else ""


def _unknown_key(name: str, overrides: Sequence[str], groups: Sequence[str]) -> str:
    of_hydra = name.startswith(("hydra.", "hydra/"))
    chosen = [o for o in overrides if o.lstrip("+").partition("=")[0] in groups or o.startswith("hydra/")]
    valid = _every_key([o for o in chosen if o.partition("=")[0] != name], of_hydra=of_hydra)
    show = "--cfg hydra" if of_hydra else "--cfg job"
    return f"There is no configuration key {name!r}.{_hint(name, valid)} See every key with: python train.py {show}"


def _every_key(overrides: Sequence[str], *, of_hydra: bool) -> list[str]:
    """Dotted names of all keys of a composition: the application's, or Hydra's own with its groups."""
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        cfg = compose("train", overrides=list(overrides), return_hydra_config=of_hydra)

    def names(node: Any, prefix: str) -> Iterator[str]:
        for key, value in node.items():
            yield f"{prefix}{key}"
            if isinstance(value, dict):
                yield from names(value, f"{prefix}{key}.")

    keys = list(names(OmegaConf.to_container(cfg.hydra if of_hydra else cfg), "hydra." if of_hydra else ""))
    return [*keys, *(cfg.hydra.runtime.choices if of_hydra else ())]
