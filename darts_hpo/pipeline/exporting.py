"""The stage that turns the found network into files for others."""

from __future__ import annotations

import dataclasses
import json

from darts_hpo.costs import deployed
from darts_hpo.genotype import Genotype
from darts_hpo.pipeline.context import Context
from darts_hpo.runs.files import readable_errors


def export(run: Context, genotype: Genotype) -> None:
    """Write the files of the space's own, ``model.onnx``, where it is asked for, and ``bundle.pt``."""
    from darts_hpo.export import export_onnx, save_bundle

    folder, task = run.directory.export, run.parts.task
    network = deployed(run.networks.best(genotype, run.directory.retrain)).eval()
    deployment = dict(task.deployment())
    with readable_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        facts = dict(run.parts.supernet.export_files(network, folder))
    if run.config.export.onnx:
        parity = export_onnx(
            network,
            task.input_shape,
            folder / "model.onnx",
            metadata={name: json.dumps(value) for name, value in deployment.items()},
            tolerance=task.export_tolerance(),
        )
        facts |= dataclasses.asdict(parity)
    if facts:
        run.ledger.store(export=facts)
    # Last: its presence says that the export is done.
    save_bundle(
        folder / "bundle.pt",
        network_target=f"{type(network).__module__}.{type(network).__qualname__}.from_config",
        network_config=network.config(),  # type: ignore[operator]
        state_dict=network.state_dict(),
        genotype=genotype.to_json(),
        labels=deployment.get("labels", []),
        preprocessing=deployment.get("preprocessing", {}),
        metrics=run.ledger["found"],
    )
