"""What a step of a searched GELAN network costs, beside the plain networks it contains.

One step is a forward and a backward pass in training mode on random images; the loss is the mean square of
the raw predictions, so that data loading and label assignment stay out of the figure. All cases take turns,
so that other work on the machine slows them alike. Bytes are what autograd keeps between the two passes,
every storage counted once, parameters left out.

    python -m benchmarks.supernet --network gelan-t --batch 16 --size 160
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from darts_hpo.space import Space
from darts_hpo.supernet import Gate, one_hot_gates
from supernets.gelan import BlockOption, GelanSupernet, build_network

REFERENCE = "plain 3x3"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", default="gelan-t")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=160, help="image side in pixels")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    images = torch.rand(arguments.batch, 3, arguments.size, arguments.size, device=device)

    steps = cases(arguments.network, images)
    saved = {name: saved_bytes(*case) for name, case in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(arguments.repeats + 1):
        for name, case in steps.items():
            seconds[name].append(step_seconds(*case))
    rows = {name: (statistics.median(times[1:]), saved[name]) for name, times in seconds.items()}

    print(
        f"{arguments.network}, batch {arguments.batch}, {arguments.size} px, {arguments.threads} thread(s), "
        f"{device}, torch {torch.__version__}, median of {arguments.repeats}"
    )
    reference_time, reference_bytes = rows[REFERENCE]
    print(f"{'':34}{'ms/step':>10}{'ratio':>8}{'MiB saved':>12}{'ratio':>8}")
    for name, (median, kept) in rows.items():
        print(
            f"{name:34}{median * 1e3:10.0f}{median / reference_time:8.2f}"
            f"{kept / 2**20:12.0f}{kept / reference_bytes:8.2f}"
        )


Case = tuple[nn.Module, Callable[[], Tensor]]
"""A network and its loss on the images."""


def cases(network: str, images: Tensor) -> dict[str, Case]:
    """What is compared, by name. Supernets of one kind share a module and differ in their gates."""
    supernets = {
        sharing: GelanSupernet(network, 3, images.shape[1:], weight_sharing=sharing).to(images.device)
        for sharing in ("none", "entangled")
    }

    def plain(option: BlockOption) -> Case:
        options = dict.fromkeys(supernets["none"].roles, option)
        module = build_network(network, 3, options=options).to(images.device)
        return module, lambda: loss(module(images))

    def searched(sharing: str, gates: Callable[[Space], Mapping[str, Gate]]) -> Case:
        supernet = supernets[sharing]
        given = {name: _on(images.device, gate) for name, gate in gates(supernet.space).items()}
        return supernet, lambda: loss(supernet(images, given))

    return {
        "plain 3x3": plain(BlockOption(3, "silu")),
        "plain 5x5": plain(BlockOption(5, "silu")),
        "single path, none": searched("none", last_options),
        "single path, entangled": searched("entangled", last_options),
        "probed path, none": searched("none", probed),
        "probed path, entangled": searched("entangled", probed),
        "mixture, entangled, weight step": searched("entangled", partial(mixture, wants_gradient=False)),
        "mixture, entangled, arch step": searched("entangled", partial(mixture, wants_gradient=True)),
        "mixture, none": searched("none", partial(mixture, wants_gradient=True)),
    }


def last_options(space: Space) -> dict[str, Gate]:
    """Gates of a single path: the last option everywhere, 5x5 SiLU."""
    return one_hot_gates(space, {name: str(space.categorical(name).options[-1]) for name in space})


def probed(space: Space) -> dict[str, Gate]:
    """Gates of the same path that ask for the gradients of all options, as ProxylessNAS does."""
    gates = {}
    for name, gate in last_options(space).items():
        others = tuple(p for p in range(len(gate.weights)) if p not in gate.active)
        gates[name] = Gate(gate.weights.requires_grad_(), gate.active, others)
    return gates


def mixture(space: Space, *, wants_gradient: bool) -> dict[str, Gate]:
    """Gates with equal weights over all options, as DARTS starts with."""
    gates = {}
    for name in space:
        number = len(space.categorical(name).options)
        weights = torch.full((number,), 1 / number).requires_grad_(wants_gradient)
        gates[name] = Gate(weights, tuple(range(number)))
    return gates


def loss(output: Any) -> Tensor:
    """A stand-in for the detection loss that reaches every prediction."""
    heads = [output.main] if output.auxiliary is None else [output.main, output.auxiliary]
    terms = [logits.square().mean() for head in heads for logits in (head.box_logits, head.class_logits)]
    return torch.stack(terms).sum()


def step_seconds(network: nn.Module, forward: Callable[[], Tensor]) -> float:
    """Seconds of one forward and backward pass."""
    network.zero_grad(set_to_none=True)
    _wait()
    start = time.perf_counter()
    forward().backward()
    _wait()
    return time.perf_counter() - start


def saved_bytes(network: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Bytes that a forward pass keeps for its backward pass, parameters and buffers aside."""
    owned = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers())}
    storages: dict[int, int] = {}
    kept = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            storages[storage.data_ptr()] = storage.nbytes()
            kept.append(storage)  # a freed address could be given out again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()
    del output
    return sum(storages.values())


def _on(device: torch.device, gate: Gate) -> Gate:
    weights = gate.weights.detach().to(device).requires_grad_(gate.weights.requires_grad)
    return replace(gate, weights=weights)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
