"""A plain quantum network: an encoding, a circuit with trained angles, a measurement and, if wanted, a linear head."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from darts_hpo.errors import ConfigError, unknown_name
from quantum.circuit import Circuit
from quantum.engines import ChannelEngine, pure_state_engine
from quantum.engines.fused import Memory
from quantum.measurements import Readout, expectations, observables_data, observables_from, sampled_expectations
from quantum.noise import NoiseModel
from quantum.program import CompiledCircuit

STATE = "state"
"""The measurement that hands over the state itself, for tasks that compare states."""
HEADS = ("none", "scale", "linear")


def initial_angles(number: int, init_range: float) -> Tensor:
    """Angles in radians, uniform in [-init_range, init_range).

    Raises:
        ConfigError: the range is negative or not finite.
    """
    if not 0 <= init_range < math.inf:
        raise ConfigError(f"supernet.init_range={init_range}: expected a number of at least 0, in radians.")
    return init_range * (2 * torch.rand(number) - 1)


class Readoff(nn.Module):
    """From a state to the outputs of a network.

    Args:
        n_wires: number of qubits.
        measurement: as :func:`~quantum.measurements.observables_from` reads it, or ``state``.
        n_outputs: outputs wanted; None takes all expectations.
        head: ``none`` gives expectations, ``scale`` multiplies them by a fixed number, ``linear`` is a trained linear
            layer on them.
        scale: of the expectations, before the linear layer too. Expectations lie in [-1, 1]: as logits of a softmax
            they need a scale to be decided.

    Raises:
        ConfigError: a value is out of range, there are fewer expectations than outputs, or a head is to change the
            expectation of a Hamiltonian, which is an answer and no logit.
    """

    def __init__(self, n_wires: int, measurement: Any, n_outputs: int | None, head: str, scale: float) -> None:
        super().__init__()
        if head not in HEADS:
            raise ConfigError(unknown_name("supernet.head", str(head), HEADS))
        if not 0 < scale < math.inf:
            raise ConfigError(f"supernet.head_scale={scale}: expected a number above 0.")
        if isinstance(measurement, Mapping) and head != "none":
            raise ConfigError(
                f"supernet.head={head} would change the expectation of the Hamiltonian that is measured; "
                "use supernet.head=none."
            )
        self.n_wires, self.head, self.scale = n_wires, head, scale
        self.gives_state = measurement == STATE
        self.observables = () if self.gives_state else observables_from(measurement, n_wires)
        self.linear: nn.Linear | None = None
        if self.gives_state:
            return
        if n_outputs is not None and n_outputs < 1:
            raise ConfigError(f"supernet.n_outputs={n_outputs}: expected at least 1, or null for all that is measured.")
        measured = len(self.observables)
        if head == "linear":
            self.linear = nn.Linear(measured, measured if n_outputs is None else n_outputs)
        elif n_outputs is not None:
            if n_outputs > measured:
                raise ConfigError(
                    f"{measured} observables cannot give {n_outputs} outputs; use supernet.head=linear, more wires, or "
                    "a list of at least as many Pauli strings as supernet.measurement."
                )
            self.observables = self.observables[:n_outputs]

    def forward(self, state: Tensor, readout: Readout | None = None) -> Tensor:
        """Outputs `B x n_outputs` of raw states; the states themselves, `B x size`, where those are wanted."""
        if self.gives_state:
            return state.T
        # Under autocast sums of probabilities would be rounded to three digits.
        with torch.autocast(state.device.type, enabled=False):
            return self.outputs(expectations(state, self.observables, self.n_wires, readout))

    def sampled(self, state: Tensor, shots: int, generator: torch.Generator, readout: Readout | None = None) -> Tensor:
        """Outputs from a finite number of measurements."""
        return self.outputs(
            sampled_expectations(state, self.observables, self.n_wires, shots, generator=generator, readout=readout)
        )

    def outputs(self, values: Tensor) -> Tensor:
        """Outputs from expectations `B x n_observables`."""
        if self.head == "none":
            return values
        scaled = self.scale * values
        return scaled if self.linear is None else self.linear(scaled)

    def facts(self) -> dict[str, Any]:
        """What makes outputs of a state, as plain data.

        Returns:
            ``measurement``, a list of observables or ``state``; ``head``; ``head_scale``; ``n_outputs``, None where the
            state is the output; and of a linear head ``linear_weight``, `n_outputs x n_observables`, and
            ``linear_bias``.
        """
        facts: dict[str, Any] = {
            "measurement": STATE if self.gives_state else observables_data(self.observables),
            "head": self.head,
            "head_scale": self.scale,
            "n_outputs": None if self.gives_state else len(self.observables),
        }
        if self.linear is not None:
            facts["n_outputs"] = self.linear.out_features
            facts["linear_weight"] = self.linear.weight.detach().tolist()
            facts["linear_bias"] = self.linear.bias.detach().tolist()
        return facts


def _seed_of(x: Tensor, seed: int) -> int:
    """A seed from the content of a batch and a seed of one's own."""
    content = x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    digest = hashlib.blake2b(f"{seed} {tuple(x.shape)} {x.dtype} ".encode() + content, digest_size=8)
    return int.from_bytes(digest.digest(), "little")


class QuantumNetwork(nn.Module):
    """A circuit with trained angles.

    In evaluation mode it gives the ideal outputs, exact and of a device without noise, whatever it was trained in;
    those in the noise and from shots are :meth:`evaluations`. Ideal outputs come from amplitudes, noisy ones from the
    channel engine.

    Args:
        circuit: encoding included.
        measurement: see :class:`Readoff`.
        n_outputs: likewise.
        head: likewise.
        head_scale: likewise.
        noise: of a device; gives the evaluation ``noisy``, and is what is trained in with ``noisy_training``.
        noisy_training: whether :meth:`forward` runs in the noise while the network is in training mode.
        shots: gives the evaluation ``shots``: so many measurements per basis.
        shot_seed: of those measurements.
        init_range: initial angles are uniform in [-init_range, init_range), in radians.
        engine: what simulates without noise, ``fused`` or ``torchquantum``; see
            :func:`~quantum.engines.pure_state_engine`.
        memory: see :class:`~quantum.engines.fused.FusedEngine`.
        channel_max_wires: most wires of a simulation with noise.

    Raises:
        ConfigError: a value is out of range or two do not go together.
        SpaceError: there are too many wires for a simulation with noise.
    """

    def __init__(
        self,
        circuit: Circuit,
        *,
        measurement: Any = "z",
        n_outputs: int | None = None,
        head: str = "none",
        head_scale: float = 1.0,
        noise: NoiseModel | None = None,
        noisy_training: bool = False,
        shots: int | None = None,
        shot_seed: int = 0,
        init_range: float = math.pi,
        engine: str = "fused",
        memory: Memory = "store",
        channel_max_wires: int = 6,
    ) -> None:
        super().__init__()
        self._sources: Tensor
        if noisy_training and noise is None:
            raise ConfigError("Training in noise needs a noise model; set supernet.noise, for example noise=device.")
        if shots is not None and shots < 1:
            raise ConfigError(f"supernet.shots={shots}: expected at least 1, or null for exact expectations.")
        self.circuit, self.shots, self.shot_seed = circuit, shots, shot_seed
        self.noise = None if noise is None else noise.for_wires(circuit.n_wires)
        plain = isinstance(measurement, (str, Mapping))
        self._settings: dict[str, Any] = {
            "measurement": measurement if plain else observables_data(observables_from(measurement, circuit.n_wires)),
            "n_outputs": n_outputs,
            "head": head,
            "head_scale": head_scale,
            "noisy_training": noisy_training,
            "shots": shots,
            "shot_seed": shot_seed,
            "init_range": init_range,
            "engine": engine,
            "memory": memory,
            "channel_max_wires": channel_max_wires,
        }
        compiled = CompiledCircuit.of(circuit)
        self._program = compiled.program
        self.register_buffer("_sources", torch.tensor(compiled.sources, dtype=torch.int64), persistent=False)
        self._constants = compiled.constants
        self.weights = nn.Parameter(initial_angles(circuit.n_weights, init_range))
        self.readoff = Readoff(circuit.n_wires, measurement, n_outputs, head, head_scale)
        self._ideal_engine = pure_state_engine(engine, memory)
        self._noisy_engine: ChannelEngine | None = None
        if self.noise is not None:
            self._noisy_engine = ChannelEngine(self.noise, max_wires=channel_max_wires, memory=memory)
            self._noisy_engine.require_wires(circuit.n_wires)

    @property
    def n_inputs(self) -> int:
        """Features that are read; 0 where the circuit runs without data."""
        return self.circuit.n_inputs

    @property
    def measured_wires(self) -> tuple[int, ...]:
        """Wires that are read; all of them where the state itself is the output."""
        if self.readoff.gives_state:
            return tuple(range(self.circuit.n_wires))
        supports = (string.support for observable in self.readoff.observables for string, _ in observable.terms)
        return tuple(sorted({wire for support in supports for wire in support}))

    def state(self, x: Tensor, *, noisy: bool = False) -> Tensor:
        """The raw state at the end, batch last: amplitudes, or a Pauli vector where `noisy`.

        Args:
            x: `B x F`; a circuit that reads no data runs once, and its state is every sample's.
            noisy: whether the device's noise is simulated.
        """
        engine = self._noisy_engine if noisy else self._ideal_engine
        assert engine is not None  # `noisy` is asked for only where there is a noise model
        weights: Tensor = self.weights
        if self._constants:  # in the precision of the weights, whatever that has become
            weights = torch.cat([weights, weights.new_tensor(self._constants)])
        parameters = weights.index_select(0, self._sources)
        if self.n_inputs:
            return engine.run(self._program, parameters, inputs=x)
        return engine.run(self._program, parameters).expand(-1, len(x))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs `B x n_outputs` of samples `B x F`: noisy where it trains in noise, else ideal."""
        if self.training and self._settings["noisy_training"]:
            return self.noisy_outputs(x)
        outputs: Tensor = self.readoff(self.state(x))
        return outputs

    def noisy_outputs(self, x: Tensor) -> Tensor:
        """Outputs under the noise model, readout errors included, from exact expectations."""
        outputs: Tensor = self.readoff(self.state(x, noisy=True), self._readout())
        return outputs

    def shot_outputs(self, x: Tensor) -> Tensor:
        """Outputs from :attr:`shots` measurements, in the noise where there is a noise model.

        The draws follow from the seed and the samples of the batch: the same batch always gets the same ones, so that
        a score does not depend on how often or in which order it was asked for, and other batches get others.
        """
        assert self.shots is not None
        noisy = self.noise is not None
        generator = torch.Generator().manual_seed(_seed_of(x, self.shot_seed))
        return self.readoff.sampled(self.state(x, noisy=noisy), self.shots, generator, self._readout())

    def evaluations(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """Other ways to compute the outputs, by the name they have in metrics."""
        ways: dict[str, Callable[[Tensor], Tensor]] = {}
        if self.noise is not None:
            ways["noisy"] = self.noisy_outputs
        if self.shots is not None and not self.readoff.gives_state:
            ways["shots"] = self.shot_outputs
        return ways

    def _readout(self) -> Readout | None:
        if self.noise is None:
            return None
        return [self.noise.readout(wire) for wire in range(self.circuit.n_wires)]

    def config(self) -> dict[str, Any]:
        """Plain data that :meth:`from_config` rebuilds the network from, weights aside."""
        noise = None if self.noise is None else self.noise.to_data()
        return {"circuit": self.circuit.to_json(), "noise": noise, **self._settings}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> QuantumNetwork:
        """The network that :meth:`config` described, with fresh weights."""
        settings = dict(config)
        noise = settings.pop("noise")
        circuit = Circuit.from_json(settings.pop("circuit"))
        return cls(circuit, noise=None if noise is None else NoiseModel.from_data(noise), **settings)


class CircuitPart(nn.Module):
    """A piece of a circuit with its angles, as costs see it. To run it is to do nothing: it has no state.

    Args:
        circuit: the piece.
        noise: laid out for the whole circuit, so that costs place the piece where the network is.
    """

    def __init__(self, circuit: Circuit, noise: NoiseModel | None = None) -> None:
        super().__init__()
        self.circuit, self.noise = circuit, noise
        self.weights = nn.Parameter(torch.zeros(circuit.n_weights))

    def forward(self, x: Tensor) -> Tensor:
        """The input itself."""
        return x

    def extra_repr(self) -> str:
        """The circuit: parts that print alike cost alike."""
        return str(self.circuit)
