"""What can be set is listed in the YAML, with the value that the code would take anyway."""

import inspect

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
}
OTHERWISE = {"searched", "weight_sharing", "options", "fractions"}


@pytest.mark.parametrize("file", FILES)
def test_every_setting_is_listed(file):
    content = yaml.safe_load((CONF / file).read_text())
    parameters = inspect.signature(locate(content.pop("_target_"))).parameters
    defaults = {name: p.default for name, p in parameters.items() if name not in GIVEN}
    assert set(content) - GIVEN == set(defaults)
    for name, default in defaults.items():
        if default is not inspect.Parameter.empty and name not in OTHERWISE:
            assert content[name] == default
