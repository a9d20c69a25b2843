"""One cost model for both: the expectation under gates, with gradients, and the exact value of a genotype."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from darts_hpo.costs.base import Cost, deployed
from darts_hpo.errors import ConfigError, SpaceError, unknown_name
from darts_hpo.supernet import CostUnit, Gate, Supernet

SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class CostTerm:
    """The part of a cost that some choices decide together.

    Args:
        name: for tables and messages.
        options: choice name to its option names, one entry per axis of ``table``, in the axes' order.
        table: cost of every joint option, float64; axis `i` runs over the options of the `i`-th choice.

    Raises:
        SpaceError: the table's shape does not fit the options, or an entry is not finite.
    """

    name: str
    options: Mapping[str, tuple[str, ...]]
    table: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", {name: tuple(options) for name, options in self.options.items()})
        object.__setattr__(self, "table", self.table.to(torch.float64))
        expected = tuple(len(options) for options in self.options.values())
        if tuple(self.table.shape) != expected:
            raise SpaceError(
                f"The cost table of {self.name!r} has shape {tuple(self.table.shape)}; its options need {expected}."
            )
        if not bool(torch.isfinite(self.table).all()):
            raise SpaceError(f"The cost table of {self.name!r} holds a number that is not finite.")

    @property
    def choices(self) -> tuple[str, ...]:
        """The choices that decide it, one per axis."""
        return tuple(self.options)

    def expected(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The table contracted with one weight vector per axis: a scalar."""
        first = weights[self.choices[0]]
        value = self.table.to(device=first.device, dtype=first.dtype)
        for choice in self.choices:
            value = torch.tensordot(weights[choice], value, dims=1)  # contracts the leading axis
        return value

    def exact(self, choices: Mapping[str, str]) -> float:
        """The entry of one joint option."""
        position = tuple(options.index(choices[name]) for name, options in self.options.items())
        return float(self.table[position])


@dataclass(frozen=True, eq=False)
class CostModel:
    """Cost of a whole deployed network: a fixed part and a sum of terms.

    Every term is linear in the weights of each of its choices, so :meth:`expected` is exactly the mean over
    architectures whose choices are drawn independently, and equals :meth:`exact` at one-hot weights.

    Args:
        name: :attr:`~darts_hpo.costs.base.Cost.name` of what was measured.
        unit: its unit.
        fixed: cost of what no choice decides.
        terms: the parts that choices decide.
        reference: cost of the hand-made reference architecture.
        conditions: what the numbers hold for, as plain data.
    """

    name: str
    unit: str
    fixed: float
    terms: tuple[CostTerm, ...]
    reference: float
    conditions: Mapping[str, Any] = field(default_factory=dict)

    def expected(self, gates: Mapping[str, Gate] | Mapping[str, Tensor]) -> Tensor:
        """Expected cost, differentiable in the weights.

        Args:
            gates: for every choice a gate, of which the weights are used, or `n_options` probabilities.

        Returns:
            A scalar in :attr:`unit`; its derivative for one choice's softmax logits `a` is
            `d E / d a_i = p_i * (E[cost | option i] - E)`.

        Raises:
            SpaceError: a choice is missing or has another number of options.
        """
        weights = {name: gate.weights if isinstance(gate, Gate) else gate for name, gate in gates.items()}
        total: Tensor | None = None
        for term in self.terms:
            for choice, options in term.options.items():
                if choice not in weights:
                    raise SpaceError(f"The {self.name} of {term.name!r} needs a gate for {choice!r}.")
                if len(weights[choice]) != len(options):
                    raise SpaceError(
                        f"Choice {choice!r} has {len(options)} options in the {self.name} table "
                        f"but {len(weights[choice])} weights."
                    )
            value = term.expected(weights)
            total = value if total is None else total + value
        return torch.tensor(self.fixed) if total is None else total + self.fixed

    def exact(self, choices: Mapping[str, str]) -> float:
        """Cost of one architecture, in :attr:`unit`.

        Args:
            choices: choice name to option name, of the supernet's space.

        Raises:
            SpaceError: a choice is missing or an option is unknown.
        """
        for term in self.terms:
            for choice, options in term.options.items():
                if choice not in choices:
                    raise SpaceError(f"The {self.name} of {term.name!r} needs an option for {choice!r}.")
                if choices[choice] not in options:
                    raise SpaceError(unknown_name(f"option of choice {choice!r}", choices[choice], options))
        return self.fixed + sum(term.exact(choices) for term in self.terms)

    @classmethod
    def measure(cls, supernet: Supernet, cost: Cost, input_shape: tuple[int, ...]) -> CostModel:
        """Measure every unit of a supernet for every joint option, and the reference network as a whole.

        The fixed part is what the whole reference network costs beyond its units. Units of equal structure
        (the same printed module, shapes of weights and input) are measured once. Random generators are left
        as they were.

        Args:
            supernet: gives the units and the reference.
            cost: what to measure.
            input_shape: shape of the network's input without the batch.

        Raises:
            ConfigError: the cost does not decompose.
            SpaceError: the units of an additive cost exceed the whole, so they do not describe the network.
        """
        if not cost.decomposes:
            raise ConfigError(
                f"The cost {cost.name!r} is measured on whole networks only; it has no expectation over architectures."
            )
        measured: dict[object, float] = {}

        def once(module: nn.Module, shape: tuple[int, ...]) -> float:
            sizes = tuple((name, tuple(tensor.shape)) for name, tensor in module.state_dict().items())
            key = (repr(module), sizes, shape)
            if key not in measured:
                measured[key] = cost.measure(module, shape)
            return measured[key]

        with torch.random.fork_rng():  # building modules draws initial weights
            terms = tuple(_measure_unit(supernet, unit, once) for unit in supernet.cost_units())
            choices = dict(supernet.reference_choices())
            network = deployed(supernet.derive(supernet.genotype(choices)))
            reference = cost.measure(network, input_shape)
        parts = sum(term.exact(choices) for term in terms)
        fixed = reference - parts
        # An additive cost may differ by rounding only; what is timed is noisy.
        if cost.additive and fixed < -1e-9 * abs(reference):
            raise SpaceError(
                f"The units of {supernet.name} cost {parts:g} {cost.unit} at the reference but the whole "
                f"network only {reference:g}; cost_units() must describe parts of the deployed network."
            )
        return cls(cost.name, cost.unit, max(fixed, 0.0), terms, reference, dict(cost.conditions()))

    # -- JSON ----------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Plain containers that :meth:`from_json` reads back exactly."""
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "unit": self.unit,
            "fixed": self.fixed,
            "reference": self.reference,
            "conditions": dict(self.conditions),
            "terms": [
                {
                    "name": term.name,
                    # A list, not an object: the order of the axes must survive.
                    "axes": [{"choice": c, "options": list(options)} for c, options in term.options.items()],
                    "table": term.table.tolist(),
                }
                for term in self.terms
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CostModel:
        """The model that :meth:`to_json` described.

        Raises:
            SpaceError: a key is missing, a table is malformed, or the schema is another.
        """
        if data.get("schema_version") != SCHEMA_VERSION:
            raise SpaceError(
                f"The cost table has schema_version {data.get('schema_version')!r}; "
                f"this program reads {SCHEMA_VERSION}."
            )
        try:
            terms = tuple(
                CostTerm(
                    entry["name"],
                    {axis["choice"]: tuple(axis["options"]) for axis in entry["axes"]},
                    torch.tensor(entry["table"], dtype=torch.float64),
                )
                for entry in data["terms"]
            )
            return cls(data["name"], data["unit"], data["fixed"], terms, data["reference"], data["conditions"])
        except KeyError as error:
            raise SpaceError(f"The cost table lacks the key {error}.") from None
        except (TypeError, ValueError) as error:
            raise SpaceError(f"The cost table is malformed: {error}.") from None

    def require_supernet(self, supernet: Supernet) -> None:
        """Check that the tables were measured for a supernet's choices and options.

        Raises:
            SpaceError: they were not; the message says how to measure anew.
        """
        theirs = {(term.name, choice): options for term in self.terms for choice, options in term.options.items()}
        ours = {
            (unit.name, choice): _options(supernet, choice) for unit in supernet.cost_units() for choice in unit.choices
        }
        if theirs != ours:
            differing = sorted(f"{name} ({choice})" for name, choice in set(theirs) ^ set(ours)) or sorted(
                f"{key[0]} ({key[1]})" for key in ours if theirs[key] != ours[key]
            )
            raise SpaceError(
                f"The stored {self.name} table belongs to another space; it differs in "
                f"{', '.join(differing)}. Delete search/costs.json in the run directory to measure anew."
            )


def _measure_unit(
    supernet: Supernet, unit: CostUnit, measure: Callable[[nn.Module, tuple[int, ...]], float]
) -> CostTerm:
    options = {choice: _options(supernet, choice) for choice in unit.choices}
    values: list[float] = []
    for joint in itertools.product(*options.values()):
        module = unit.build(dict(zip(options, joint, strict=True)))
        values.append(measure(module, unit.input_shape))
    shape = tuple(len(names) for names in options.values())
    return CostTerm(unit.name, options, torch.tensor(values, dtype=torch.float64).reshape(shape))


def _options(supernet: Supernet, choice: str) -> tuple[str, ...]:
    return tuple(str(option) for option in supernet.space.categorical(choice).options)
