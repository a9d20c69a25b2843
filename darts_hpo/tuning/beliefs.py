"""What a user believes about good values, as a probability density over a space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darts_hpo.errors import ConfigError, SpaceError, unknown_name
from darts_hpo.space import Categorical, Int, Parameter, Point, Space, Value
from darts_hpo.tuning.samplers.points import integer_bin

DOUBT = 0.02
"""Share of every belief that is spread evenly, so that no value is ruled out."""
_NARROWEST = 1e-3
_USUAL_WIDTH = 0.1
_ATTEMPTS = 10_000


class _Near:
    """A normal density on the unit interval, cut off at its ends, mixed with a little uniform density."""

    def __init__(self, parameter: Parameter, centre: float, width: float, doubt: float) -> None:
        self.parameter, self.doubt = parameter, doubt
        self.centre, self.width = centre, max(width, _NARROWEST)
        self._normal = NormalDist(centre, self.width)
        self._low = self._normal.cdf(0.0)
        self._mass = self._normal.cdf(1.0) - self._low

    def log_ratio(self, value: Value) -> float:
        """Log density relative to the uniform one."""
        parameter = self.parameter
        assert not isinstance(parameter, Categorical)
        unit = parameter.to_unit(value)
        if isinstance(parameter, Int):
            # The probability of the integer's whole bin: a narrow belief may lie between two centres.
            low, high = integer_bin(parameter, int(value))
            ratio = (self._normal.cdf(high) - self._normal.cdf(low)) / self._mass / (high - low)
        else:
            ratio = self._normal.pdf(unit) / self._mass
        return math.log((1.0 - self.doubt) * ratio + self.doubt)

    def sample(self, rng: Random) -> Value:
        parameter = self.parameter
        assert not isinstance(parameter, Categorical)
        unit, doubts = rng.random(), rng.random() < self.doubt
        if not doubts:
            level = self._low + unit * self._mass
            unit = self._normal.inv_cdf(min(max(level, 1e-300), 1.0 - 1e-16))
        return parameter.from_unit(min(max(unit, 0.0), 1.0))


class _Weighted:
    """Weights over the options of a categorical."""

    def __init__(self, parameter: Categorical, weights: Sequence[float], doubt: float) -> None:
        self.parameter = parameter
        total, k = sum(weights), len(weights)
        self.probabilities = [(1.0 - doubt) * weight / total + doubt / k for weight in weights]

    def log_ratio(self, value: Value) -> float:
        return math.log(self.probabilities[self.parameter.index(value)] * len(self.probabilities))

    def sample(self, rng: Random) -> Value:
        return rng.choices(self.parameter.options, self.probabilities)[0]


class Belief:
    """A product of one density per parameter that the user has an opinion on; uniform over the others.

    A number is believed to lie *near* a value: normal on the parameter's own scale with ``within`` as its standard
    deviation, a factor where the scale is logarithmic (``near: 1e-3, within: 3`` has 2/3 of its mass between 3.3e-4
    and 3e-3) and a difference otherwise. Without ``within`` it is a tenth of the range. The *weights* of a
    categorical are relative; options not named weigh 1. Every density keeps a share of doubt, spread evenly.

    Example in YAML::

        lr: {near: 1e-3, within: 3}
        kernel: {weights: {3x3: 2, 5x5: 1}}

    Args:
        space: what is believed about.
        entries: parameter name to ``near`` and ``within``, or to ``weights``.
        doubt: the share, in ``(0, 1]``.

    Raises:
        ConfigError: a parameter, option or key is unknown, a value lies outside its range, or a width or weight
            makes no density.
    """

    def __init__(self, space: Space, entries: Mapping[str, Mapping[str, Any]], doubt: float = DOUBT) -> None:
        if not 0.0 < doubt <= 1.0:
            raise ConfigError(f"A doubt of {doubt!r}; expected a share in (0, 1].")
        self.space = space
        self._parts: dict[str, _Near | _Weighted] = {}
        for name, entry in entries.items():
            if name not in space:
                raise ConfigError(unknown_name("parameter in the beliefs", str(name), space))
            if not isinstance(entry, Mapping):
                raise ConfigError(f"The belief about {name!r} is {entry!r}; write for example {{near: 0.001}}.")
            self._parts[name] = _part(name, space[name], entry, doubt)

    @classmethod
    def around(cls, space: Space, point: Point, width: float = 0.25) -> Belief:
        """The belief that good points lie near one point: what PriorBand draws an incumbent's neighbours from.

        Args:
            space: of the point.
            point: the centre.
            width: standard deviation on the unit scale of numbers; an option of a categorical keeps a probability
                of one half and shares the other half with all options.
        """
        belief = cls(space, {})
        for name, value in point.items():
            parameter = space[name]
            if isinstance(parameter, Categorical):
                k = len(parameter.options)
                weights = [0.5 * (i == parameter.index(value)) + 0.5 / k for i in range(k)]
                belief._parts[name] = _Weighted(parameter, weights, DOUBT)
            else:
                belief._parts[name] = _Near(parameter, parameter.to_unit(value), width, DOUBT)
        return belief

    @property
    def normals(self) -> dict[str, tuple[float, float]]:
        """Centre and standard deviation, on the unit scale, of every number believed to lie near a value."""
        return {name: (part.centre, part.width) for name, part in self._parts.items() if isinstance(part, _Near)}

    def log_density(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """Log density of points relative to the uniform distribution: 0 everywhere without any belief.

        Parameters that are inactive at a point say nothing about it.

        Returns:
            Shape ``[n]``, all finite.
        """
        return np.array(
            [
                sum(part.log_ratio(point[name]) for name, part in self._parts.items() if name in point)
                for point in points
            ],
            dtype=np.float64,
        )

    def sample(self, rng: Random) -> dict[str, Value]:
        """A valid point drawn from the density: conditions followed, constraints by rejection.

        Raises:
            SpaceError: no point satisfied the constraints.
        """
        for _ in range(_ATTEMPTS):
            values = {
                name: (self._parts[name] if name in self._parts else self.space[name]).sample(rng)
                for name in self.space
            }
            point = {name: values[name] for name in self.space.active(values)}
            if self.space.satisfies(point):
                return point
        raise SpaceError(
            f"No point near the beliefs satisfied the constraints {list(self.space.constraints)} in {_ATTEMPTS} draws."
        )


def _part(name: str, parameter: Parameter, entry: Mapping[str, Any], doubt: float) -> _Near | _Weighted:
    expected = ("weights",) if isinstance(parameter, Categorical) else ("near", "within")
    for word in entry:
        if word not in expected:
            raise ConfigError(unknown_name(f"key in the belief about {name!r}", str(word), expected))
    if expected[0] not in entry:
        raise ConfigError(f"The belief about {name!r} says nothing; give {expected[0]}.")
    if isinstance(parameter, Categorical):
        return _Weighted(parameter, _weights(name, parameter, entry["weights"]), doubt)
    try:
        near = parameter.validate(entry["near"])
    except SpaceError as error:
        raise ConfigError(f"The belief about {name!r}: {error}") from None
    return _Near(parameter, parameter.to_unit(near), _width(name, parameter, entry.get("within")), doubt)


def _width(name: str, parameter: Parameter, within: Any) -> float:
    """Standard deviation on the unit scale."""
    assert not isinstance(parameter, Categorical)
    if within is None:
        return _USUAL_WIDTH
    smallest, kind = (1.0, "a factor above 1") if parameter.log else (0.0, "a difference above 0")
    if isinstance(within, bool) or not isinstance(within, (int, float)) or not smallest < within < math.inf:
        raise ConfigError(f"The belief about {name!r} is within {within!r}; expected {kind}.")
    edge = 0.5 if isinstance(parameter, Int) else 0.0
    low, high = parameter.low - edge, parameter.high + edge
    if parameter.log:
        return math.log(within) / (math.log(high) - math.log(low))
    return float(within) / (high - low)


def _weights(name: str, parameter: Categorical, given: Any) -> list[float]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"The weights of {name!r} are {given!r}; write for example {{OPTION: 2}}.")
    weights = [1.0] * len(parameter.options)
    for option, weight in given.items():
        try:
            position = parameter.index(option)
        except SpaceError as error:
            raise ConfigError(f"The belief about {name!r}: {error}") from None
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0.0 <= weight < math.inf:
            raise ConfigError(f"Option {option!r} of {name!r} weighs {weight!r}; expected a number from 0.")
        weights[position] = float(weight)
    if sum(weights) <= 0.0:
        raise ConfigError(f"Every option of {name!r} weighs nothing; at least one must be above 0.")
    return weights
