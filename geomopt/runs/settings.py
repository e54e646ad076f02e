"""Tables of a spec to frozen dataclasses and back.

A dataclass is the whole description of what a table may hold: its fields name the keys, their
annotations the types, its `__post_init__` the ranges. Errors name the key, what came and what is
allowed.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import os
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from geomopt.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Given:
    """A value typed on the command line: its text, and what the text means if it is TOML."""

    text: str
    value: Any

    @classmethod
    def parse(cls, text: str) -> Given:
        """Read TOML value syntax; anything else is the string itself."""
        try:
            table = tomllib.loads(f"value = {text}")
        except tomllib.TOMLDecodeError:
            return cls(text, text)
        return cls(text, table["value"] if table.keys() == {"value"} else text)


def build(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `kind` from a table; `where` is the table's name in messages,
    such as "settings".

    Raises InputError for an unknown key, a wrong type, a missing value, or whatever the dataclass
    itself refuses.
    """
    fields = {field.name: field for field in dataclasses.fields(cast(Any, kind)) if field.init}
    for key in table:
        if key not in fields:
            raise unknown(f"key {key!r} in [{where}]", key, fields)
    hints = typing.get_type_hints(kind)
    values = {key: convert(value, hints[key], f"{where}.{key}") for key, value in table.items()}
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in values:
            raise InputError(f"{where}.{name} is missing; it must be {describe(hints[name])}")
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise InputError(f"[{where}]: {error}") from error


def unknown(what: str, name: str, allowed: Iterable[str]) -> InputError:
    """The error for a name that is not among the allowed ones; it names the closest of them."""
    allowed = sorted(allowed)
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    hint = f", did you mean {close[0]!r}?" if close else "."
    return InputError(f"unknown {what}{hint} Allowed: {', '.join(allowed) or 'none'}")


def convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotation `hint` wants it; raises InputError naming key, value and type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_to_any_of(
            value, [kind for kind in arguments if kind is not type(None)], hint, where
        )
    plain = value.value if isinstance(value, Given) else value
    if hint is Any:
        return plain
    if hint is str or hint is Path:
        # a number typed for a text field is text: --set name=007
        text = value.text if isinstance(value, Given) and not isinstance(plain, str) else plain
        if isinstance(text, str | Path):
            # the same place is the same run, however it was written
            return str(text) if hint is str else Path(os.path.abspath(Path(text).expanduser()))
    elif hint is bool:
        if isinstance(plain, bool):
            return plain
    elif hint is int:
        if isinstance(plain, int) and not isinstance(plain, bool):
            return plain
    elif hint is float:
        if isinstance(plain, int | float) and not isinstance(plain, bool):
            return float(plain)
    elif origin is typing.Literal:
        for candidate in (plain, value.text if isinstance(value, Given) else plain):
            if any(
                candidate == allowed and type(candidate) is type(allowed) for allowed in arguments
            ):
                return candidate
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        for member in hint:
            if plain == member.value:
                return member
    elif dataclasses.is_dataclass(hint):
        if isinstance(plain, hint):  # pyright: ignore[reportArgumentType]
            return plain
        if isinstance(plain, Mapping):
            return build(hint, plain, where)  # pyright: ignore[reportArgumentType]
    elif origin in (list, tuple) or hint in (list, tuple):
        if isinstance(plain, list | tuple):
            return _convert_items(plain, hint, origin or hint, arguments, where)
    elif (origin in (dict, Mapping) or hint is dict) and isinstance(plain, Mapping):
        kind = arguments[1] if len(arguments) == 2 else Any
        return {key: convert(item, kind, f"{where}.{key}") for key, item in plain.items()}
    raise InputError(f"{where} must be {describe(hint)}, got {plain!r}")


def _convert_to_any_of(value: Any, kinds: list[Any], hint: Any, where: str) -> Any:
    errors = []
    # text accepts what is typed for it, so it comes last: a number for `float | str` is a number
    for kind in sorted(kinds, key=lambda kind: (kind in (str, Path), kind is float)):
        try:
            return convert(value, kind, where)
        except InputError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    plain = value.value if isinstance(value, Given) else value
    raise InputError(f"{where} must be {describe(hint)}, got {plain!r}")


def _convert_items(
    items: Any, hint: Any, origin: Any, arguments: tuple[Any, ...], where: str
) -> Any:
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(items) != len(arguments):
            raise InputError(f"{where} must be {describe(hint)}, got {list(items)!r}")
        kinds = list(arguments)
    else:
        kinds = [arguments[0] if arguments else Any] * len(items)
    made = [
        convert(item, kind, f"{where}[{i}]")
        for i, (item, kind) in enumerate(zip(items, kinds, strict=True))
    ]
    return origin(made)


def describe(hint: Any) -> str:
    """A type annotation in the words of a spec."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(kind) for kind in arguments if kind is not type(None))
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(item) for item in arguments)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)} ({', '.join(describe(kind) for kind in arguments)})"
    if origin in (list, tuple):
        return f"a list ({describe(arguments[0])} each)"
    words = {
        str: "a string",
        Path: "a path",
        bool: "true or false",
        int: "an integer",
        float: "a number",
    }
    if hint in words:
        return words[hint]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "one of " + ", ".join(repr(member.value) for member in hint)
    return "a table" if dataclasses.is_dataclass(hint) else getattr(hint, "__name__", str(hint))


def table_of(instance: Any) -> dict[str, Any]:
    """The table that builds a dataclass instance again: strings, numbers, booleans, lists and
    tables; None left out.
    """
    return {
        field.name: _plain(getattr(instance, field.name))
        for field in dataclasses.fields(instance)
        if field.init and getattr(instance, field.name) is not None
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return table_of(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
