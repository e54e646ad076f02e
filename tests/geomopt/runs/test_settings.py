"""Tables to dataclasses and back: what is read is what was meant, and errors name the key, the
value and the way out.
"""

from __future__ import annotations

import enum
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomopt.errors import InputError
from geomopt.runs import toml
from geomopt.runs.settings import Given, build, table_of

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
plain = st.one_of(text, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
values = st.recursive(
    st.one_of(plain, st.lists(plain, max_size=4)),
    lambda inner: st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(text, values, max_size=6))
def test_what_is_written_reads_back_the_same(table):
    assert tomllib.loads(toml.dumps(table)) == table


def test_nan_none_and_tables_in_lists():
    table = {"a": math.nan, "b": None, "c": [{"x": 1, "y": [1.5, 2.5]}], "d": {}, "e": [[1], []]}
    back = tomllib.loads(toml.dumps(table))
    assert math.isnan(back.pop("a"))
    assert back == {"c": [{"x": 1, "y": [1.5, 2.5]}], "d": {}, "e": [[1], []]}


def test_what_toml_has_no_word_for_is_refused():
    with pytest.raises(TypeError, match="got complex"):
        toml.dumps({"a": 1j})


class Kind(enum.StrEnum):
    SOFT = "soft"
    HARD = "hard"


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True)
class Settings:
    count: int
    size: float = 1.0
    label: str = "a"
    place: Path | None = None
    mode: Literal["fast", "exact"] = "fast"
    kind: Kind = Kind.SOFT
    pair: tuple[int, float] = (1, 2.0)
    many: tuple[float, ...] = ()
    items: list[str] = field(default_factory=list)
    named: dict[str, float] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    either: int | str = 0
    flag: bool = False

    def __post_init__(self):
        if self.count < 0:
            raise ValueError(f"count must not be negative, got {self.count}")


def test_every_kind_of_field_is_built_and_goes_back():
    table = {
        "count": 3, "size": 2, "label": "b", "place": "/tmp/x", "mode": "exact", "kind": "hard",
        "pair": [4, 5], "many": [1, 2.5], "items": ["p"], "named": {"q": 1}, "inner": {"depth": 7},
        "either": "word", "flag": True,
    }  # fmt: skip
    made = build(Settings, table, "settings")
    assert made == Settings(
        3, 2.0, "b", Path("/tmp/x"), "exact", Kind.HARD, (4, 5.0), (1.0, 2.5), ["p"], {"q": 1.0},
        Inner(7), "word", True,
    )  # fmt: skip
    assert isinstance(made.size, float)
    assert build(Settings, tomllib.loads(toml.dumps(table_of(made))), "settings") == made


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"cuont": 1},
            r"unknown key 'cuont' in \[settings\], did you mean 'count'\? Allowed: count",
        ),
        ({}, "settings.count is missing; it must be an integer"),
        ({"count": 1.5}, "settings.count must be an integer, got 1.5"),
        ({"count": True}, "settings.count must be an integer, got True"),
        ({"count": 1, "size": "big"}, "settings.size must be a number, got 'big'"),
        ({"count": 1, "mode": "slow"}, "settings.mode must be one of 'fast', 'exact', got 'slow'"),
        ({"count": 1, "kind": "x"}, "settings.kind must be one of 'soft', 'hard', got 'x'"),
        ({"count": 1, "pair": [1]}, r"settings.pair must be a list of 2 \(an integer, a number\)"),
        ({"count": 1, "many": [1, "x"]}, r"settings.many\[1\] must be a number, got 'x'"),
        ({"count": 1, "inner": {"deep": 1}}, r"unknown key 'deep' in \[settings.inner\]"),
        ({"count": 1, "inner": 3}, "settings.inner must be a table, got 3"),
        ({"count": 1, "either": 1.5}, "settings.either must be an integer or a string, got 1.5"),
        ({"count": 1, "flag": 1}, "settings.flag must be true or false, got 1"),
        ({"count": 1, "place": 3}, "settings.place must be a path, got 3"),
        ({"count": -1}, r"\[settings\]: count must not be negative, got -1"),
    ],
)
def test_errors_say_what_came_and_what_is_allowed(table, message):
    with pytest.raises(InputError, match=message):
        build(Settings, table, "settings")


def test_typed_values_follow_the_field():
    texts = {
        "count": "3",
        "label": "007",
        "place": "here",
        "mode": "exact",
        "many": "[1, 2]",
        "flag": "true",
    }
    typed = {key: Given.parse(value) for key, value in texts.items()}
    made = build(Settings, typed, "settings")
    assert (made.count, made.label, made.mode, made.many, made.flag) == (
        3,
        "007",
        "exact",
        (1.0, 2.0),
        True,
    )
    assert made.place == Path.cwd() / "here"
    with pytest.raises(InputError, match="count must be an integer, got 'three'"):
        build(Settings, {"count": Given.parse("three")}, "settings")


def test_a_second_key_cannot_be_smuggled_into_a_value():
    assert Given.parse("1\nother = 2").value == "1\nother = 2"
