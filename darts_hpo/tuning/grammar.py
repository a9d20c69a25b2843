"""Search spaces as people write them: Hydra's sweep grammar, and NNI's search-space JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from darts_hpo.errors import SpaceError, unknown_name
from darts_hpo.space import Categorical, Condition, Float, Int, Parameter, Space, Value
from darts_hpo.tuning.nni import Described, describe
from darts_hpo.tuning.overrides import override_value

OPEN_END = 1e-6
"""Part of an interval left out at its upper end, which is open: enough to stay below it in single precision too."""

MOST_OPTIONS = 1000
"""Most values that a stepped range may enumerate."""

GroupOptions = Callable[[str], Sequence[str]]
"""From the name of a configuration group to its options; ``glob(*)`` asks for them."""

_TAGS = ("int", "log")

_HYDRA_FOR = {
    "uniform": "interval(0,1)",
    "loguniform": "tag(log,interval(1e-4,1e-1))",
    "quniform": "range(0,10,2)",
    "qloguniform": "int(tag(log,interval(16,512)))",
    "randint": "range(0,10)",
    "log": "tag(log,interval(1e-4,1e-1))",
}
"""What to type for functions of other tools that Hydra's grammar does not have."""


class SpaceWithTexts(NamedTuple):
    """A parameter, and how its options are written where an override needs more than the option itself."""

    parameter: Parameter
    texts: Mapping[Value, str]


@dataclass(frozen=True)
class SweepSpace:
    """What a sweep tunes, and how a point of it is typed.

    Args:
        space: the parameters, named as their overrides without ``+`` or ``++``.
        prefixes: name to ``+`` or ``++`` where its override needs one.
        fixed: overrides from the configuration that every trial gets.
        texts: name to option to the text of its override, for options such as lists that a space only names.
    """

    space: Space
    prefixes: Mapping[str, str] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    texts: Mapping[str, Mapping[Value, str]] = field(default_factory=dict)

    def overrides(self, point: Mapping[str, Value]) -> list[str]:
        """The overrides that set a point, in the space's order, after those that every trial gets.

        Hydra's parser reads each of them back as the value itself: text stays text, 1 and 1.0 stay different.
        """
        typed = []
        for name in self.space:
            if name in point:
                text = self.texts.get(name, {}).get(point[name]) or override_value(point[name])
                typed.append(f"{self.prefixes.get(name, '')}{name}={text}")
        return [*self.fixed, *typed]


def read_space(
    params: Mapping[str, Any] | None = None,
    arguments: Sequence[str] = (),
    *,
    search_space: Mapping[str, Any] | None = None,
    conditions: Mapping[str, Mapping[str, Any]] | None = None,
    constraints: Sequence[str] = (),
    group_options: GroupOptions | None = None,
) -> SweepSpace:
    """The space of a sweep.

    Args:
        params: override to its range, as ``hydra.sweeper.params`` holds it: text in Hydra's sweep grammar, an NNI
            mapping (``_type`` and ``_value``) or one of :meth:`Space.to_json`. A plain value holds for all trials.
        arguments: overrides of the command line, of which those that sweep are parameters. One that names a
            parameter of ``params`` takes its place, also with a single value.
        search_space: a whole space, as NNI's JSON file or as :meth:`Space.to_json` describes it.
        conditions: parameter to parent to the parent's value or values with which the parameter exists.
        constraints: comparisons over parameters, for example ``"lr * momentum <= 0.05"``.
        group_options: needed for ``glob(*)``.

    Raises:
        SpaceError: a range cannot be read or is empty, a parameter is described twice, or nothing is left to tune.
    """
    reader = _Reader(group_options)
    if search_space is not None:
        reader.add_document(search_space)
    for key, entry in (params or {}).items():
        reader.add_entry(str(key), entry)
    reader.add_arguments(arguments)
    return reader.sweep_space(conditions or {}, tuple(constraints))


def override_name(argument: str) -> str:
    """What an override sets, without ``+``, ``++`` or ``~``: ``lr`` of ``+lr=0.1``, ``db@to`` of ``db@to=x``."""
    return argument.partition("=")[0].strip().lstrip("+~")


class _Reader:
    """Collects parameters by name; what is read later takes the place of what was read before."""

    def __init__(self, group_options: GroupOptions | None) -> None:
        self.group_options = group_options
        self.parameters: dict[str, Parameter] = {}
        self.texts: dict[str, Mapping[Value, str]] = {}
        self.prefixes: dict[str, str] = {}
        self.fixed: dict[str, str] = {}
        self.settled: dict[str, Any] = {}
        self.conditions: list[Condition] = []
        self.constraints: tuple[str, ...] = ()

    def add_document(self, document: Mapping[str, Any]) -> None:
        if isinstance(document.get("parameters"), Sequence):
            space = Space.from_json(document)
            self.parameters.update(space.parameters)
            self.conditions += space.conditions
            self.constraints += space.constraints
            return
        for key, entry in document.items():
            if not isinstance(entry, Mapping) or "_type" not in entry:
                raise SpaceError(
                    f"Parameter {key!r} of the search space is {entry!r}; expected a mapping with _type and _value, "
                    'for example {"_type": "uniform", "_value": [0, 1]}.'
                )
            self.add_entry(str(key), entry)

    def add_entry(self, key: str, entry: Any) -> None:
        prefix, name = _split_prefix(key)
        if isinstance(entry, Mapping) and "_type" in entry:
            self._forget(name)
            for described in describe(name, entry):
                self._add_described(prefix, described)
        elif isinstance(entry, Mapping) and "type" in entry:
            self._set(prefix, name, Space.from_json({"parameters": [{"name": name, **entry}]})[name])
        elif isinstance(entry, str):
            self._add_override(_parse([f"{key}={entry}"])[0])
        else:
            self._fix(name, f"{key}={override_value(entry)}")

    def add_arguments(self, arguments: Sequence[str]) -> None:
        seen: set[str] = set()
        for override in _parse(arguments):
            _, name = _name(override)
            if override.is_sweep_override():
                if name in seen:
                    raise SpaceError(f"Parameter {name!r} is given twice on the command line; give it once.")
                self._add_override(override)
            elif name in self.parameters or name in self.fixed:
                self._forget(name)  # the command line wins, and keeps the override itself
                self.settled[name] = override.value()
            seen.add(name)

    def sweep_space(self, conditions: Mapping[str, Mapping[str, Any]], constraints: tuple[str, ...]) -> SweepSpace:
        for parameter, parents in conditions.items():
            self._require(parameter)
            if not isinstance(parents, Mapping):
                raise SpaceError(
                    f"The condition on {parameter!r} is {parents!r}; expected a mapping of a parent to its values, for "
                    f"example hydra.sweeper.conditions={{{parameter}: {{optimizer: [sgd]}}}}."
                )
            for parent, values in parents.items():
                self._require(parent)
                listed = values if isinstance(values, (list, tuple)) else [values]
                self.conditions.append(Condition(parameter, parent, tuple(listed)))
        kept = self._open_conditions()
        if not self.parameters:
            raise SpaceError(
                "There is nothing to tune. Type a range, for example 'lr=tag(log,interval(1e-4,1e-1))', or list it "
                "in hydra.sweeper.params."
            )
        space = Space(_parents_first(self.parameters, kept), tuple(kept), self.constraints + constraints)
        return SweepSpace(space, self.prefixes, tuple(self.fixed.values()), self.texts)

    def _open_conditions(self) -> list[Condition]:
        """The conditions whose parents are tuned. What a settled parent rules out is no parameter any more."""
        gone = {
            c.parameter
            for c in self.conditions
            if c.parent in self.settled and not c.holds({c.parent: self.settled[c.parent]})
        }
        while more := {c.parameter for c in self.conditions if c.parent in gone} - gone:
            gone |= more
        for name in gone:
            self.parameters.pop(name, None)
        return [c for c in self.conditions if c.parameter in self.parameters and c.parent in self.parameters]

    def _require(self, name: str) -> None:
        if name not in self.parameters:
            raise SpaceError(f"hydra.sweeper.conditions: {unknown_name('parameter', name, self.parameters)}")

    def _add_described(self, prefix: str, described: Described) -> None:
        name, options = described.name, described.options
        texts: Mapping[Value, str] = {}
        parameter: Parameter
        if options is not None:
            texts, parameter = _choice(name, options)
        else:
            parameter = _range(name, described)
        if name in self.parameters and self.parameters[name] != parameter:
            raise SpaceError(
                f"Parameter {name!r} has two different ranges, {self.parameters[name]} and {parameter}. One override "
                "has one range: make them equal, or give one of them another name."
            )
        if described.only_with is None:
            self._set(prefix, name, parameter, texts)
            return
        parent, value = described.only_with
        same = [c for c in self.conditions if (c.parameter, c.parent) == (name, parent)]
        values = (*(v for c in same for v in c.values), value)
        self.conditions = [c for c in self.conditions if c not in same]
        kept = self.conditions
        self._set(prefix, name, parameter, texts)
        self.conditions = [*kept, Condition(name, parent, values)]

    def _add_override(self, override: Any) -> None:
        prefix, name = _name(override)
        if not override.is_sweep_override():
            self._fix(name, f"{prefix}{name}={override.get_value_element_as_str()}")
            return
        parameter, texts = self._parameter(name, override)
        self._set(prefix, name, parameter, texts)

    def _parameter(self, name: str, override: Any) -> SpaceWithTexts:
        sweep = override.value()
        tags = set(getattr(sweep, "tags", ()))
        for tag in sorted(tags - set(_TAGS)):
            raise SpaceError(f"Parameter {name!r}: {unknown_name('tag', tag, _TAGS)}")
        if override.is_interval_sweep():
            integer = "int" in tags or (isinstance(sweep.start, int) and isinstance(sweep.end, int))
            described = Described(name, sweep.start, sweep.end, log="log" in tags, integer=integer)
            return SpaceWithTexts(_range(name, described), {})
        if override.is_range_sweep():
            return _stepped(name, sweep, log="log" in tags)
        if tags:
            raise SpaceError(f"Parameter {name!r}: a choice has no order and takes no tag; leave out tag(...).")
        if hasattr(sweep, "include"):  # glob(*)
            if self.group_options is None:
                raise SpaceError(f"Parameter {name!r}: glob(...) is not known here; list the options: choice(a,b).")
            options: list[Any] = sweep.filter(list(self.group_options(override.key_or_group)))
        else:
            options = [_plain(option) for option in sweep.list]
        texts, parameter = _choice(name, options)
        return SpaceWithTexts(parameter, texts)

    def _set(self, prefix: str, name: str, parameter: Parameter, texts: Mapping[Value, str] | None = None) -> None:
        before = self.parameters.get(name)
        self._forget(name, keep_place=before is not None)
        self.parameters[name] = parameter
        if prefix:
            self.prefixes[name] = prefix
        if texts:
            self.texts[name] = texts

    def _fix(self, name: str, override: str) -> None:
        self._forget(name)
        self.fixed[name] = override
        self.settled[name] = _parse([override])[0].value()

    def _forget(self, name: str, *, keep_place: bool = False) -> None:
        if not keep_place:
            self.parameters.pop(name, None)
        for known in (self.texts, self.prefixes, self.fixed, self.settled):
            known.pop(name, None)
        self.conditions = [c for c in self.conditions if c.parameter != name]


def _parents_first(parameters: Mapping[str, Parameter], conditions: Sequence[Condition]) -> dict[str, Parameter]:
    """The order as written, but for parents that were written after what depends on them."""
    ordered: dict[str, Parameter] = {}

    def place(name: str, below: tuple[str, ...]) -> None:
        if name in below:
            raise SpaceError(f"Parameters depend on each other in a circle: {' -> '.join((*below, name))}.")
        if name in ordered:
            return
        for condition in conditions:
            if condition.parameter == name:
                place(condition.parent, (*below, name))
        ordered[name] = parameters[name]

    for name in parameters:
        place(name, ())
    return ordered


def _parse(arguments: Sequence[str]) -> list[Any]:
    """Hydra's own parse of overrides."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    overrides = []
    for argument in arguments:
        try:
            overrides.append(parser.parse_override(argument))
        except HydraException as error:
            raise SpaceError(_unreadable(argument, str(error))) from None
    return overrides


def _unreadable(argument: str, complaint: str) -> str:
    name, _, text = argument.partition("=")
    function = text.partition("(")[0].strip()
    if function in _HYDRA_FOR:
        return f"Parameter {name!r}: Hydra has no {function}(...); write for example {name}={_HYDRA_FOR[function]}."
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    return (
        f"{argument!r} cannot be read: {lines[0] if lines else 'not an override'}. Write for example "
        f"{name}=interval(0,1), {name}=tag(log,interval(1e-4,1e-1)) or {name}=choice(a,b)."
    )


def _split_prefix(key: str) -> tuple[str, str]:
    name = key.lstrip("+")
    return key[: len(key) - len(name)], name


def _name(override: Any) -> tuple[str, str]:
    """Prefix and name of an override; what deletes a key has ``~`` as its prefix."""
    key = override.get_key_element()
    return ("~", key[1:]) if key.startswith("~") else _split_prefix(key)


def _range(name: str, described: Described) -> Parameter:
    low, high = described.low, described.high
    try:
        if described.integer:
            return Int(low, high, described.log)  # type: ignore[arg-type]  # Int refuses fractions in its own words
        if low < high and math.isfinite(high - low):
            below = float(f"{high - OPEN_END * (high - low):.12g}")  # 0.0999999001, and not ...0010000001
            high = below if low < below < high else math.nextafter(high, -math.inf)
        return Float(low, high, described.log)
    except SpaceError as error:
        example = "tag(log,interval(1e-4,1e-1))" if described.log else "interval(0,1)"
        example = f"int({example.replace('1e-4,1e-1', '16,512')})" if described.integer else example
        raise SpaceError(f"Parameter {name!r}: {error} Write for example {name}={example}.") from None


def _stepped(name: str, sweep: Any, *, log: bool) -> SpaceWithTexts:
    """``range(start,stop,step)``: integers where the step is one, else the values in a list."""
    if sweep.step == 0:
        raise SpaceError(f"Parameter {name!r}: a range with step 0 never ends; write for example {name}=range(1,10).")
    whole = all(isinstance(number, int) for number in (sweep.start, sweep.stop, sweep.step))
    if whole and sweep.step == 1 and sweep.stop - sweep.start > 1:
        described = Described(name, sweep.start, sweep.stop - 1, log=log, integer=True)
        return SpaceWithTexts(_range(name, described), {})
    if log:
        raise SpaceError(f"Parameter {name!r}: only a range in steps of 1 can be logarithmic; write tag(log,interval).")
    values = list(islice(sweep.range(), MOST_OPTIONS + 1))
    if not values:
        raise SpaceError(
            f"Parameter {name!r}: range({sweep.start},{sweep.stop},{sweep.step}) is empty; the end is not part of a "
            f"range. Write for example {name}=range(1,10)."
        )
    if len(values) > MOST_OPTIONS:
        raise SpaceError(
            f"Parameter {name!r}: the range has more than {MOST_OPTIONS} values; write {name}="
            f"{'int(' if whole else ''}interval({sweep.start},{sweep.stop}){')' if whole else ''}."
        )
    return SpaceWithTexts(Categorical(tuple(values)), {})


def _choice(name: str, options: Sequence[Any]) -> tuple[Mapping[Value, str], Categorical]:
    """Options of a list. Null, lists and mappings are named by their text, and typed as it is."""
    named: list[Value] = []
    texts: dict[Value, str] = {}
    for option in options:
        if isinstance(option, (bool, int, float, str)):
            named.append(option)
        else:
            text = override_value(option)
            named.append(text)
            texts[text] = text
    try:
        return texts, Categorical(tuple(named))
    except SpaceError as error:
        raise SpaceError(f"Parameter {name!r}: {error} Write for example {name}=choice(a,b).") from None


def _plain(value: Any) -> Any:
    """A parsed element without Hydra's marks of quoting."""
    from hydra.core.override_parser.types import QuotedString

    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value
