"""What an installed copy contains and does, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from integration.commands import ROOT
from integration.here import FAST, metrics_of

HEAVY = (
    "torchquantum",
    "qiskit",
    "ray",
    "wandb",
    "plotly",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "matplotlib",
    "hydra_plugins",
)


def imported(statement: str, folder: Path) -> set[str]:
    """Top-level modules after a statement, in a process of its own."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("modules", "exempt"),
    [
        ("darts_hpo", set()),
        ("supernets.gelan.supernet, supernets.detection.task", set()),
        ("darts_hpo.pipeline, darts_hpo.cli", {"matplotlib"}),  # Lightning imports it itself, through torchmetrics
    ],
)
def test_heavy_packages_are_not_imported_before_they_are_needed(tmp_path: Path, modules: str, exempt: set[str]):
    found = imported(f"import {modules}", tmp_path)
    assert "darts_hpo" in found
    assert not found & set(HEAVY) - exempt


def test_circuits_import_no_other_simulator_and_no_pictures(tmp_path: Path):
    """Every module of quantum, in one process."""
    files = sorted((ROOT / "quantum").rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    found = imported(f"import {', '.join(names)}", tmp_path)
    assert {"quantum", "torch"} <= found
    simulators = {"qiskit_aer", "qiskit_ibm_runtime", "pennylane", "torchvision"}
    assert not found & (simulators | set(HEAVY))


def test_the_base_package_imports_nothing_at_all(tmp_path: Path):
    assert not imported("import darts_hpo", tmp_path) & {"torch", "pytorch_lightning", "hydra", "numpy"}


def test_the_command_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"darts-hpo": "darts_hpo.cli:main"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as a person would; pip fetches the build back end."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_all_that_is_needed_and_nothing_else(wheel: Path):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in names} == {"darts_hpo", "supernets", "quantum"}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "conf").rglob("*.yaml")}
    assert {f"darts_hpo/{name}" for name in files} <= names
    for pattern in ("supernets/gelan/networks/*.yaml", "darts_hpo/report/*.css", "*/py.typed"):
        found = {path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern)}
        assert found, pattern
        assert found <= names
    assert not [name for name in names if name.endswith(".pyc") or "test_" in name]


@pytest.mark.slow
def test_an_installed_copy_runs_in_any_folder(wheel: Path, tmp_path: Path):
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=300)
    purelib = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(environment / "bin/python"),
        "install",
        "--quiet",
        "--no-deps",
    ]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True, timeout=300)
    # The dependencies of this environment, but neither its checkout nor what makes that one importable.
    lines = [Path(path) for path in sys.path if path.endswith("site-packages")]
    (purelib / "dependencies.pth").write_text(
        "".join(f"import sys; sys.path.append({str(path)!r})\n" for path in lines)
    )
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    where = subprocess.run(
        [environment / "bin/python", "-c", "import darts_hpo; print(darts_hpo.__file__)"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert Path(where.stdout.strip()).is_relative_to(environment)
    done = subprocess.run(
        [environment / "bin/darts-hpo", *FAST, "run=a"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "val accuracy" in done.stdout
    assert metrics_of(folder / "runs/toy_darts/a")["status"] == "COMPLETED"
