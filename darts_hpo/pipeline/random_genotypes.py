"""Random architectures of a space: what the same budget gives without any search."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from darts_hpo.errors import ConfigError, GenotypeError, RunDirectoryError
from darts_hpo.genotype import Genotype
from darts_hpo.runs.files import write_json
from darts_hpo.supernet import Supernet

ATTEMPTS = 10_000
"""Draws in a row that give no new architecture before the space is taken to hold no more."""


def draw(supernet: Supernet, fixed: Mapping[str, str], count: int, seed: int) -> list[Genotype]:
    """Different genotypes, every open choice uniform and independent of the others, constraints by rejection.

    Fewer of the same seed are the first of more: a run can be given further ones later.

    Args:
        supernet: has the choices.
        fixed: choices that are not searched, with their option, which every genotype keeps.
        count: how many.
        seed: of the draws.

    Raises:
        ConfigError: there are not so many.
    """
    space = supernet.space
    if count and not set(space) - set(fixed):
        raise ConfigError(f"random={count} needs open choices, but every choice is fixed; set random=0.")
    rng = random.Random(seed)
    found: dict[Genotype, None] = {}
    misses = 0
    while len(found) < count:
        point = {name: fixed[name] if name in fixed else str(space.categorical(name).sample(rng)) for name in space}
        genotype = supernet.genotype(point) if space.satisfies(point) else None
        if genotype is not None and genotype not in found:
            found[genotype], misses = None, 0
            continue
        misses += 1
        if misses == ATTEMPTS:
            raise ConfigError(
                f"random={count}: the open choices make no more than {len(found)} architectures; "
                f"use random={len(found)} or less."
            )
    return list(found)


def record(genotypes: Sequence[Genotype], folder: Path) -> list[Genotype]:
    """Store each as ``<number>/genotype.json`` before anything is trained; what an earlier start stored is kept.

    Returns:
        The genotypes as they are stored.

    Raises:
        RunDirectoryError: a stored one cannot be read.
    """
    stored = []
    for number, genotype in enumerate(genotypes):
        path = folder / str(number) / "genotype.json"
        if not path.exists():
            write_json(path, genotype.to_json())
        try:
            stored.append(Genotype.load(path))
        except GenotypeError as error:
            remedy = f"delete {path.parent} and run the same command: that network is drawn and trained again"
            raise RunDirectoryError(f"{str(error).rstrip('.')}; {remedy}.") from error
    return stored
