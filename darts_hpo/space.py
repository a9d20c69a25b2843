"""Named parameters with their ranges: one data model for architecture choices and hyperparameters.

A :class:`Space` is pure data: JSON in and out, a canonical hashable id, no tensors. A supernet's choices and
the hyperparameters of a sweep are the same kind of thing, so every sampler works on both.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from darts_hpo.constraints import Constraint
from darts_hpo.errors import SpaceError, unknown_name

Value: TypeAlias = float | int | str | bool
Point: TypeAlias = Mapping[str, Value]


@dataclass(frozen=True)
class Float:
    """A real parameter on the closed interval ``[low, high]``.

    Args:
        low: smallest value.
        high: largest value, greater than ``low``.
        log: sample and scale uniformly in the logarithm; needs ``low > 0``.

    Raises:
        SpaceError: the interval is empty or not finite, or a log interval touches zero.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        # 0, 0.0 and -0.0 from a YAML file are one bound: equal spaces must have equal ids.
        for bound in ("low", "high"):
            object.__setattr__(self, bound, _finite(getattr(self, bound), "bound of an interval") + 0.0)
        _check_interval(self.low, self.high, self.log)

    def validate(self, value: Value) -> float:
        """The value as a float, if it lies in the interval.

        Raises:
            SpaceError: the value is no finite number or lies outside.
        """
        number = _finite(value, f"number in [{self.low}, {self.high}]")
        if not self.low <= number <= self.high:
            raise SpaceError(f"{value!r} lies outside [{self.low}, {self.high}].")
        return number + 0.0

    def sample(self, rng: random.Random) -> float:
        """A value uniform on the interval (uniform in the logarithm where ``log``)."""
        return self.from_unit(rng.random())

    def to_unit(self, value: Value) -> float:
        """Position of a value on the unit interval."""
        number = self.validate(value)
        if self.log:
            return (math.log(number) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (number - self.low) / (self.high - self.low)

    def from_unit(self, position: float) -> float:
        """The value at a position of the unit interval."""
        if self.log:
            number = math.exp(math.log(self.low) + position * (math.log(self.high) - math.log(self.low)))
        else:
            number = self.low + position * (self.high - self.low)
        return min(max(number, self.low), self.high)


@dataclass(frozen=True)
class Int:
    """An integer parameter on ``low..high``, both included.

    Args:
        low: smallest value.
        high: largest value, greater than ``low``.
        log: sample and scale uniformly in the logarithm; needs ``low > 0``.

    Raises:
        SpaceError: the interval is empty, a bound is no integer or beyond 2**53 (where floats no longer tell
            integers apart), or a log interval touches zero.
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        for bound in ("low", "high"):
            number = _finite(getattr(self, bound), "bound of an interval")
            if not number.is_integer() or abs(number) > 2**53:
                raise SpaceError(f"{number!r} cannot bound an Int; expected an integer within -2**53..2**53.")
            object.__setattr__(self, bound, int(number))
        _check_interval(self.low, self.high, self.log)

    def validate(self, value: Value) -> int:
        """The value as an int, if it lies in the interval.

        Raises:
            SpaceError: the value is no integer or lies outside.
        """
        number = _finite(value, f"integer in {self.low}..{self.high}")
        if not number.is_integer():
            raise SpaceError(f"{value!r} is not an integer; expected one in {self.low}..{self.high}.")
        if not self.low <= number <= self.high:
            raise SpaceError(f"{value!r} lies outside {self.low}..{self.high}.")
        return int(number)

    def sample(self, rng: random.Random) -> int:
        """A value uniform on the integers (each bin equally wide in the logarithm's scale where ``log``)."""
        return self.from_unit(rng.random())

    def to_unit(self, value: Value) -> float:
        """Centre of the value's bin on the unit interval."""
        number = self.validate(value)
        low, high = self._bounds()
        if self.log:
            return (math.log(number) - math.log(low)) / (math.log(high) - math.log(low))
        return (number - low) / (high - low)

    def from_unit(self, position: float) -> int:
        """The integer whose bin holds a position of the unit interval."""
        low, high = self._bounds()
        if self.log:
            number = math.exp(math.log(low) + position * (math.log(high) - math.log(low)))
        else:
            number = low + position * (high - low)
        return min(max(round(number), self.low), self.high)

    def _bounds(self) -> tuple[float, float]:
        return self.low - 0.5, self.high + 0.5


@dataclass(frozen=True)
class Categorical:
    """An unordered parameter: one of ``options``, which are named, never bare indices.

    Raises:
        SpaceError: there is no option, one is given twice, or one is neither text, finite number nor boolean.
    """

    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        if not self.options:
            raise SpaceError("A Categorical needs at least one option; it was given none.")
        for option in self.options:
            if not isinstance(option, (str, int, float)) or (isinstance(option, float) and not math.isfinite(option)):
                raise SpaceError(f"Option {option!r} is neither text, a finite number nor a boolean.")
        keys = [_option_key(option) for option in self.options]
        for key in keys:
            if keys.count(key) > 1:
                raise SpaceError(f"Option {key[1]!r} is given twice; options must differ.")

    def validate(self, value: Value) -> Value:
        """The value, if it is an option.

        Raises:
            SpaceError: it is none.
        """
        return self.options[self.index(value)]

    def index(self, value: Value) -> int:
        """Position of an option.

        Raises:
            SpaceError: the value is no option.
        """
        for position, option in enumerate(self.options):
            if _option_key(option) == _option_key(value):
                return position
        raise SpaceError(unknown_name("option", str(value), map(str, self.options)))

    def sample(self, rng: random.Random) -> Value:
        """An option, each equally likely."""
        return self.options[rng.randrange(len(self.options))]


Parameter: TypeAlias = Float | Int | Categorical


@dataclass(frozen=True)
class Condition:
    """``parameter`` exists only where ``parent`` takes one of ``values``.

    Raises:
        SpaceError: there are no values, so that the parameter could never exist.
    """

    parameter: str
    parent: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values:
            raise SpaceError(f"The condition on {self.parameter!r} lists no value of {self.parent!r}.")

    def holds(self, point: Point) -> bool:
        """Whether the parameter is active at a point (never below an inactive parent)."""
        if self.parent not in point:
            return False
        return _option_key(point[self.parent]) in {_option_key(value) for value in self.values}


@dataclass(frozen=True, eq=False)
class Space:
    """Named parameters, conditions between them, and constraints over them.

    Spaces are equal when their canonical JSON is, the order of parameters included.

    Args:
        parameters: name to :class:`Float`, :class:`Int` or :class:`Categorical`; the order is kept.
        conditions: which parameters exist only where another takes certain values.
        constraints: comparisons over parameter names, for example ``"lr * momentum <= 0.05"``. One that
            names an inactive parameter does not apply; one that divides by zero at a point is violated.

    Raises:
        SpaceError: a condition or constraint names an unknown parameter, or cannot be read.
    """

    parameters: Mapping[str, Parameter]
    conditions: tuple[Condition, ...] = ()
    constraints: tuple[str, ...] = ()
    _rules: tuple[Constraint, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", dict(self.parameters))
        object.__setattr__(self, "conditions", tuple(self.conditions))
        object.__setattr__(self, "constraints", tuple(self.constraints))
        names = set(self.parameters)
        order = list(self.parameters)
        for condition in self.conditions:
            for name in (condition.parameter, condition.parent):
                if name not in names:
                    raise SpaceError(unknown_name("parameter in a condition", name, names))
            if order.index(condition.parent) >= order.index(condition.parameter):
                raise SpaceError(
                    f"Parameter {condition.parameter!r} depends on {condition.parent!r}, which comes after "
                    f"it; list {condition.parent!r} first."
                )
        object.__setattr__(self, "conditions", tuple(self._normalised(c) for c in self.conditions))
        object.__setattr__(self, "_rules", tuple(Constraint.parse(text, names) for text in self.constraints))

    def _normalised(self, condition: Condition) -> Condition:
        """The condition with its values as the parent normalises them, so that 3 and 3.0 are one value."""
        parent = self.parameters[condition.parent]
        try:
            values = tuple(parent.validate(value) for value in condition.values)
        except SpaceError as error:
            raise SpaceError(f"Condition on {condition.parameter!r}: {error}") from None
        return Condition(condition.parameter, condition.parent, values)

    # -- a space reads like a mapping ----------------------------------------------------------------

    def __iter__(self) -> Iterator[str]:
        return iter(self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    def __contains__(self, name: object) -> bool:
        return name in self.parameters

    def __getitem__(self, name: str) -> Parameter:
        try:
            return self.parameters[name]
        except KeyError:
            raise SpaceError(unknown_name("parameter", name, self.parameters)) from None

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Space) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def categorical(self, name: str) -> Categorical:
        """The parameter of that name, which must be categorical."""
        parameter = self[name]
        if not isinstance(parameter, Categorical):
            raise SpaceError(f"Parameter {name!r} is a {type(parameter).__name__}, expected a Categorical.")
        return parameter

    @property
    def size(self) -> int | None:
        """Number of points, conditions and constraints left aside; None where a parameter is real."""
        total = 1
        for parameter in self.parameters.values():
            if isinstance(parameter, Float):
                return None
            total *= (
                len(parameter.options) if isinstance(parameter, Categorical) else parameter.high - parameter.low + 1
            )
        return total

    # -- points --------------------------------------------------------------------------------------

    def active(self, point: Point) -> list[str]:
        """The parameters that exist at a point, in order: those whose every condition holds.

        A parameter that should exist but has no value in the point is listed; what depends on it is not.
        """
        names: list[str] = []
        given: dict[str, Value] = {}
        for name in self.parameters:
            if not self._exists(name, given):
                continue
            names.append(name)
            if name in point:
                given[name] = point[name]
        return names

    def _exists(self, name: str, point: Point) -> bool:
        return all(c.holds(point) for c in self.conditions if c.parameter == name)

    def satisfies(self, point: Point) -> bool:
        """Whether every constraint holds at a point."""
        return all(rule.holds(point) for rule in self._rules)

    def validate(self, point: Point) -> dict[str, Value]:
        """The point with every value checked and normalised, in the space's order.

        Raises:
            SpaceError: a name is unknown, missing or inactive, a value is out of range, or a constraint is
                violated.
        """
        for name in point:
            if name not in self.parameters:
                raise SpaceError(unknown_name("parameter", name, self.parameters))
        checked: dict[str, Value] = {}
        for name in self.parameters:
            # Conditions are read from values already normalised: a parent given as 3.0 counts as 3.
            if not self._exists(name, checked):
                continue
            if name not in point:
                raise SpaceError(f"Parameter {name!r} has no value; give one with {name}=VALUE.")
            try:
                checked[name] = self.parameters[name].validate(point[name])
            except SpaceError as error:
                raise SpaceError(f"Parameter {name!r}: {error}") from None
        for name in point:
            if name not in checked:
                raise SpaceError(f"Parameter {name!r} is inactive at this point; leave it out.")
        for rule in self._rules:
            if not rule.holds(checked):
                raise SpaceError(f"The point {checked} violates the constraint {rule.text!r}.")
        return checked

    def sample(self, rng: random.Random, attempts: int = 10_000) -> dict[str, Value]:
        """A random valid point: conditions followed, constraints by rejection.

        Raises:
            SpaceError: no point satisfied the constraints within ``attempts`` draws.
        """
        for _ in range(attempts):
            point: dict[str, Value] = {}
            for name, parameter in self.parameters.items():
                if self._exists(name, point):
                    point[name] = parameter.sample(rng)
            if self.satisfies(point):
                return point
        raise SpaceError(
            f"No point satisfied the constraints {list(self.constraints)} in {attempts} draws; loosen them."
        )

    # -- identity and JSON ---------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """A short hash of the canonical JSON: equal spaces have equal ids."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Plain containers that :meth:`from_json` reads back."""
        return {
            # A list, not an object: the order of parameters is part of a space's identity.
            "parameters": [{"name": name, **_to_json(p)} for name, p in self.parameters.items()],
            "conditions": [
                {"parameter": c.parameter, "parent": c.parent, "values": list(c.values)} for c in self.conditions
            ],
            "constraints": list(self.constraints),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Space:
        """The space that :meth:`to_json` described.

        Raises:
            SpaceError: a key is missing or a parameter's type is unknown.
        """
        parameters: dict[str, Parameter] = {}
        try:
            for entry in data["parameters"]:
                if entry["name"] in parameters:
                    raise SpaceError(f"Parameter {entry['name']!r} is described twice.")
                parameters[entry["name"]] = _from_json(entry)
            conditions = tuple(
                Condition(c["parameter"], c["parent"], tuple(c["values"])) for c in data.get("conditions", ())
            )
        except KeyError as error:
            raise SpaceError(f"The description of a space lacks the key {error}.") from None
        except (TypeError, AttributeError) as error:
            raise SpaceError(f"The description of a space is malformed: {error}.") from None
        return cls(parameters, conditions, tuple(data.get("constraints", ())))


def _option_key(value: Value) -> tuple[str, Value]:
    """Options are compared by type and value, so that 1, 1.0, True and "1" stay four different options."""
    return type(value).__name__, value


def _finite(value: object, what: str) -> float:
    """The value as a float; ``what`` completes the message "expected a finite ..."."""
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:  # an integer beyond the range of floats
        pass
    raise SpaceError(f"{value!r} is not valid here; expected a finite {what}.")


def _check_interval(low: float, high: float, log: bool) -> None:
    if low >= high:
        raise SpaceError(f"The interval [{low}, {high}] is empty; expected low < high.")
    if not math.isfinite(high - low):
        raise SpaceError(f"The interval [{low}, {high}] is too wide for floating point.")
    if log and low <= 0:
        raise SpaceError(f"A log interval cannot start at {low}; expected low > 0.")
    if log and math.log(low) == math.log(high):
        raise SpaceError(f"The log interval [{low}, {high}] is too narrow for floating point.")


_KINDS: dict[str, type[Float | Int | Categorical]] = {"float": Float, "int": Int, "categorical": Categorical}


def _to_json(parameter: Parameter) -> dict[str, Any]:
    if isinstance(parameter, Categorical):
        return {"type": "categorical", "options": list(parameter.options)}
    kind = "float" if isinstance(parameter, Float) else "int"
    return {"type": kind, "low": parameter.low, "high": parameter.high, "log": parameter.log}


def _from_json(entry: Mapping[str, Any]) -> Parameter:
    kind = entry["type"]
    if kind not in _KINDS:
        raise SpaceError(unknown_name("parameter type", str(kind), _KINDS))
    if kind == "categorical":
        return Categorical(tuple(entry["options"]))
    if kind == "int":
        return Int(entry["low"], entry["high"], entry.get("log", False))
    return Float(entry["low"], entry["high"], entry.get("log", False))
