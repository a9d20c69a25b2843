"""Values as Hydra overrides spell them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PLAIN_TEXT = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_\-./@+%]*")
_READ_AS_SOMETHING_ELSE = re.compile(r"true|false|null|nan|inf|[0-9_.]*(e[+-]?[0-9_]*)?", re.IGNORECASE)
_SPECIAL_IN_KEYS = re.compile(r"([\\()\[\]{}:=, \t])")
_QUOTES = re.compile(r"(\\*)('|$)")


def override_value(value: Any) -> str:
    """The text that Hydra's parser reads back as exactly this value.

    >>> override_value(1e-05), override_value("3x3"), override_value("1"), override_value([1, None])
    ('1e-05', '3x3', "'1'", '[1,null]')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_key(key)}:{override_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(override_value, value)) + "]"
    raise TypeError(f"{value!r} (a {type(value).__name__}) cannot be written as an override.")


def _text(text: str) -> str:
    if _PLAIN_TEXT.fullmatch(text) and not _READ_AS_SOMETHING_ELSE.fullmatch(text):
        return text
    # Hydra reads backslashes literally, but before a quote, where each stands for half of a pair.
    return "'" + _QUOTES.sub(lambda match: match[1] * 2 + ("\\'" if match[2] else ""), text) + "'"


def _key(key: Any) -> str:
    """A key of a mapping, which cannot be quoted."""
    return _SPECIAL_IN_KEYS.sub(r"\\\1", key) if isinstance(key, str) else override_value(key)
