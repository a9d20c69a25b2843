"""Plain networks: exact sizes, fusion, the auxiliary branch, configurations."""

import json

import pytest
import torch
import yaml
from torch import nn

from darts_hpo.errors import ConfigError
from supernets.detection.predictions import DetectorOutput
from supernets.gelan import (
    BlockOption,
    Description,
    GelanNetwork,
    available_networks,
    build_network,
    load_description,
)
from supernets.gelan.blocks import BATCHNORM_EPS, BATCHNORM_MOMENTUM

# Train form and fused, 80 classes; the authors' own figures where they printed any.
PARAMETERS = {
    "gelan-t": (2_442_640, 2_407_632),
    "gelan-s": (7_226_208, 7_105_888),
    "gelan-m": (20_124_000, 19_978_672),
    "gelan-c": (25_498_752, 25_288_768),
    "gelan-base": (31_462_528, 31_252_544),
    "gelan-e": (58_114_432, 57_345_920),
    "yolov9-t": (3_717_680, 3_674_576),
    "yolov9-s": (9_804_512, 9_659_168),
    "yolov9-m": (32_878_432, 32_667_400),
    "yolov9-c": (51_182_080, 50_880_768),
    "yolov9-base": (60_979_712, 60_678_400),
    "yolov9-e": (69_529_664, 68_669_632),
}
OTHER_CLASS_COUNTS = [
    ("gelan-t", 1, 1_913_443, 1_878_819),
    ("gelan-t", 3, 1_913_833, 1_879_209),
    ("gelan-t", 20, 1_917_148, 1_882_524),
    ("gelan-s", 3, 7_196_409, 7_076_089),
    ("gelan-c", 3, 25_439_385, 25_229_401),
]
# Widths that make the big layouts cheap to run.
SMALL = [("t", 1.0), ("s", 0.5), ("m", 0.15), ("c", 0.125), ("base", 0.125), ("e", 0.125)]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_every_scale_is_listed_in_both_forms():
    assert available_networks() == list(PARAMETERS)


@pytest.mark.parametrize(
    ("name", "classes", "train", "fused"), [(n, 80, *c) for n, c in PARAMETERS.items()] + OTHER_CLASS_COUNTS
)
def test_parameter_counts(name, classes, train, fused):
    with torch.device("meta"):
        network = build_network(name, classes)
        assert count(network) == train
        assert count(network.fuse()) == fused


def test_dropping_the_auxiliary_branch_gives_the_gelan_form():
    with torch.device("meta"):
        for scale in ("t", "m", "e"):
            dropped = build_network(f"yolov9-{scale}", 80).drop_auxiliary()
            assert dropped.state_dict().keys() == build_network(f"gelan-{scale}", 80).state_dict().keys()
            assert count(dropped) == PARAMETERS[f"gelan-{scale}"][0]


@pytest.mark.parametrize(("scale", "width"), SMALL)
def test_fused_equals_unfused_with_random_weights_and_statistics(scale, width, randomize):
    torch.manual_seed(0)
    network = randomize(build_network(f"yolov9-{scale}", 3, width).double()).eval()
    image = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        expected, fused = network(image), network.fuse()(image)
        assert torch.linalg.norm(fused - expected) <= 1e-9 * torch.linalg.norm(expected)
    assert expected.std() > 0


def test_fusion_leaves_the_original_alone_and_pads_kernels_of_five(randomize):
    options = {"neck.p3": BlockOption(5, "mish"), "backbone.p2": BlockOption(5, "relu")}
    network = randomize(build_network("gelan-t", 2, options=options).double()).eval()
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fused = network.fuse()
    torch.testing.assert_close(fused(image), network(image), rtol=1e-9, atol=1e-9)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert count(fused) < count(network)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fused.modules())


@pytest.mark.parametrize(("scale", "width"), SMALL)
def test_main_output_is_bit_identical_without_the_auxiliary_branch(scale, width):
    network = build_network(f"yolov9-{scale}", 3, width)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        trained_form = network(image)
        network.eval()
        expected = network(image)
        network.drop_auxiliary()
        assert torch.equal(network(image), expected)
    assert isinstance(trained_form, DetectorOutput)
    assert trained_form.auxiliary is not None
    assert trained_form.auxiliary.box_logits.shape == trained_form.main.box_logits.shape
    assert network.train()(image).auxiliary is None


@pytest.mark.parametrize("scale", ["t", "c"])
def test_main_loss_gives_auxiliary_weights_no_gradient(scale):
    network = build_network(f"yolov9-{scale}", 3, 1.0 if scale == "t" else 0.125)
    output = network(torch.rand(1, 3, 64, 64))
    (output.main.box_logits.square().sum() + output.main.class_logits.square().sum()).backward()
    auxiliary = [p for n, p in network.named_parameters() if n.startswith("auxiliary") and p.requires_grad]
    main = [p for n, p in network.named_parameters() if not n.startswith("auxiliary") and p.requires_grad]
    assert auxiliary
    assert all(p.grad is None for p in auxiliary)
    assert all(p.grad is not None for p in main)


def test_number_and_place_of_anchors():
    network = build_network("gelan-t", 3).eval()
    with torch.no_grad():
        raw = network.train()(torch.rand(1, 3, 64, 96)).main
    assert raw.anchors.shape == (8 * 12 + 4 * 6 + 2 * 3, 2)
    assert raw.anchors[0].tolist() == [0.5, 0.5]
    assert raw.anchors[1].tolist() == [1.5, 0.5]
    assert raw.anchors[12].tolist() == [0.5, 1.5]
    assert raw.strides.unique_consecutive().tolist() == [8, 16, 32]
    assert (raw.anchors * raw.strides[:, None]).amax(0).tolist() == [92, 60]


def test_scores_start_rare_and_in_range():
    network = build_network("gelan-t", 3).eval()
    with torch.no_grad():
        output = network(torch.rand(1, 3, 64, 64))
    assert output.shape == (1, 7, 84)
    scores = output[:, 4:]
    assert 0 < scores.min() <= scores.max() < 0.05


@pytest.mark.parametrize("size", [(100, 100), (64, 80), (0, 32)])
def test_image_size_must_be_a_multiple_of_the_stride(size):
    with pytest.raises(ConfigError, match="multiple of 32"):
        build_network("gelan-t", 1)(torch.rand(1, 3, *size))


def test_an_image_size_names_the_nearest_valid_ones():
    with pytest.raises(ConfigError, match="The image size is 64 x 80; it must be a multiple of 32, .* 64 or 96"):
        build_network("gelan-t", 1)(torch.rand(1, 3, 64, 80))


def test_batchnorm_constants():
    with torch.device("meta"):
        network = build_network("yolov9-e", 2)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(layer.eps, layer.momentum) for layer in norms} == {(BATCHNORM_EPS, BATCHNORM_MOMENTUM)} == {(1e-3, 0.03)}


def test_width_scales_channels_to_multiples_of_eight():
    network = build_network("yolov9-c", 3, 0.3)
    channels = [c for role, f in network.features.items() if role != "image" for c in f.channels]
    assert all(c % 8 == 0 for c in channels)
    assert network.features["backbone.p5"].channels == (152,)
    network.train()(torch.rand(2, 3, 64, 64))


def test_activation_belongs_to_the_instance():
    relu = build_network("gelan-t", 1, activation="relu")
    silu = build_network("gelan-t", 1)
    assert not any(isinstance(layer, nn.SiLU) for layer in relu.modules())
    assert not any(isinstance(layer, nn.ReLU) for layer in silu.modules())


@pytest.mark.parametrize("fused", [False, True])
def test_rebuilt_from_plain_data(fused, randomize):
    options = {"neck.p4_up": BlockOption(5, "leaky_relu"), "auxiliary.p4": BlockOption(5, "leaky_relu")}
    network = randomize(build_network("yolov9-t", 3, 0.5, options=options)).eval()
    network = network.fuse() if fused else network
    config = json.loads(json.dumps(network.config()))
    rebuilt = GelanNetwork.from_config(config).eval()
    rebuilt.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(rebuilt(image), network(image))
        torch.testing.assert_close(rebuilt.deploy()(image), network(image), rtol=1e-4, atol=1e-3)
    assert rebuilt.fused is fused
    assert GelanNetwork.from_config(network.deploy().config()).config() == network.deploy().config()


@pytest.mark.parametrize("name", ["yolov9-t", "yolov9-c", "yolov9-e"])
def test_layout_round_trips_through_plain_data(name):
    description = load_description(name)
    assert Description.from_plain(json.loads(json.dumps(description.to_plain()))) == description


def test_own_layout_from_a_file(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(
        """
backbone:
  - {tag: stem, block: Conv, out: 8, kernel: 3, stride: 2}
  - {tag: down, block: AConv, out: 16}
  - {tag: p3, block: ADown, out: 16}
neck:
  - {tag: p3, from: backbone.p3, block: RepNCSPELAN4, out: 16, hidden: 16, branch: 8}
head: {main: [neck.p3]}
"""
    )
    network = build_network(str(path), 2)
    assert network.strides == (8,)
    assert network.name == "tiny"
    assert network.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 6, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("block: ADown", "block: ADwn"), "Did you mean 'ADown'"),
        (("from: backbone.p3", "from: backbone.p2"), "backbone.p3"),
        (("out: 8, kernel", "out: 8, kernl"), "kernl"),
        (("head: {main: [neck.p3]}", "head: {main: [neck.p7]}"), "neck.p3"),
        (("head: {main: [neck.p3]}", ""), "head.main"),
        (("tag: down", "tag: stem"), "twice"),
        (("neck:", "nekc:"), "neck"),
        (("tag: down", "tag: 'a.b'"), "a.b"),
        (("from: backbone.p3, ", ""), "first in its section"),
    ],
)
def test_a_broken_layout_is_named(change, message):
    text = (
        "backbone:\n"
        "  - {tag: stem, block: Conv, out: 8, kernel: 3, stride: 2}\n"
        "  - {tag: down, block: AConv, out: 16}\n"
        "  - {tag: p3, block: ADown, out: 16}\n"
        "neck:\n"
        "  - {tag: p3, from: backbone.p3, block: RepNCSPELAN4, out: 16, hidden: 16, branch: 8}\n"
        "head: {main: [neck.p3]}\n"
    )
    assert change[0] in text
    with pytest.raises(ConfigError, match=message):
        GelanNetwork(Description.from_plain(yaml.safe_load(text.replace(*change)), "broken"), 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build_network("yolov9-x", 3), "Did you mean 'yolov9-"),
        (lambda: build_network("gelan-t", 3, activation="sillu"), "Did you mean 'silu'"),
        (lambda: build_network("gelan-t", 0), "at least one class"),
        (lambda: build_network("gelan-t", 3, -1.0), "width"),
        (lambda: build_network("nowhere/x.yaml", 3), "no layout"),
        (lambda: build_network("gelan-t", 3, options={"neck.p9": BlockOption(3, "silu")}), "neck.p5"),
        (lambda: BlockOption(4, "silu"), "odd"),
        (lambda: GelanNetwork.from_config({"num_classes": 3}), "lacks the key"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
