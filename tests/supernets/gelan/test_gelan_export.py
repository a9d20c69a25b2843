"""Exported detectors say the same as PyTorch: 1e-4 on scores, 0.02 pixels on boxes."""

from pathlib import Path

import pytest
import torch

from darts_hpo.export import export_onnx
from darts_hpo.testing.supernet import randomize_normalization
from supernets.gelan import build_network

SIZE = 64
CLASSES = 3


def check_parity(name: str, width: float, path: Path) -> None:
    network = build_network(name, CLASSES, width=width).eval()
    randomize_normalization(network)
    tolerance = torch.tensor([0.02] * 4 + [1e-4] * CLASSES)[:, None]
    parity = export_onnx(network.deploy(), (3, SIZE, SIZE), path, tolerance=tolerance)
    assert parity.worst_ratio <= 1.0
    assert path.exists()


def test_the_smallest_scale(tmp_path: Path):
    check_parity("yolov9-t", 0.25, tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["t", "s", "m", "c", "base", "e"])
def test_every_scale_at_full_width(tmp_path: Path, scale: str):
    check_parity(f"yolov9-{scale}", 1.0, tmp_path / "model.onnx")
