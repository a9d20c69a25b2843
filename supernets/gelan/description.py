"""Networks as data: named sections of blocks, joined by tags instead of positions.

A layout is a YAML file with the sections ``backbone``, ``neck``, ``auxiliary`` (optional) and ``head``. An
entry of the first three is one block::

    - {tag: p4, from: [down4, backbone.p4], block: RepNCSPELAN4, out: 512, hidden: 512, branch: 256}

``tag``
    Name within the section; ``neck.p4`` is the block's *role*, which names it everywhere else.
``from``
    Input or inputs: a tag of the same section, a role, or ``image``. Left out: the entry before (the image
    for the first one of the backbone).
``block``
    A name of :data:`~supernets.gelan.graph.BLOCKS`; all other keys are arguments of it.
``twin`` (auxiliary only)
    The block of the main path that this one repeats; a searched twin decides for both.
``alias``
    Another name under which a choice of this block is known.

``head`` lists the roles that feed the ``main`` and the ``auxiliary`` head, finest level first. The GELAN form
of a layout is the same file without its auxiliary branch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from darts_hpo.errors import ConfigError, unknown_name

IMAGE = "image"
SECTIONS = ("backbone", "neck", "auxiliary")
FAMILIES = ("gelan", "yolov9")

_CHANNELS = ("out", "hidden", "branch", "outs")
_DIVISOR = 8  # channels stay multiples of it when a layout is scaled


@dataclass(frozen=True)
class Node:
    """One block of a layout.

    Args:
        role: ``section.tag``.
        block: name of the kind of block.
        inputs: roles that feed it, or :data:`IMAGE`.
        arguments: of the block.
        twin: role of the block of the main path that it repeats.
        alias: another name of its choice.
    """

    role: str
    block: str
    inputs: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    twin: str | None = None
    alias: str | None = None

    @property
    def section(self) -> str:
        """The part of the role before its first dot."""
        return self.role.partition(".")[0]

    @property
    def tag(self) -> str:
        """The part of the role after its first dot."""
        return self.role.partition(".")[2]


@dataclass(frozen=True)
class Description:
    """A complete layout.

    Args:
        name: for messages and genotypes, for example ``"yolov9-t"``.
        nodes: blocks in order of execution.
        main: roles that feed the main head, finest level first.
        auxiliary: roles that feed the auxiliary head; empty without an auxiliary branch.

    Raises:
        ConfigError: roles repeat, or something refers to a block that does not come before it.
    """

    name: str
    nodes: tuple[Node, ...]
    main: tuple[str, ...]
    auxiliary: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known: set[str] = {IMAGE}
        for node in self.nodes:
            if node.role in known:
                raise ConfigError(
                    f"Layout {self.name!r}: {node.role!r} is defined twice; give every block its own tag."
                )
            for source in (*node.inputs, *([node.twin] if node.twin else [])):
                if source not in known:
                    raise ConfigError(
                        f"Layout {self.name!r}, block {node.role!r}: " + unknown_name("block before it", source, known)
                    )
            known.add(node.role)
        for role in (*self.main, *self.auxiliary):
            if role not in known:
                raise ConfigError(f"Layout {self.name!r}, head: {unknown_name('block', role, known)}")
        if not self.main:
            raise ConfigError(f"Layout {self.name!r} has no main head; list its inputs under head.main.")

    def __getitem__(self, role: str) -> Node:
        for node in self.nodes:
            if node.role == role:
                return node
        raise ConfigError(unknown_name(f"block of {self.name}", role, (node.role for node in self.nodes)))

    @property
    def has_auxiliary(self) -> bool:
        """Whether there is a training-only branch."""
        return bool(self.auxiliary)

    def without_auxiliary(self) -> Description:
        """The layout of the deployed network."""
        nodes = tuple(node for node in self.nodes if node.section != "auxiliary")
        return replace(self, nodes=nodes, auxiliary=())

    def scaled(self, width: float) -> Description:
        """The layout with all channels times ``width``, in multiples of 8; 1.0 changes nothing.

        Raises:
            ConfigError: the width is not positive.
        """
        if not width > 0:
            raise ConfigError(f"width={width} is not positive; use for example width=0.5.")
        if width == 1.0:
            return self
        nodes = tuple(
            replace(
                node,
                arguments={k: _scale(v, width) if k in _CHANNELS else v for k, v in node.arguments.items()},
            )
            for node in self.nodes
        )
        return replace(self, nodes=nodes)

    def to_plain(self) -> dict[str, Any]:
        """Plain containers that :meth:`from_plain` reads back."""
        sections: dict[str, Any] = {"name": self.name}
        for section in SECTIONS:
            entries = [_entry(node) for node in self.nodes if node.section == section]
            if entries:
                sections[section] = entries
        sections["head"] = {"main": list(self.main), "auxiliary": list(self.auxiliary)}
        return sections

    @classmethod
    def from_plain(cls, data: Mapping[str, Any], name: str | None = None) -> Description:
        """The layout in plain containers, as YAML gives them.

        Raises:
            ConfigError: a section or key is missing, unknown or of the wrong kind.
        """
        name = name or str(data.get("name") or data.get("scale") or "custom")
        for key in data:
            if key not in {"name", "scale", "head", *SECTIONS}:
                raise ConfigError(f"Layout {name!r}: {unknown_name('section', key, ('head', *SECTIONS))}")
        head = data.get("head")
        if not isinstance(head, Mapping) or not head.get("main"):
            raise ConfigError(f"Layout {name!r} lacks head.main; list the roles that feed the head, finest first.")
        nodes: list[Node] = []
        for section in SECTIONS:
            previous = IMAGE if section == "backbone" else None
            entries = data.get(section) or ()
            tags = {str(entry.get("tag")) for entry in entries if isinstance(entry, Mapping)}
            for entry in entries:
                node = _node(name, section, entry, previous, tags)
                nodes.append(node)
                previous = node.role
        return cls(name, tuple(nodes), tuple(head["main"]), tuple(head.get("auxiliary") or ()))


def available_networks() -> list[str]:
    """Names that :func:`load_description` knows: every scale in GELAN and in YOLOv9 form."""
    return [f"{family}-{scale}" for family in FAMILIES for scale in _scales()]


def load_description(name: str) -> Description:
    """A layout of the package, or of a file of one's own.

    Args:
        name: ``gelan-<scale>`` (deployed form), ``yolov9-<scale>`` (with auxiliary branch), or the path of a
            YAML file (ending in ``.yaml`` or ``.yml``) in the format of this module.

    Raises:
        ConfigError: the name is unknown, or the file is no layout.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"There is no layout at {path}; give an existing file or one of {available_networks()}.")
        return Description.from_plain(_read(path.read_text(), str(path)), path.stem)
    if name not in available_networks():
        raise ConfigError(unknown_name("network", name, available_networks()))
    family, _, scale = name.partition("-")
    file = _layouts().joinpath(f"{scale}.yaml")
    description = Description.from_plain(_read(file.read_text(), f"{scale}.yaml"), name)
    return description if family == "yolov9" else description.without_auxiliary()


def _layouts() -> resources.abc.Traversable:
    return resources.files("supernets.gelan").joinpath("networks")


def _scales() -> list[str]:
    order = ("t", "s", "m", "c", "base", "e")
    found = {file.name.removesuffix(".yaml") for file in _layouts().iterdir() if file.name.endswith(".yaml")}
    return sorted(found, key=lambda scale: (order.index(scale) if scale in order else len(order), scale))


def _read(text: str, source: str) -> Mapping[str, Any]:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(data, Mapping):
        raise ConfigError(f"{source} is no layout: expected the sections backbone, neck and head.")
    return data


def _node(name: str, section: str, entry: object, previous: str | None, tags: set[str]) -> Node:
    if not isinstance(entry, Mapping) or "tag" not in entry or "block" not in entry:
        raise ConfigError(f"Layout {name!r}, section {section!r}: {entry!r} lacks a tag or a block.")
    arguments = dict(entry)
    tag, block = str(arguments.pop("tag")), str(arguments.pop("block"))
    if not tag.isidentifier():
        raise ConfigError(f"Layout {name!r}: the tag {tag!r} is no name; use letters, digits and underscores.")
    source = arguments.pop("from", previous)
    if source is None:
        raise ConfigError(f"Layout {name!r}: {section}.{tag} is first in its section; say where it comes from.")
    sources: Sequence[Any] = [source] if isinstance(source, str) else source
    inputs = tuple(f"{section}.{role}" if role in tags else str(role) for role in sources)
    twin, alias = arguments.pop("twin", None), arguments.pop("alias", None)
    return Node(f"{section}.{tag}", block, inputs, arguments, twin, alias)


def _entry(node: Node) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "tag": node.tag,
        "from": list(node.inputs),
        "block": node.block,
        **node.arguments,
    }
    if node.twin is not None:
        entry["twin"] = node.twin
    if node.alias is not None:
        entry["alias"] = node.alias
    return entry


def _scale(channels: int | Sequence[int], width: float) -> int | list[int]:
    if not isinstance(channels, int):
        return [_scaled_int(number, width) for number in channels]
    return _scaled_int(channels, width)


def _scaled_int(channels: int, width: float) -> int:
    return max(_DIVISOR, _DIVISOR * round(channels * width / _DIVISOR))
