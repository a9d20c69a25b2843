"""The searchable circuit: layers of slots on wires and pairs of wires, each with a pool of candidate gates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from darts_hpo.errors import ConfigError, SpaceError, unknown_name
from darts_hpo.genotype import Genotype
from darts_hpo.space import Categorical, Space
from darts_hpo.supernet import CostUnit, GatedSupernet, Gates, Supernet
from quantum.circuit import Circuit, Operation, Weight
from quantum.encoders import encoder, encoder_names
from quantum.engines import ChannelEngine, Engine, pure_state_engine
from quantum.engines.fused import Memory
from quantum.gates import gate_named
from quantum.network import CircuitPart, QuantumNetwork, Readoff, initial_angles
from quantum.noise import NoiseModel
from quantum.program import DataSlot, Element, Encoding, Program, Slot
from quantum.topology import pairs_of

if TYPE_CHECKING:
    from darts_hpo.report.figure import Figure

STYLES = ("macro", "micro")
MIXINGS = ("channel", "lcu")
STAGES = ("search", "training", "evaluation")
NO_UPLOAD = "none"


@dataclass(frozen=True)
class _Searched:
    """An element of the program and the choice that decides it; no choice where there is one candidate."""

    element: Element
    choice: str
    options: tuple[str, ...]

    @property
    def open(self) -> bool:
        return len(self.options) > 1


class Supercircuit(Supernet):
    """A circuit whose gates are open.

    Data are encoded first. Every layer then has, if wanted, a place where data enter again, one slot per wire, and one
    slot per pair of the topology. ``I`` among the candidates leaves a slot empty, which is how the depth is searched.

    A gate mixture is run as ``channel`` (the mixed-unitary channel, on Pauli vectors: the exact average over circuits
    whose slots are drawn independently, noise included) or as ``lcu`` (a normalised linear combination of unitaries,
    on amplitudes: cheaper for many wires, but a search with it needs relaxation.entropy_weight to end near
    a circuit). Where one choice decides several places, the places are mixed one by one, as if each had been drawn for
    itself, while a derived circuit has the same option in all of them: the slots of the cells of ``style: micro`` are
    such places, those where data enter again included. There the channel only approximates the average; it is exact at
    one-hot weights.

    Args:
        n_inputs: features of a sample; 0 for tasks without data.
        n_outputs: outputs that the task wants; None takes all that are measured.
        n_wires: number of qubits.
        n_layers: layers.
        one_qubit: candidates of the slots on wires.
        two_qubit: candidates of the slots on pairs.
        topology: as in :func:`~quantum.topology.pairs_of`.
        style: ``macro`` searches every slot of every layer; ``micro`` searches one layer, the cell, which is repeated
            with its own angles.
        encoder: name of an encoder, or several: then it is searched. ``none`` for tasks without data.
        reupload: ``false`` encodes once; ``true`` again before every further layer; ``search`` lets the search decide.
        mixing: ``channel`` or ``lcu``.
        measurement: see :class:`~quantum.network.Readoff`.
        head: likewise.
        head_scale: likewise.
        noise: model of the device, or None for an ideal one.
        noisy: the stages that know the noise, among ``search`` (the loss of the search), ``training`` (the loss of
            the found circuit's training) and ``evaluation``. Metrics of the name ``<metric>_noisy`` come with each of
            the latter two; those of a plain name are of ideal outputs, whatever stands here.
        shots: evaluate with so many measurements as well.
        reference: gates of the hand-made circuit, ``one_qubit`` and ``two_qubit``, candidates both, in all slots.
        init_range: initial angles are uniform in [-init_range, init_range), in radians.
        engine: what simulates amplitudes: ``fused``, the fast one, or ``torchquantum``, the reference.
        memory: ``store`` or ``recompute``; see :class:`~quantum.engines.fused.FusedEngine`.
        channel_max_wires: most wires that the channel engine accepts.

    Raises:
        ConfigError: a value is out of range, or two do not go together.
        SpaceError: a gate or an encoder is unknown or does not fit, or there are too many wires for the engine or the
            memory.
        DataError: the device's calibration lacks a rate of a candidate, an encoder or the readout.
    """

    name = "supercircuit"
    exports_onnx = False  # a simulation is no model: circuits leave as OpenQASM

    def __init__(
        self,
        n_inputs: int = 0,
        n_outputs: int | None = None,
        n_wires: int = 4,
        n_layers: int = 3,
        one_qubit: Sequence[str] = ("I", "RX", "RY", "RZ", "U3"),
        two_qubit: Sequence[str] = ("I", "CNOT", "CZ", "CRX", "CU3"),
        topology: str | Sequence[Sequence[int]] = "ring",
        style: str = "macro",
        encoder: str | Sequence[str] = "angle_ryz",
        reupload: bool | str = False,
        mixing: str = "channel",
        measurement: Any = "z",
        head: str = "none",
        head_scale: float = 1.0,
        noise: NoiseModel | None = None,
        noisy: Sequence[str] = ("evaluation",),
        shots: int | None = None,
        reference: Mapping[str, str] | None = None,
        init_range: float = math.pi,
        engine: str = "fused",
        memory: Memory = "store",
        channel_max_wires: int = 6,
    ) -> None:
        super().__init__()
        _require_known("style", style, STYLES)
        _require_known("mixing", mixing, MIXINGS)
        for stage in noisy:
            _require_known("noisy", stage, STAGES)
        if noise is None and set(noisy) - {"evaluation"}:  # which is the default, and harmless
            raise ConfigError(
                f"supernet.noisy={list(noisy)} needs a noise model; choose noise=device or noise=uniform."
            )
        if n_wires < 1 or n_layers < 1:
            raise ConfigError(f"supernet.n_wires={n_wires}, n_layers={n_layers}: expected at least 1 of each.")
        self.n_wires, self.n_layers, self.style = n_wires, n_layers, style
        self.noise = None if noise is None else noise.for_wires(n_wires, _layout_topology(topology))
        self._noisy = tuple(noisy) if noise is not None else ()
        self._candidates = {1: _pool("one_qubit", one_qubit, 1), 2: _pool("two_qubit", two_qubit, 2)}
        self._pairs = pairs_of(topology, n_wires, self.noise)
        encodings = _encodings(encoder, n_wires, n_inputs)
        self._elements = self._layout(encodings, reupload)
        self._slots = tuple(item for item in self._elements if isinstance(item.element, Slot))
        self._data = tuple(item for item in self._elements if isinstance(item.element, DataSlot))
        self._program = Program(n_wires, tuple(item.element for item in self._elements))
        self._space = Space({item.choice: Categorical(item.options) for item in self._elements if item.open})
        self._reference = self._reference_gates(reference)
        self._network_settings: dict[str, Any] = {
            "measurement": measurement,
            "n_outputs": n_outputs,
            "head": head,
            "head_scale": head_scale,
            "noise": self.noise if {"training", "evaluation"} & set(self._noisy) else None,
            "noisy_training": "training" in self._noisy,
            "shots": shots,
            "init_range": init_range,
            "engine": engine,
            "memory": memory,
            "channel_max_wires": channel_max_wires,
        }
        self._ideal_engine, self._noisy_engine = self._search_engines(mixing, engine, memory, channel_max_wires)
        # What is wrong is refused now: networks are derived, and rates of the device asked for, hours later.
        self._ideal_engine.require_room(n_wires, 1, torch.zeros(0))
        self._require_rates()
        with torch.random.fork_rng(devices=[]):
            self.derive(self.genotype(self.reference_choices()))
        self.readoff = Readoff(n_wires, measurement, n_outputs, head, head_scale)
        self.weights = nn.Parameter(initial_angles(self._program.n_parameters, init_range))
        self._readout = None if self.noise is None else [self.noise.readout(wire) for wire in range(n_wires)]

    # -- the program ----------------------------------------------------------------------------------------------

    def _layout(self, encodings: Mapping[str, Encoding | None], reupload: bool | str) -> tuple[_Searched, ...]:
        """Elements in order of time."""
        names = tuple(encodings)
        items: list[_Searched] = []
        if any(encoding is not None for encoding in encodings.values()):
            items.append(_Searched(DataSlot(tuple(encodings.values())), "encoder", names))
        again = _upload_options(encodings, reupload)
        for layer in range(self.n_layers):
            prefix = "cell" if self.style == "micro" else f"layer{layer}"
            if again and layer > 0:
                slot = DataSlot(tuple(again.values()))
                items.append(_Searched(slot, f"{prefix}.reupload", tuple(again)))
            for wire in range(self.n_wires):
                pool = self._candidates[1]
                items.append(_Searched(Slot((wire,), pool), f"{prefix}.wire{wire}", pool))
            for pair in self._pairs:
                pool = self._candidates[2]
                items.append(_Searched(Slot(pair, pool), f"{prefix}.pair{pair[0]}_{pair[1]}", pool))
        return tuple(items)

    def _search_engines(
        self, mixing: str, engine: str, memory: Memory, max_wires: int
    ) -> tuple[Engine, ChannelEngine | None]:
        """The engine without noise and, where there is noise that a mixture can be run in, that with it."""
        pure = pure_state_engine(engine, memory)
        if mixing == "channel":
            if engine != "fused":
                raise ConfigError(
                    f"supernet.engine={engine} simulates amplitudes, and supernet.mixing=channel mixes density "
                    "matrices; use supernet.mixing=lcu with it."
                )
            channel = ChannelEngine(None, max_wires=max_wires, memory=memory)
            channel.require_wires(self.n_wires)
            if self.noise is None:
                return channel, None
            return channel, ChannelEngine(self.noise, max_wires=max_wires, memory=memory)
        if "search" in self._noisy:
            raise ConfigError(
                "supernet.mixing=lcu runs on amplitudes, which noise leaves; search in noise with "
                "supernet.mixing=channel, or take search out of supernet.noisy."
            )
        return pure, None

    def _require_rates(self) -> None:
        """Ask for the noise of everything that a derived circuit may hold.

        Raises:
            DataError: the device's calibration lacks a rate that is needed.
        """
        if self.noise is None or not self._noisy:
            return
        placed: set[tuple[str, tuple[int, ...]]] = set()
        for item in self._elements:
            if isinstance(item.element, Slot):
                placed |= {(gate, item.element.wires) for gate in item.options}
            else:
                encodings = [option for option in item.element.options if option is not None]
                placed |= {(operation.gate, operation.wires) for e in encodings for operation in e.operations}
        for gate, wires in sorted(placed):
            self.noise.after(gate, wires)
        for wire in range(self.n_wires):
            self.noise.readout(wire)

    # -- Supernet -------------------------------------------------------------------------------------------------

    @property
    def space(self) -> Space:
        """One choice per slot (``macro``) or per slot of the cell (``micro``), and per open place for data.

        Names are ``layer0.wire2``, ``layer0.pair1_2`` or ``cell.wire2``, ``cell.pair1_2``; ``encoder``; and
        ``layer1.reupload``.
        """
        return self._space

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Outputs `B x n_outputs` of samples `B x n_inputs` under the gates; in evaluation mode the ideal ones.

        The small matrices of all candidates are always there, so the whole weight vector of a gate counts, and options
        that are not active have a derivative too.
        """
        return self._outputs(x, gates, noisy=self.training and "search" in self._noisy)

    def _outputs(self, x: Tensor, gates: Gates, *, noisy: bool) -> Tensor:
        self.check_gates(gates)
        engine = self._noisy_engine if noisy else self._ideal_engine
        assert engine is not None  # noise in the search is refused where the mixture cannot be run in it
        weights = {choice: gate.weights for choice, gate in gates.items()}
        decided = self.weights.new_ones(1)
        slots, data = (
            [weights[item.choice] if item.open else decided for item in items] for items in (self._slots, self._data)
        )
        state = engine.run(self._program, self.weights, torch.cat(slots), data, x if data else None)
        if not data:  # the circuit ran once, for every sample
            state = state.expand(-1, len(x))
        outputs: Tensor = self.readoff(state, self._readout if noisy else None)
        return outputs

    def with_gates(self, gates: Gates) -> GatedSupercircuit:
        """The supercircuit as a network of inputs alone, which offers the evaluation ``noisy`` as circuits do.

        There is none with ``mixing=lcu``, and none from shots.
        """
        ways: dict[str, Callable[[Tensor], Tensor]] = {}
        if self._noisy_engine is not None and self._network_settings["noise"] is not None:
            ways["noisy"] = lambda x: self._outputs(x, gates, noisy=True)
        return GatedSupercircuit(self, gates, ways)

    def derive(self, genotype: Genotype, *, inherit_weights: bool = False) -> QuantumNetwork:
        """The plain circuit of a genotype.

        Raises:
            GenotypeError: the genotype belongs to another space.
        """
        circuit, kept = self._circuit(self.choices(genotype))
        network = QuantumNetwork(circuit, **self._network_settings)
        if inherit_weights:
            with torch.no_grad():
                network.weights.copy_(self.weights[kept])
            network.readoff.load_state_dict(self.readoff.state_dict())
        return network

    def reference_choices(self) -> Mapping[str, str]:
        """The hand-made circuit: the same gates in every slot, the first encoder, and data again where it is open."""
        chosen = {}
        for item in self._elements:
            if not item.open:
                continue
            if isinstance(item.element, Slot):
                chosen[item.choice] = self._reference[len(item.element.wires)]
            else:
                chosen[item.choice] = next(option for option in item.options if option != NO_UPLOAD)
        return chosen

    def cost_units(self) -> Sequence[CostUnit]:
        """One unit per choice: the operations that it decides, in all layers."""
        groups: dict[str, list[_Searched]] = {}
        for item in self._elements:
            if item.open:
                groups.setdefault(item.choice, []).append(item)
        return [self._cost_unit(choice, items) for choice, items in groups.items()]

    def collapse_indicators(self, probabilities: Mapping[str, Tensor]) -> dict[str, float]:
        """How far the search drifts towards an empty circuit.

        Args:
            probabilities: `n_options` per choice.

        Returns:
            ``empty_weight``, the mean probability of ``I`` over the slots that have it, and ``empty_pairs``, the share
            of slots on pairs whose most probable candidate is ``I``; both in [0, 1].
        """
        weights, empty, pairs = [], 0, 0
        for item in {item.choice: item for item in self._elements if item.open}.values():
            if not isinstance(item.element, Slot) or "I" not in item.options:
                continue
            p = probabilities[item.choice]
            position = item.options.index("I")
            weights.append(float(p[position]))
            if len(item.element.wires) == 2:
                pairs += 1
                empty += int(p.argmax()) == position
        indicators = {}
        if weights:
            indicators["empty_weight"] = sum(weights) / len(weights)
        if pairs:
            indicators["empty_pairs"] = empty / pairs
        return indicators

    def export_files(self, network: nn.Module, folder: Path) -> Mapping[str, Any]:
        """``circuit.json``, OpenQASM 2 and 3, and the drawing of the found circuit; its trainability."""
        from quantum.artifacts import write_artifacts

        assert isinstance(network, QuantumNetwork)
        return write_artifacts(network, folder)

    def figures(self, network: nn.Module) -> Sequence[Figure]:
        """The drawing of the found circuit."""
        from quantum.artifacts import artifact_figures

        assert isinstance(network, QuantumNetwork)
        return artifact_figures(network)

    # -- details --------------------------------------------------------------------------------------------------

    def _circuit(self, choices: Mapping[str, str]) -> tuple[Circuit, list[int]]:
        slots: list[int] = []
        data: list[int] = []
        for item in self._elements:
            position = item.options.index(choices[item.choice]) if item.open else 0
            (slots if isinstance(item.element, Slot) else data).append(position)
        return self._program.circuit(slots, data)

    def _cost_unit(self, choice: str, items: Sequence[_Searched]) -> CostUnit:
        def build(options: Mapping[str, str]) -> nn.Module:
            operations: list[Operation] = []
            n_weights = 0
            for item in items:
                position = item.options.index(options[choice])
                if isinstance(item.element, DataSlot):
                    encoding = item.element.options[position]
                    operations.extend(encoding.operations if encoding is not None else ())
                    continue
                name = item.options[position]
                count = gate_named(name).n_parameters
                if name != "I":
                    angles = tuple(Weight(n_weights + i) for i in range(count))
                    operations.append(Operation(name, item.element.wires, angles))
                    n_weights += count
            return CircuitPart(Circuit(self.n_wires, tuple(operations)), self.noise)

        return CostUnit(choice, (choice,), build, ())

    def _reference_gates(self, reference: Mapping[str, str] | None) -> dict[int, str]:
        keys = {1: "one_qubit", 2: "two_qubit"}
        given = dict(reference or {})
        for key in given:
            _require_known("reference", key, tuple(keys.values()))
        chosen = {}
        for width, key in keys.items():
            pool = self._candidates[width]
            # The gate with most angles is the usual hand-made choice: U3, and CU3 behind it.
            default = max(pool, key=lambda name: (gate_named(name).n_parameters, name != "I"))
            gate = given.get(key, default)
            if gate not in pool:
                raise ConfigError(unknown_name(f"gate in supernet.reference.{key}", str(gate), pool))
            chosen[width] = gate
        return chosen


class GatedSupercircuit(GatedSupernet):
    """A supercircuit under gates that stay as they are.

    Args:
        supercircuit: not copied.
        gates: of every choice.
        ways: other ways to compute the outputs under the gates, by name.
    """

    def __init__(
        self, supercircuit: Supercircuit, gates: Gates, ways: Mapping[str, Callable[[Tensor], Tensor]]
    ) -> None:
        super().__init__(supercircuit, gates)
        self._ways = ways

    def evaluations(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """As :meth:`QuantumNetwork.evaluations <quantum.network.QuantumNetwork.evaluations>`."""
        return self._ways


def _require_known(key: str, value: str, names: Sequence[str]) -> None:
    if value not in names:
        raise ConfigError(unknown_name(f"supernet.{key}", str(value), names))


def _layout_topology(topology: str | Sequence[Sequence[int]]) -> str:
    """What a device's layout is chosen for."""
    return topology if isinstance(topology, str) else "chain"


def _pool(key: str, names: Sequence[str], width: int) -> tuple[str, ...]:
    """Checked candidates.

    Raises:
        ConfigError: none, one twice, or one for another number of wires.
    """
    pool = tuple(str(name) for name in names)
    if not pool or len(set(pool)) != len(pool):
        raise ConfigError(f"supernet.{key}={list(pool)}: expected at least one gate and none twice.")
    for name in pool:
        n_wires = gate_named(name).n_wires
        if name != "I" and n_wires != width:
            raise ConfigError(f"supernet.{key} holds {name}, which acts on {n_wires} wires; expected gates on {width}.")
    return pool


def _encodings(names: str | Sequence[str], n_wires: int, n_inputs: int) -> dict[str, Encoding | None]:
    listed = (names,) if isinstance(names, str) else tuple(names)
    for name in listed:  # also where there are no data to encode
        if name not in encoder_names():
            raise SpaceError(unknown_name("encoder", str(name), encoder_names()))
    if n_inputs == 0:
        return {NO_UPLOAD: None}
    found = {name: encoder(name, n_wires, n_inputs) for name in listed}
    if not any(found.values()):
        raise ConfigError(f"The task has {n_inputs} features, but supernet.encoder={list(listed)} encodes none.")
    return found


def _upload_options(encodings: Mapping[str, Encoding | None], reupload: bool | str) -> dict[str, Encoding | None]:
    """Candidates of a place where data enter again; none where there is no such place.

    Raises:
        ConfigError: the setting is unknown, or there is nothing that can be encoded again.
    """
    if reupload is False:
        return {}
    if reupload is not True and reupload != "search":
        raise ConfigError(unknown_name("supernet.reupload", str(reupload), ("false", "true", "search")))
    if not any(encodings.values()):
        raise ConfigError(f"supernet.reupload={reupload}, but the task has no data that could enter; use false.")
    gates: dict[str, Encoding | None] = {}
    gates |= {name: encoding for name, encoding in encodings.items() if encoding is not None and not encoding.amplitude}
    if not gates:
        raise ConfigError("supernet.reupload needs an encoder of gates; amplitude encoding sets the initial state.")
    return gates if reupload is True else {NO_UPLOAD: None, **gates}
