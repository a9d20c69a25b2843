"""Every option of the plugin names a class and lists exactly what that takes."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml

import hydra_plugins.darts_hpo_botorch.conf as conf
from darts_hpo.imports import locate
from darts_hpo.tuning.acquisitions.base import Acquisition
from darts_hpo.tuning.executors.base import Executor
from darts_hpo.tuning.samplers.base import Sampler
from darts_hpo.tuning.schedulers.base import Scheduler

FOLDER = Path(conf.__file__).parent / "hydra" / "sweeper"
KINDS = {"sampler": Sampler, "scheduler": Scheduler, "executor": Executor, "sampler/acquisition": Acquisition}
OPTIONS = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.glob("*/**/*.yaml"))

WRAPPERS = {"BeliefSampler"}
"""Samplers that hydra.sweeper has a key of its own for."""


def described(option: str) -> dict[str, object]:
    content = yaml.safe_load((FOLDER / f"{option}.yaml").read_text())
    content.pop("defaults", None)
    return content


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_lists_the_arguments_of_its_class(option: str):
    node = described(option)
    target = locate(node.pop("_target_"))
    assert issubclass(target, KINDS[option.rpartition("/")[0]])
    parameters = inspect.signature(target).parameters
    assert set(node) == set(parameters)
    for name, value in node.items() if not option.startswith("executor") else ():
        default = parameters[name].default
        if default is not parameters[name].empty and not (isinstance(value, str) and value.startswith("${")):
            assert value == pytest.approx(default) or _plain(default) == value or value in ({}, []), name


def _plain(default: object) -> object:
    return list(default) if isinstance(default, tuple) else default


def test_every_sampler_and_scheduler_has_an_option():
    named = {described(option)["_target_"].rpartition(".")[2] for option in OPTIONS}
    package = Path(inspect.getfile(Sampler)).parents[1]
    for kind, base in (("samplers", Sampler), ("schedulers", Scheduler)):
        for path in (package / kind).glob("[a-z]*.py"):
            module = locate(f"darts_hpo.tuning.{kind}.{path.stem}")
            for name, found in inspect.getmembers(module, inspect.isclass):
                public = found.__module__ == module.__name__ and not name.startswith("_")
                if public and issubclass(found, base) and not inspect.isabstract(found) and name not in WRAPPERS:
                    assert name in named, f"{name} has no option file"
