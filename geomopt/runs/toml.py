"""Write the subset of TOML that specs use: `tomllib` reads it back to the same values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\t": "\\t",
    "\r": "\\r",
    "\b": "\\b",
    "\f": "\\f",
}


def dumps(table: Mapping[str, Any]) -> str:
    """TOML text of nested tables of strings, numbers, booleans and lists; entries that are None are
    left out.
    """
    return "\n".join(_lines(table, ())).strip() + "\n"


def _lines(table: Mapping[str, Any], where: tuple[str, ...]) -> list[str]:
    plain = {
        key: value
        for key, value in table.items()
        if value is not None and not isinstance(value, Mapping)
    }
    nested = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    if where and (lines or not nested):
        lines = ["", "[" + ".".join(map(_key, where)) + "]", *lines]
    for key, value in nested.items():
        lines += _lines(value, (*where, key))
    return lines


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    # control characters and lone surrogates have no other spelling
    return (
        '"'
        + "".join(
            _ESCAPES.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c)
            for c in text
        )
        + '"'
    )


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return repr(value)
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        entries = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None)
        return "{" + entries + "}"
    raise TypeError(
        f"a spec holds strings, numbers, booleans, lists and tables, got {type(value).__name__}"
    )
