"""Export: bundles that rebuild themselves, ONNX that is verified."""

import copy
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import darts_hpo.export.onnx as onnx_module
from darts_hpo.errors import ConfigError, ExportError, MissingDependencyError, RunDirectoryError
from darts_hpo.export import export_onnx, load_bundle, save_bundle
from darts_hpo.genotype import Genotype

HOME = "exported_networks_of_this_test"
TARGET = f"{HOME}.Network.from_config"


class Network(nn.Module):
    """Convolution, BatchNorm and a head that mixes two scales of numbers, as a detector's does."""

    def __init__(self, width, classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.SiLU())
        self.boxes, self.scores = nn.Conv2d(width, 4, 1), nn.Conv2d(width, classes, 1)

    @classmethod
    def from_config(cls, config):
        return cls(config["width"], config["classes"])

    def forward(self, x):
        y = self.stem(x)
        return torch.cat([100 * self.boxes(y).exp(), self.scores(y).sigmoid()], 1).flatten(2)


def not_a_network(config):
    return config


@pytest.fixture(autouse=True)
def home(monkeypatch):
    """A package that holds the network, as a user's own would."""
    module = types.ModuleType(HOME)
    for member in (Network, not_a_network):
        monkeypatch.setattr(member, "__module__", HOME)
        setattr(module, member.__name__, member)
    monkeypatch.setattr(Network.from_config.__func__, "__module__", HOME)
    monkeypatch.setitem(sys.modules, HOME, module)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Network(8, 2)
    for _ in range(3):
        network(torch.randn(4, 3, 16, 16))  # running statistics that are not the initial ones
    return network.eval()


@pytest.fixture
def bundle_path(tmp_path, network):
    path = tmp_path / "export" / "bundle.pt"
    save_bundle(path, **arguments(network))
    return path


def arguments(network, **changes):
    genotype = Genotype("toy", "0" * 12, {"a": "x"}, {"probabilities": {"a": {"x": 0.75, "y": 0.25}}})
    return {
        "network_target": TARGET,
        "network_config": {"width": 8, "classes": 2, "shape": (3, 16, 16)},
        "state_dict": network.state_dict(),
        "genotype": genotype.to_json(),
        "labels": ("cat", "dog"),
        "preprocessing": {"size": 16, "mean": np.float64(0.5), "source": Path("a/b")},
        "metrics": {"map50": 0.5},
        "extra_prefixes": [HOME],
    } | changes


# Bundles


def test_a_bundle_rebuilds_its_network_bit_for_bit(bundle_path, network):
    bundle = load_bundle(bundle_path, extra_prefixes=[HOME])
    x = torch.randn(2, 3, 16, 16)
    assert not bundle.network.training
    assert torch.equal(bundle.network(x), network(x))
    assert Genotype.from_json(bundle.genotype).choices == {"a": "x"}
    assert bundle.labels == ["cat", "dog"]
    assert bundle.network_config == {"width": 8, "classes": 2, "shape": [3, 16, 16]}
    assert bundle.preprocessing == {"size": 16, "mean": 0.5, "source": "a/b"}
    assert bundle.metrics == {"map50": 0.5}


def test_a_bundle_loads_without_running_code_of_ours(bundle_path):
    code = (
        "import sys, torch; d = torch.load(sys.argv[1], weights_only=True); "
        "assert 'darts_hpo' not in sys.modules; print(sorted(d))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bundle_path)], capture_output=True, text=True, check=True)
    assert "'network_config', 'network_target', 'preprocessing', 'schema_version', 'state_dict'" in done.stdout


def test_a_builder_outside_the_allowed_packages_is_not_called(bundle_path):
    with pytest.raises(ConfigError, match=rf"{bundle_path}: '{TARGET}' lies outside"):
        load_bundle(bundle_path)


def edited(path, **changes):
    content = torch.load(path, weights_only=True) | changes
    torch.save({key: value for key, value in content.items() if value is not ...}, path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema_version 2; this program reads 1. Upgrade"),
        ({"schema_version": ...}, "not a bundle"),
        ({"labels": ...}, "lacks the key 'labels'"),
        ({"network_config": {"width": 8}}, "cannot build a network from its configuration: KeyError"),
        ({"network_config": {"width": 9, "classes": 2}}, "weights do not fit the network"),
        ({"network_target": f"{HOME}.not_a_network"}, "built a dict; expected a torch.nn.Module"),
    ],
)
def test_a_bundle_that_cannot_be_read_says_why(bundle_path, changes, message):
    edited(bundle_path, **changes)
    with pytest.raises(ExportError, match=message) as error:
        load_bundle(bundle_path, extra_prefixes=[HOME])
    assert str(bundle_path) in str(error.value)


def test_damaged_and_absent_files_say_so(bundle_path):
    content = bundle_path.read_bytes()
    for damage in (b"", b"not a bundle", content[: len(content) // 2], content[:-30]):
        bundle_path.write_bytes(damage)
        with pytest.raises(ExportError, match="not a bundle or is damaged"):
            load_bundle(bundle_path)
    bundle_path.unlink()
    with pytest.raises(ExportError, match="There is no bundle"):
        load_bundle(bundle_path)


def test_a_pickle_with_code_in_it_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"schema_version": 1, "labels": Evil()}, tmp_path / "bundle.pt")
    with pytest.raises(ExportError, match="not a bundle or is damaged"):
        load_bundle(tmp_path / "bundle.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network_config": {"width": 8, "classes": torch.tensor(2)}}, "network_config.classes is a Tensor"),
        ({"metrics": {"a": [1, object()]}}, r"metrics.a\[1\] is a object"),
        ({"state_dict": {}}, "weights do not fit"),
        ({"network_target": f"{HOME}.Missing"}, "Unknown name"),
    ],
)
def test_what_could_not_be_loaded_again_is_not_saved(tmp_path, network, changes, message):
    with pytest.raises((ExportError, ConfigError), match=message):
        save_bundle(tmp_path / "bundle.pt", **arguments(network, **changes))
    assert list(tmp_path.iterdir()) == []


def test_a_view_of_a_large_tensor_is_stored_at_its_own_size(tmp_path, network):
    large = torch.zeros(4_000_000)
    state = network.state_dict()
    state["boxes.bias"] = large[:4]
    save_bundle(tmp_path / "bundle.pt", **arguments(network, state_dict=state))
    assert (tmp_path / "bundle.pt").stat().st_size < 100_000


# ONNX


def test_the_exported_model_equals_the_network_at_any_batch_size(tmp_path, network, capfd):
    import onnx
    import onnxruntime

    path = tmp_path / "export" / "model.onnx"
    before = copy.deepcopy(network.state_dict())
    tolerance = torch.tensor([0.02] * 4 + [1e-4] * 2)[:, None]
    metadata = {"labels": json.dumps(["cat", "dög"]), "stride": "2"}
    parity = export_onnx(network, (3, 16, 16), path, metadata=metadata, tolerance=tolerance)
    assert capfd.readouterr() == ("", "")
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]
    assert 0 < parity.worst_ratio <= 1
    assert parity.max_abs_error == max(parity.errors.values())
    assert set(parity.errors) == {"random", "structured"}
    assert parity.bytes == path.stat().st_size
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())

    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert str(Path(__file__).parent).encode() not in path.read_bytes()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == metadata
    assert [i.name for i in session.get_inputs()] == ["images"]
    assert [o.name for o in session.get_outputs()] == ["predictions"]
    x = torch.rand(5, 3, 16, 16)
    got = session.run(None, {"images": x.numpy()})[0]
    np.testing.assert_allclose(got, network(x).detach().numpy(), rtol=1e-4, atol=1e-4)


class WrongSession:
    """A runtime that computes something slightly else."""

    def __init__(self, session, change):
        self.session, self.change = session, change

    def run(self, *arguments):
        return [self.change(self.session.run(*arguments)[0])]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y + np.float32(0.01), "disagrees with PyTorch"),
        (lambda y: y * np.float32("nan"), "disagrees with PyTorch"),
        (lambda y: y[:, :-1], "returned the shape"),
    ],
)
def test_a_runtime_that_disagrees_leaves_no_file(tmp_path, monkeypatch, change, message):
    session = onnx_module._session
    monkeypatch.setattr(onnx_module, "_session", lambda path: WrongSession(session(path), change))
    path = tmp_path / "model.onnx"
    path.write_text("the last good one")
    with pytest.raises(ExportError, match=message):
        export_onnx(nn.Linear(4, 3).eval(), (4,), path)
    assert path.read_text() == "the last good one"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(("channel", "accepted"), [(0, True), (5, False)])
def test_every_channel_is_judged_in_its_own_unit(tmp_path, monkeypatch, network, channel, accepted):
    def change(output):
        output[:, channel] += 5e-3  # a small part of a pixel, a large one of a probability
        return output

    session = onnx_module._session
    monkeypatch.setattr(onnx_module, "_session", lambda path: WrongSession(session(path), change))
    path = tmp_path / "model.onnx"
    if accepted:
        assert export_onnx(network, (3, 16, 16), path).max_abs_error == pytest.approx(5e-3, rel=0.1)
    else:
        with pytest.raises(ExportError, match="disagrees"):
            export_onnx(network, (3, 16, 16), path)


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Pair(nn.Module):
    def forward(self, x):
        return x + 1, x


class Infinite(nn.Module):
    def forward(self, x):
        return x / 0.0


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Linear(4, 3), r"call network.eval\(\)"),
        (Branches().eval(), "Branches cannot be exported to ONNX"),
        (Pair().eval(), "expected one tensor"),
        (Infinite().eval(), "not finite"),
    ],
)
def test_networks_that_cannot_be_exported_say_why(tmp_path, network, message):
    with pytest.raises(ExportError, match=message):
        export_onnx(network, (4,), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_fixed_batch_of_one(tmp_path):
    import onnx

    export_onnx(nn.Linear(4, 3).eval(), (4,), tmp_path / "model.onnx", input_name="x", dynamic_batch=False)
    shape = onnx.load(tmp_path / "model.onnx").graph.input[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim] == [1, 4]


def test_an_absent_package_is_named_with_the_command_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingDependencyError, match=r"'onnxscript'.*pip install onnx onnxscript onnxruntime"):
        export_onnx(nn.Linear(4, 3).eval(), (4,), tmp_path / "model.onnx")


def test_a_place_that_cannot_be_written_is_a_readable_error(tmp_path, network):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="a file is where a directory should be"):
        save_bundle(tmp_path / "file" / "bundle.pt", **arguments(network))
