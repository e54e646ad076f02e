"""Specs: resolved once, written back whole, the same run again; the identity covers what decides
the result.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from bowl import Bowl

from geomopt.errors import InputError
from geomopt.runs.spec import apply, load, resolve, shipped_specs
from optimizers import METHODS

MINIMAL = {"name": "bowl", "problem": "bowl:Bowl", "device": "cpu"}


def resolved(*overrides, **table):
    return resolve(apply({**MINIMAL, **table}, overrides))


def test_what_is_left_out_comes_from_the_task():
    spec = resolved()
    assert spec.settings == Bowl()
    assert spec.method == METHODS["adam"](step_size=0.02)
    assert spec.budget.iterations == 60


def test_a_spec_written_back_is_the_same_run():
    spec = resolved(
        "size=3",
        "nested.label='quote \" and \\\\ and ü'",
        "weights=[1.0, inf]",
        "method=cma",
        "seed=7",
    )
    again = resolve(tomllib.loads(spec.to_toml()))
    assert again == spec
    assert again.identity == spec.identity
    assert again.to_toml() == spec.to_toml()


def test_the_identity_is_twelve_hex_digits_and_covers_what_decides_the_result():
    spec = resolved()
    assert len(spec.identity) == 12
    assert int(spec.identity, 16) >= 0
    assert spec.folder == f"bowl-{spec.identity}"
    changed = [
        resolved(o)
        for o in ("size=7", "seed=1", "method.step_size=0.1", "budget.iterations=61", "frames=3")
    ]
    assert len({spec.identity, *(other.identity for other in changed)}) == 1 + len(changed)
    same = [resolved("checkpoint_every=3"), resolved("description=words"), resolved("size=6")]
    assert {other.identity for other in same} == {spec.identity}


def test_overrides_reach_every_table():
    spec = resolved(
        "steepness=2",
        "settings.size=4",
        "method.step_size=0.5",
        "budget.iterations=9",
        "data=here.txt",
    )
    assert (spec.settings.steepness, spec.settings.size) == (2.0, 4)
    assert (spec.method.step_size, spec.budget.iterations) == (0.5, 9)
    assert spec.settings.data == Path.cwd() / "here.txt"
    assert resolved("data=./sub/../here.txt").identity == resolved("data=here.txt").identity


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_written_back_as_the_same_method(name):
    spec = resolved(f"method={name}")
    assert type(spec.method) is METHODS[name]
    assert resolve(tomllib.loads(spec.to_toml())).method == spec.method


def test_a_method_by_name_alone_takes_its_own_defaults():
    assert resolved("method=lbfgs").method == METHODS["lbfgs"]()
    assert resolved(method="cma").method == METHODS["cma"]()
    inline = resolved("method={name='adam', step_size=0.3}", "budget={iterations=5}")
    assert (inline.method, inline.budget.iterations) == (METHODS["adam"](step_size=0.3), 5)
    assert resolved("method.step_size=0.3", method="adam").method == METHODS["adam"](step_size=0.3)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"sede": 1}, r"unknown key 'sede' in the spec, did you mean 'seed'\? Allowed: budget, "),
        ({"problem": "bowl"}, "problem must read package.module:Name, got 'bowl'"),
        ({"problem": "nowhere.at:All"}, "there is no module 'nowhere'"),
        ({"problem": "bowl:Bow"}, r"unknown name 'Bow' in bowl, did you mean 'Bowl'\?"),
        ({"problem": "bowl:CORNERS"}, "must be a dataclass with start"),
        ({"seed": -1}, "seed must lie in"),
        ({"seed": "one"}, "seed must be an integer, got 'one'"),
        ({"name": "a/b"}, "name must consist of letters"),
        ({"name": ".."}, "name must consist of letters"),
        ({"frames": -1}, "frames must not be negative"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1"),
        ({"method": "adan"}, r"unknown method 'adan', did you mean 'adam'\?"),
        ({"method": {"name": "adam", "size": 1}}, r"unknown key 'size' in \[method\]"),
        ({"budget": {"iteration": 1}}, r"'iteration' in \[budget\], did you mean 'iterations'"),
        ({"budget": {"iterations": 0}}, r"\[budget\]: iterations must be positive"),
        ({"settings": {"size": 0}}, r"\[settings\]: size must be positive, got 0"),
        ({"settings": 3}, "settings must be a table, got 3"),
        ({"device": "gpu"}, "device must be 'cpu', 'cuda'"),
    ],
)  # fmt: skip
def test_errors_name_key_value_and_what_is_allowed(table, message):
    with pytest.raises(InputError, match=message):
        resolved(**table)


@pytest.mark.parametrize("key", ["name", "problem"])
def test_name_and_problem_are_needed(key):
    with pytest.raises(InputError, match=f"{key} is missing"):
        resolve({other: value for other, value in MINIMAL.items() if other != key})


def test_an_override_needs_a_key_and_a_value():
    with pytest.raises(InputError, match=r"an override reads path.to.key=value, got 'size'"):
        resolved("size")


def test_files_are_found_by_path_name_or_run_directory(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('name = "bowl"\nproblem = "bowl:Bowl"\ndevice = "cpu"\n', encoding="utf-8")
    assert load(file) == resolved()
    run = tmp_path / resolved().folder
    run.mkdir()
    (run / "spec.toml").write_text(resolved("seed=3").to_toml(), encoding="utf-8")
    assert load(run) == resolved("seed=3")
    with pytest.raises(InputError, match="there is no spec file"):
        load(tmp_path / "absent.toml")
    with pytest.raises(
        InputError, match=r"unknown spec 'reconstuct', did you mean 'reconstruct'\?"
    ):
        load("reconstuct")
    file.write_text("name = \nseed = 1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine.toml is not valid TOML: .*line 1"):
        load(file)


def test_every_shipped_spec_resolves_and_says_what_it_does():
    assert shipped_specs()
    for name in shipped_specs():
        spec = load(name, ["device=cpu"])
        assert spec.name == name
        assert spec.description
        assert resolve(tomllib.loads(spec.to_toml())) == spec


def test_auto_takes_the_cpu_without_cuda(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert resolved(device="auto").device == "cpu"
    with pytest.raises(InputError, match="device 'cuda' is not there"):
        resolved(device="cuda")
    assert replace(resolved(), description="x").description == "x"
