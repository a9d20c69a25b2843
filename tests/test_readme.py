"""What the README shows is true: its commands compose, its options exist, its code runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from darts_hpo.cli import normalised
from darts_hpo.config import register_resolvers, typed_config
from darts_hpo.export import save_bundle
from supernets.gelan import build_network

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"python train\.py (\+[^`\n#]+)", TEXT)))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_composes(command: str):
    register_resolvers()
    overrides = [word for word in normalised(command.split()) if not word.startswith("-") and word != "job"]
    with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
        typed_config(compose("train", overrides=overrides))


def test_options_of_the_table_are_those_that_exist():
    for group in ("relaxation", "bilevel", "penalty", "logger"):
        (row,) = re.findall(rf"^\| `{group}=` \| (.*) \|$", TEXT, flags=re.MULTILINE)
        exist = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}
        assert exist <= set(re.findall(r"`([^`]+)`", row)), group


def test_loading_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    network = build_network("gelan-t", 2, width=0.25).deploy()
    save_bundle(
        tmp_path / "runs/yolov9_darts/latest/export/bundle.pt",
        network_target="supernets.gelan.graph.GelanNetwork.from_config",
        network_config=network.config(),
        state_dict=network.state_dict(),
        genotype={},
        labels=["a", "b"],
        preprocessing={"size": [128, 128]},
    )
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
