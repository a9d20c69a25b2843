"""What the README shows is true: its commands compose, its options exist, its code runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from darts_hpo.cli import normalised
from darts_hpo.config import register_resolvers, typed_config
from darts_hpo.export import save_bundle
from darts_hpo.tuning.grammar import read_space
from quantum.circuit import Circuit, Input, Operation, Weight
from quantum.export.files import write_circuit_files
from quantum.gates import gate_names
from supernets.gelan import build_network

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"python train\.py (\+[^`\n#]+)", TEXT)))
SWEEPS = sorted({text.replace("\\\n", " ") for text in re.findall(r"python train\.py -m ((?:[^`\n#\\]|\\\n)+)", TEXT)})
OPTIONS = ROOT / "hydra_plugins" / "darts_hpo_botorch" / "conf"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_composes(command: str):
    register_resolvers()
    overrides = [word for word in normalised(command.split()) if not word.startswith("-") and word != "job"]
    with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
        typed_config(compose("train", overrides=overrides))


@pytest.mark.parametrize("command", SWEEPS)
def test_a_sweep_composes_and_its_parameters_can_be_read(command: str):
    register_resolvers()
    words = normalised(shlex.split(command))
    swept = [word for word in words if re.search(r"=.*\(", word)]
    with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", overrides=[w for w in words if w not in swept], return_hydra_config=True)
    assert "BotorchSweeper" in config.hydra.sweeper._target_
    space = read_space(dict(config.hydra.sweeper.params), swept).space
    assert {"lr", "momentum", *(word.lstrip("+").partition("=")[0] for word in swept)} == set(space)


@pytest.mark.parametrize("group", ["sampler", "sampler/acquisition", "scheduler", "executor"])
def test_options_of_the_sweeper_are_those_that_exist(group: str):
    (row,) = re.findall(rf"^\| `hydra/sweeper/{group}=` \| (.*) \|$", TEXT, flags=re.MULTILINE)
    exist = {path.stem for path in (OPTIONS / "hydra" / "sweeper" / group).glob("*.yaml")}
    assert exist <= set(re.findall(r"`([^`]+)`", row))


def test_options_of_the_table_are_those_that_exist():
    for group in ("relaxation", "bilevel", "penalty", "logger"):
        (row,) = re.findall(rf"^\| `{group}=` \| (.*) \|$", TEXT, flags=re.MULTILINE)
        exist = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}
        assert exist <= set(re.findall(r"`([^`]+)`", row)), group


def test_tasks_and_gates_of_circuits_are_those_that_exist():
    rows = dict(re.findall(r"^\| `(task|noise)=` \| (.*) \|$", TEXT, flags=re.MULTILINE))
    for group, row in rows.items():
        files = (ROOT / "conf" / group).glob("quantum_*.yaml" if group == "task" else "*.yaml")
        exist = {path.stem for path in files if '_target_: "???"' not in path.read_text()}
        assert exist - {"quantum_maxcut_ring"} <= set(re.findall(r"`([^`]+)`", row)), group
    for name in gate_names():
        assert re.search(rf"\b{name}\b", TEXT), name


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
    monkeypatch.chdir(tmp_path)
    run_snippet("load_bundle")


def test_a_circuit_in_other_hands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    circuit = Circuit(2, (Operation("RY", (0,), (Input(0),)), Operation("CRX", (0, 1), (Weight(0),))))
    folder = tmp_path / "runs/quantum_darts/latest/export"
    folder.mkdir(parents=True)
    write_circuit_files(folder, circuit, [0.3], {})
    monkeypatch.chdir(tmp_path)
    run_snippet("load_circuit")


def test_a_study_without_hydra(capsys: pytest.CaptureFixture[str]):
    run_snippet("Study")
    assert "momentum" in capsys.readouterr().out


def run_snippet(word: str) -> None:
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL) if word in code]
    exec(compile(code, "README.md", "exec"), {})
