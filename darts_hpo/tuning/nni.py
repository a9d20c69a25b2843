"""NNI's search-space JSON: one mapping with ``_type`` and ``_value`` per parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from darts_hpo.errors import SpaceError, unknown_name
from darts_hpo.space import Value


@dataclass(frozen=True)
class Described:
    """One parameter, as a file or an override describes it.

    Args:
        name: dotted.
        low: smallest value of an interval.
        high: its end, which an interval of real numbers does not reach.
        log: uniform in the logarithm.
        integer: whole numbers, ``high`` included.
        options: instead of an interval.
        only_with: a parent and its option without which the parameter does not exist.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False
    options: tuple[Any, ...] | None = None
    only_with: tuple[str, Value] | None = None


def describe(name: str, entry: Mapping[str, Any], only_with: tuple[str, Value] | None = None) -> Iterator[Described]:
    """The parameters that one NNI entry stands for: the choice itself first, then what is nested in its options.

    Args:
        name: of the parameter; nested ones are called ``<name>.<nested>``, which overrides the option of a group.
        entry: ``{"_type": ..., "_value": ...}``.
        only_with: the option under which the entry stands.

    Raises:
        SpaceError: the type is unknown or unbounded, or its value is malformed.
    """
    kind = entry["_type"]
    if kind in _UNBOUNDED:
        raise SpaceError(
            f"Parameter {name!r}: {kind!r} has no bounds. Use {_UNBOUNDED[kind]!r} on the range that matters, and say "
            "which values you believe in with hydra.sweeper.belief."
        )
    if kind != "choice" and kind not in _READERS:
        raise SpaceError(f"Parameter {name!r}: {unknown_name('_type', str(kind), ['choice', *_READERS])}")
    value = entry.get("_value")
    if not isinstance(value, (list, tuple)):
        raise SpaceError(f"Parameter {name!r}: _value is {value!r}; expected a list.")
    if kind == "choice":
        yield from _choice(name, value, only_with)
    else:
        yield _READERS[kind](name, _numbers(name, kind, value), only_with)


def _choice(name: str, value: Sequence[Any], only_with: tuple[str, Value] | None) -> Iterator[Described]:
    options = [option["_name"] if _is_nested(option) else option for option in value]
    yield Described(name, options=tuple(options), only_with=only_with)
    for option in value:
        if not _is_nested(option):
            continue
        for key, entry in option.items():
            if key == "_name":
                continue
            if not isinstance(entry, Mapping) or "_type" not in entry:
                raise SpaceError(f"Parameter '{name}.{key}' is {entry!r}; expected a mapping with _type and _value.")
            yield from describe(f"{name}.{key}", entry, (name, option["_name"]))


def _is_nested(option: Any) -> bool:
    return isinstance(option, Mapping) and "_name" in option


def _numbers(name: str, kind: str, value: Sequence[Any]) -> list[float]:
    expected = "lower, upper, step" if kind.startswith("q") else "lower, upper"
    count = expected.count(",") + 1
    good = len(value) == count and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    if not good:
        raise SpaceError(f"Parameter {name!r}: _value of {kind!r} is {list(value)!r}; expected [{expected}].")
    return list(value)


def _uniform(name: str, value: list[float], only_with: tuple[str, Value] | None) -> Described:
    return Described(name, value[0], value[1], only_with=only_with)


def _loguniform(name: str, value: list[float], only_with: tuple[str, Value] | None) -> Described:
    return Described(name, value[0], value[1], log=True, only_with=only_with)


def _randint(name: str, value: list[float], only_with: tuple[str, Value] | None) -> Described:
    low, high = value  # NNI's upper bound is not drawn
    if high - low == 1:
        return Described(name, options=(low,), only_with=only_with)
    return Described(name, low, high - 1, integer=True, only_with=only_with)


def _quniform(name: str, value: list[float], only_with: tuple[str, Value] | None) -> Described:
    low, high, step = value
    if step == 1 and float(low).is_integer() and float(high).is_integer():
        return Described(name, low, high, integer=True, only_with=only_with)
    if not step > 0 or not low < high or (high - low) / step > _MOST_STEPS:
        raise SpaceError(
            f"Parameter {name!r}: quniform from {low} to {high} in steps of {step}; expected lower < upper and a "
            f"positive step, at most {_MOST_STEPS} of them. Use 'uniform' for finer ones."
        )
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Rounded and clipped as NNI does: the bounds themselves can be drawn.
    values = sorted({low, *(_tidy(k * step) for k in range(first, last + 1)), high})
    return Described(name, options=tuple(values), only_with=only_with)


def _qloguniform(name: str, value: list[float], only_with: tuple[str, Value] | None) -> Described:
    low, high, step = value
    if step != 1:
        raise SpaceError(
            f"Parameter {name!r}: qloguniform is read with step 1 (integers) only; it was given {step}. Use "
            "'loguniform', or 'choice' with the values."
        )
    return Described(name, low, high, log=True, integer=True, only_with=only_with)


def _tidy(number: float) -> float:
    """3 * 0.1 is 0.3 to whoever wrote 0.1."""
    rounded = round(number, 12)
    return int(rounded) if isinstance(number, int) else rounded


_MOST_STEPS = 1000

_READERS: dict[str, Callable[[str, list[float], tuple[str, Value] | None], Described]] = {
    "uniform": _uniform,
    "loguniform": _loguniform,
    "quniform": _quniform,
    "qloguniform": _qloguniform,
    "randint": _randint,
}

_UNBOUNDED = {
    "normal": "uniform",
    "qnormal": "quniform",
    "lognormal": "loguniform",
    "qlognormal": "qloguniform",
}
