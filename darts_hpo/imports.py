"""From a dotted name in a file to the object it names, within an allow-list."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from darts_hpo.errors import ConfigError, MissingDependencyError, nearest_names, unknown_name

ALLOWED_PREFIXES: tuple[str, ...] = ("darts_hpo.", "supernets.", "quantum.")
"""Packages whose objects a configuration or a bundle may name without further permission."""


def locate(target: str, allowed: Sequence[str] = ALLOWED_PREFIXES) -> Any:
    """The module, class, function or method that a dotted name stands for.

    A name in a file is a name that somebody else may have written, so it must not reach arbitrary code: the
    name itself, every module on its way and the place where the object is *defined* have to lie in an allowed
    package. (Otherwise ``"darts_hpo.some_module.subprocess.run"`` would do.)

    Args:
        target: for example ``"supernets.gelan.network.GelanNetwork.from_config"``.
        allowed: prefixes of dotted names, matched by whole parts: ``"quantum."`` and ``"quantum"`` are one.

    Raises:
        ConfigError: the name lies outside the allowed packages, is private, or does not exist.
        MissingDependencyError: importing its module needs a package that is not installed.
    """
    parts = target.split(".") if isinstance(target, str) else []
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ConfigError(f"{target!r} is not a dotted name; expected one such as 'package.module.Name'.")
    if not _is_allowed(target, allowed):
        raise ConfigError(
            f"{target!r} lies outside the packages that may be named here "
            f"({', '.join(prefix.rstrip('.') for prefix in allowed)})."
            f"{_did_you_mean(parts[0], allowed)} Add its package to the allowed prefixes if you trust it."
        )
    if private := [part for part in parts if part.startswith("_")]:
        raise ConfigError(f"{target!r} names something private ({private[0]!r}); only public names may be used.")

    found: Any = _import(parts[0], target)
    for position, part in enumerate(parts[1:], start=1):
        path = ".".join(parts[:position])
        if isinstance(found, ModuleType) and not hasattr(found, part) and _has_submodule(found, part):
            found = _import(f"{path}.{part}", target)
            continue
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigError(unknown_name(f"name in {path} (from {target!r})", part, _public_names(found))) from None
        if not _is_allowed(_home(found) or target, allowed):
            raise ConfigError(
                f"{target!r} leads to {_home(found)}, outside the packages that may be named here "
                f"({', '.join(prefix.rstrip('.') for prefix in allowed)}); name an object of those packages."
            )
    return found


def _is_allowed(name: str, allowed: Sequence[str]) -> bool:
    return any(f"{name}.".startswith(f"{prefix.rstrip('.')}.") for prefix in allowed)


def _did_you_mean(package: str, allowed: Sequence[str]) -> str:
    close = nearest_names(package, {prefix.split(".")[0] for prefix in allowed})
    return f" Did you mean {close[0]!r}?" if close else ""


def _home(found: Any) -> str | None:
    """Where an object is defined; nothing for plain values, which have no home of their own."""
    if isinstance(found, ModuleType):
        return found.__name__
    if inspect.isclass(found) or inspect.isroutine(found):
        return getattr(found, "__module__", None) or "builtins"
    return None


def _import(module: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            raise ConfigError(f"{target!r} cannot be found: there is no package {module!r} here.") from None
        raise MissingDependencyError(
            f"{target!r} needs the package {error.name!r}, which is absent; try: pip install {error.name}"
        ) from error


def _submodules(package: ModuleType) -> Iterator[str]:
    for info in pkgutil.iter_modules(getattr(package, "__path__", ())):
        yield info.name


def _has_submodule(package: ModuleType, name: str) -> bool:
    return name in set(_submodules(package))


def _public_names(found: Any) -> set[str]:
    names = set(_submodules(found)) if isinstance(found, ModuleType) else set()
    home = _home(found)
    for name in dir(found):
        own = _home(getattr(found, name, None))
        # What a module merely imported from elsewhere is not its to offer.
        if not isinstance(found, ModuleType) or (own is not None and own.split(".")[0] == str(home).split(".")[0]):
            names.add(name)
    return {name for name in names if not name.startswith("_")}
