"""Trained networks as files that stand alone: ONNX for other runtimes, a bundle for this one."""

from darts_hpo.export.bundle import Bundle, load_bundle, save_bundle
from darts_hpo.export.onnx import OnnxParity, export_onnx

__all__ = ["Bundle", "OnnxParity", "export_onnx", "load_bundle", "save_bundle"]
