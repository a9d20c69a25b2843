"""An architecture as data: frozen, versioned, canonical, hashable, JSON in and out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darts_hpo.errors import GenotypeError, SpaceError, nearest_names
from darts_hpo.space import Space

SCHEMA_VERSION = 1
_KEYS = frozenset({"schema_version", "space", "space_id", "choices"})


@dataclass(frozen=True)
class Genotype:
    """One option for every choice of a space: the flat form.

    Two genotypes are equal when space and choices are; what a search knew about them (``facts``: probabilities,
    entropy, costs, seed) travels with them but is not part of their identity.

    Args:
        space: name of the space, for example ``"yolov9-t/deployed"``.
        space_id: :attr:`Space.id` of it.
        choices: choice name to option name.
        facts: JSON-able remarks of the search that found it.
    """

    space: str
    space_id: str
    choices: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", dict(sorted(self.choices.items())))
        object.__setattr__(self, "facts", dict(self.facts))
        clash = sorted(_KEYS & self.facts.keys())
        if clash:
            raise GenotypeError(f"A genotype's facts cannot be called {clash[0]!r}; that key is the genotype's.")

    def __hash__(self) -> int:
        return hash((self.space_id, tuple(self.choices.items())))

    @property
    def id(self) -> str:
        """A short hash that names the architecture."""
        text = json.dumps([self.space_id, self.choices], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        """Plain containers that :meth:`from_json` reads back."""
        return {
            "schema_version": SCHEMA_VERSION,
            "space": self.space,
            "space_id": self.space_id,
            "choices": dict(self.choices),
            **self.facts,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Genotype:
        """The genotype that :meth:`to_json` described.

        Raises:
            GenotypeError: a key is missing, or the file is of a newer schema than this program knows.
        """
        if not isinstance(data, Mapping):
            raise GenotypeError(f"A genotype is a JSON object; found a {type(data).__name__}.")
        version = data.get("schema_version")
        if version != SCHEMA_VERSION:
            raise GenotypeError(
                f"The genotype has schema_version {version!r}; this program reads {SCHEMA_VERSION}. "
                "Upgrade darts-hpo if the file is newer."
            )
        missing = [key for key in ("space", "space_id", "choices") if key not in data]
        if missing:
            raise GenotypeError(f"The genotype lacks the key {missing[0]!r}.")
        choices = data["choices"]
        if not isinstance(choices, Mapping) or not all(isinstance(o, str) for o in choices.values()):
            raise GenotypeError("A genotype's 'choices' is an object from choice names to option names.")
        facts = {key: value for key, value in data.items() if key not in _KEYS}
        return cls(data["space"], data["space_id"], choices, facts)

    @classmethod
    def load(cls, path: Path) -> Genotype:
        """Read ``genotype.json``.

        Raises:
            GenotypeError: the file is absent or not a genotype.
        """
        try:
            data = json.loads(path.read_text())
        except FileNotFoundError:
            raise GenotypeError(f"There is no genotype at {path}.") from None
        except OSError as error:
            raise GenotypeError(f"{path} cannot be read: {error.strerror}.") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise GenotypeError(f"{path} is not JSON: {error}.") from None
        try:
            return cls.from_json(data)
        except GenotypeError as error:
            raise GenotypeError(f"{path}: {error}") from None

    def require_space(self, name: str, space: Space) -> None:
        """Check that the genotype belongs to a space.

        Raises:
            GenotypeError: another space's genotype, or options that the space does not have.
        """
        if self.space_id != space.id:
            theirs, ours = set(self.choices), set(space)
            difference = sorted(theirs ^ ours)
            hint = f" Choices in one but not the other: {', '.join(difference)}." if difference else ""
            close = nearest_names(difference[0], ours) if difference and difference[0] not in ours else []
            near = f" Nearest to {difference[0]!r}: {', '.join(close)}." if close else ""
            raise GenotypeError(
                f"The genotype belongs to the space {self.space!r} (id {self.space_id}), "
                f"not to {name!r} (id {space.id}).{hint}{near} Use the network configuration it was searched with."
            )
        try:
            space.validate(dict(self.choices))
        except SpaceError as error:
            raise GenotypeError(f"The genotype does not fit the space {name!r}: {error}") from None
