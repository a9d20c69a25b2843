"""What can be set is listed in the YAML, with the value that the code would take anyway."""

import inspect
from pathlib import Path

import pytest
import yaml

from darts_hpo.cli import config_dir
from darts_hpo.imports import locate

CONF = config_dir()
FILES = sorted(
    file.relative_to(CONF).as_posix()
    for group in ("bilevel", "data/augmentation", "relaxation", "supernet", "task")
    for file in (CONF / group).glob("*.yaml")
)
# Given by the engine, not by a configuration.
GIVEN = {
    "data",
    "image_size",
    "augmentation",
    "num_classes",
    "input_shape",
    "in_channels",
    "space",
    "fixed",
    "generator",
    "n_inputs",
    "n_outputs",
}
OTHERWISE = {"searched", "weight_sharing", "options", "fractions", "angles"}


def content_of(file: Path) -> tuple[dict, bool]:
    """A file's keys over those of the files that it starts from, and whether it starts from any."""
    content = yaml.safe_load(file.read_text())
    bases = content.pop("defaults", [])
    merged = {}
    for base in bases:
        if isinstance(base, str) and base != "_self_":
            merged |= content_of(file.with_name(f"{base}.yaml"))[0]
    return merged | content, bool(bases)


@pytest.mark.parametrize("file", FILES)
def test_every_setting_is_listed(file):
    content, preset = content_of(CONF / file)
    target = content.pop("_target_")
    if target == "???":
        return  # a base of other files: they name the class
    parameters = inspect.signature(locate(target)).parameters
    defaults = {name: p.default for name, p in parameters.items() if name not in GIVEN}
    assert set(content) - GIVEN == set(defaults)
    if preset:
        return  # its values are the point of it
    for name, default in defaults.items():
        if default is not inspect.Parameter.empty and name not in OTHERWISE:
            assert content[name] == (list(default) if isinstance(default, tuple) else default)
