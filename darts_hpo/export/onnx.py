"""ONNX export that is believed only after onnxruntime gave the same numbers."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from darts_hpo.errors import ExportError, MissingDependencyError
from darts_hpo.runs.files import atomic_file


@dataclass(frozen=True)
class OnnxParity:
    """How far onnxruntime's output is from PyTorch's.

    Attributes:
        max_abs_error: the largest absolute difference over all probes.
        worst_ratio: the largest ratio of a difference to its tolerance; at most 1 for an accepted export.
        errors: largest absolute difference by probe, ``random`` and ``structured``.
        opset: version of the ONNX operator set in the file.
        bytes: size of the file.
    """

    max_abs_error: float
    worst_ratio: float
    errors: Mapping[str, float]
    opset: int
    bytes: int


def export_onnx(
    network: nn.Module,
    input_shape: Sequence[int],
    path: Path,
    *,
    input_name: str = "images",
    output_name: str = "predictions",
    metadata: Mapping[str, str] | None = None,
    tolerance: float | Tensor = 1e-4,
    dynamic_batch: bool = True,
) -> OnnxParity:
    """Export a network and compare onnxruntime with PyTorch on two inputs, values in [0, 1].

    The file appears at ``path`` only after the comparison. It is one file, so the network must be below 2 GB,
    and it does not hold source locations of this machine.

    Args:
        network: in evaluation mode and deployed form; one tensor in, one tensor out. It is not changed.
        input_shape: shape of one input, without the batch.
        path: the file to make or replace.
        input_name: name of the input, `B x *input_shape`, float32.
        output_name: name of the output.
        metadata: texts stored in the model, for example labels and preprocessing as JSON.
        tolerance: largest difference accepted. A number is in units of the largest value (at least 1) of each
            channel, dimension 1 of the output, so that pixels and scores each have their own scale; a tensor is
            absolute and broadcast against the output.
        dynamic_batch: leave the batch size open; otherwise it is 1.

    Raises:
        ExportError: the network cannot be exported, or the runtime disagrees by more than the tolerance.
        MissingDependencyError: onnx, onnxscript or onnxruntime is absent.
        RunDirectoryError: the file cannot be written.
    """
    _require("onnx", "onnxscript", "onnxruntime")
    if network.training:
        raise ExportError("The network is in training mode; call network.eval() before exporting it.")
    network = copy.deepcopy(network).cpu()
    probes = _probes(input_shape, dynamic_batch)
    # An example of two: the exporter treats a dimension of one as a constant.
    example = torch.rand(2 if dynamic_batch else 1, *input_shape, generator=torch.Generator().manual_seed(1))
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (example,),
                input_names=[input_name],
                output_names=[output_name],
                dynamic_shapes=({0: "batch"},) if dynamic_batch else None,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter has many stages, each with its own errors
        lines = str(error).strip().splitlines() or [""]
        hint = " If its batch size cannot vary, pass dynamic_batch=False." if dynamic_batch else ""
        raise ExportError(
            f"{type(network).__name__} cannot be exported to ONNX: {type(error).__name__}: {lines[0]}.{hint}"
        ) from error
    assert program is not None  # a value is returned wherever dynamo=True
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with paths of this machine
    program.model.metadata_props.update({str(key): str(value) for key, value in (metadata or {}).items()})

    with atomic_file(path) as partial:
        with _quiet():
            program.save(partial, external_data=False)
        parity = _compare(network, partial, input_name, probes, tolerance, program.model.opset_imports[""])
        if not parity.worst_ratio <= 1.0:
            raise ExportError(
                f"onnxruntime disagrees with PyTorch: largest difference {parity.max_abs_error:.3g}, "
                f"{parity.worst_ratio:.3g} times the tolerance. Nothing was written to {path}."
            )
    return parity


def _require(*packages: str) -> None:
    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingDependencyError(
                f"ONNX export needs the package {name!r} ({error}); try: pip install {' '.join(packages)}"
            ) from error


def _probes(input_shape: Sequence[int], dynamic_batch: bool) -> dict[str, Tensor]:
    """Noise, and a smooth ramp with a bright rectangle: noise alone leaves large activations untested."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(3 if dynamic_batch else 1, *input_shape, generator=generator)
    size = noise[0].numel()
    structured = torch.linspace(0.0, 1.0, size).reshape(1, *input_shape).clone()
    region: tuple[slice, ...] = tuple(slice(n // 4, max(n // 4 + 1, n // 2)) for n in input_shape)
    structured[0][region] = 1.0
    return {"random": noise, "structured": structured}


def _compare(
    network: nn.Module,
    path: Path,
    input_name: str,
    probes: Mapping[str, Tensor],
    tolerance: float | Tensor,
    opset: int,
) -> OnnxParity:
    session = _session(path)
    errors: dict[str, float] = {}
    worst = 0.0
    for name, probe in probes.items():
        with torch.no_grad():
            expected = network(probe)
        if not isinstance(expected, Tensor):
            raise ExportError(f"The network returned a {type(expected).__name__}; expected one tensor.")
        got = torch.from_numpy(session.run(None, {input_name: probe.numpy()})[0])
        if got.shape != expected.shape:
            raise ExportError(
                f"onnxruntime returned the shape {tuple(got.shape)}, PyTorch {tuple(expected.shape)}. "
                "Does the network fix its batch size? Pass dynamic_batch=False."
            )
        if not expected.isfinite().all():
            raise ExportError("The network's output is not finite; there is nothing worth exporting.")
        difference = (got.double() - expected.double()).abs()
        errors[name] = float(difference.max())
        # NaN on the runtime's side must not pass a comparison.
        worst = max(worst, float((difference / _limits(expected, tolerance)).nan_to_num(nan=float("inf")).max()))
    return OnnxParity(max(errors.values()), worst, errors, opset, path.stat().st_size)


def _limits(expected: Tensor, tolerance: float | Tensor) -> Tensor:
    if isinstance(tolerance, Tensor):
        return tolerance
    others = [d for d in range(expected.ndim) if d != 1 or expected.ndim < 2]
    return tolerance * expected.abs().amax(dim=others, keepdim=True).clamp(min=1.0)


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exception types are not public
        raise ExportError(f"onnxruntime cannot load the exported model: {error}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter narrates on stdout, through warnings and through loggers."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
