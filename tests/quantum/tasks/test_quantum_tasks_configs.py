"""Every configuration of a task of circuits builds one, and gives batches that its own loss takes."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from darts_hpo.config import build
from darts_hpo.training.task import Task

CONF = Path(__file__).resolve().parents[3] / "conf"
TASKS = sorted(path.stem for path in (CONF / "task").glob("quantum_*.yaml"))
NEEDED = {
    "quantum_ground_state": ["task.hamiltonian={ZZ: 1.0, XI: 0.5}"],
    "quantum_maxcut_edges": ["task.graph.edges=[[0,1],[1,2,0.5]]"],
    "quantum_preparation": ["task.target._target_=quantum.tasks.states.w", "+task.target.n_wires=3"],
    "quantum_table": ["task.data._target_=quantum.tasks.datasets.tables.wine"],
    "quantum_unitary": ["task.unitary._target_=quantum.tasks.unitaries.fredkin"],
}
OF_FILES = ("quantum_mnist", "quantum_fashion_mnist")


@pytest.fixture(scope="module")
def task_config():
    def composed(name, *overrides):
        config = compose("train", overrides=[f"task={name}", "data=none", *overrides])
        return OmegaConf.to_container(config.task, resolve=True)

    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield composed


@pytest.mark.parametrize("name", [name for name in TASKS if name not in OF_FILES])
def test_a_configuration_makes_a_task(task_config, name, tmp_path):
    task: Task = build(task_config(name, *NEEDED.get(name, [])))
    task.prepare(tmp_path, 0)
    arguments = task.network_arguments()
    batch = next(iter(task.loader("train", training=True, batch_size=8)))
    inputs = task.inputs(batch)
    assert tuple(inputs.shape[1:]) == task.input_shape == (arguments["n_inputs"],)
    if arguments.get("measurement") == "state":
        outputs = torch.eye(2 ** arguments["n_wires"], dtype=torch.complex64)[:1].expand(len(inputs), -1)
    else:
        outputs = torch.zeros(len(inputs), arguments.get("n_outputs", 1))
    loss = task.loss(torch.nn.Identity(), outputs, batch)["loss"]
    assert loss.shape == ()
    assert torch.isfinite(loss)
    metric = task.metric()
    metric.update(torch.nn.Identity(), outputs, batch)
    assert set(metric.compute()) == set(task.metric_names)
    assert task.primary_metric in task.metric_names


@pytest.mark.parametrize("name", OF_FILES)
def test_a_configuration_of_files_says_what_is_missing(task_config, name, tmp_path):
    with pytest.raises(Exception, match="train-images-idx3-ubyte"):
        build(task_config(name, f"task.data.root={tmp_path}"))
