"""A spec: one TOML file that says everything a run needs, as frozen dataclasses.

    name = "reconstruct"
    problem = "geomopt.reconstruct.problem:Reconstruction"    # the task, a frozen dataclass
    seed = 0
    device = "auto"

    [settings]                          # the fields of the task
    resolution = 32

    [method]
    name = "adam"                       # one of optimizers.METHODS
    step_size = 0.01                    # the fields of its settings

    [budget]
    iterations = 300

A study (study.py) has cases instead of a problem, and neither method nor budget.

What is left out takes the task's own `method()` and `budget()`, then the defaults. `load` resolves
all of it, so a spec that is written back says every value and reloads to the same run.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

import optimizers
from geomopt import assets
from geomopt.errors import InputError
from geomopt.runs import toml
from geomopt.runs.settings import Given, build, convert, table_of, unknown
from geomopt.runs.study import is_study

_TABLES = ("settings", "method", "budget")
_OF_SEARCHES = ("method", "budget", "frames", "checkpoint_every")
# these change no result, so they are not part of the run's identity
_WITHOUT_EFFECT = ("description", "checkpoint_every")


class Task(Protocol):
    """What `problem` names: a frozen dataclass of settings that can start its problem."""

    def start(self, device: torch.device, seed: int) -> optimizers.Problem:
        """The problem on a device; raises ValueError or OSError for input that cannot be used."""
        ...


@dataclass(frozen=True)
class Spec:
    """A resolved run: nothing in it depends on a default that may change.

    name: names the run directory. problem: dotted "package.module:Name" of the task. settings: the
    task itself. method: settings of an optimizer; a study has none, and no budget. frames: how many
    iterates the viewer's timeline keeps. checkpoint_every: iterations between checkpoints.
    """

    name: str
    problem: str
    settings: Any
    method: Any
    budget: optimizers.Budget | None
    seed: int = 0
    device: str = "cpu"
    frames: int = 30
    checkpoint_every: int = 100
    description: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.+-]+", self.name) or self.name.startswith("."):
            raise InputError(
                "name must consist of letters, digits and . _ + - since it names a folder, "
                f"got {self.name!r}"
            )
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed must lie in [0, 2^63), got {self.seed}")
        if self.frames < 0:
            raise InputError(f"frames must not be negative, got {self.frames}")
        if self.checkpoint_every < 1:
            raise InputError(f"checkpoint_every must be at least 1, got {self.checkpoint_every}")

    @property
    def table(self) -> dict[str, Any]:
        """The spec as nested tables of plain values."""
        head = {
            "name": self.name,
            "description": self.description or None,
            "problem": self.problem,
            "seed": self.seed,
            "device": self.device,
        }
        if self.budget is None:
            return {**head, "settings": table_of(self.settings)}
        return {
            **head,
            "frames": self.frames,
            "checkpoint_every": self.checkpoint_every,
            "settings": table_of(self.settings),
            "method": {"name": method_name(self.method), **table_of(self.method)},
            "budget": table_of(self.budget),
        }

    @property
    def identity(self) -> str:
        """First 12 hex digits of SHA-256 over the canonical JSON of what decides the result."""
        content = {key: value for key, value in self.table.items() if key not in _WITHOUT_EFFECT}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def folder(self) -> str:
        """Name of the run directory, <name>-<identity>."""
        return f"{self.name}-{self.identity}"

    def to_toml(self) -> str:
        """TOML text that `resolve` turns into an equal spec."""
        return toml.dumps(self.table)


def load(source: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """Read and resolve a spec.

    source: a TOML file or the name of a shipped spec. overrides: "path.to.key=value" in TOML value
    syntax; a bare string may be given for a text. A path that does not begin with a top-level key
    is looked up in [settings]. Raises InputError that names the file, the key, what came and what
    is allowed.
    """
    file = find(source)
    return resolve(apply(read_table(file), overrides))


def find(source: str | Path) -> Path:
    """The file of a spec given by path or by the name of a shipped spec."""
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir() and (path / "spec.toml").is_file():
        return path / "spec.toml"
    shipped = shipped_specs()
    if str(source) in shipped:
        return shipped[str(source)]
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise InputError(f"there is no spec file {str(source)!r}")
    raise unknown(f"spec {str(source)!r}", str(source), shipped)


def shipped_specs() -> dict[str, Path]:
    """Name to file of the specs that come with the project."""
    return {
        Path(name).stem: assets.path(name)
        for name in assets.names("specs")
        if name.endswith(".toml")
    }


def read_table(file: Path) -> dict[str, Any]:
    """The raw tables of a TOML file; raises InputError with the file and the line for one that is
    not TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not valid TOML: {error}") from error
    except OSError as error:
        raise InputError(f"cannot read the spec {file}: {error.strerror}") from error


def apply(table: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The tables of a spec with "path.to.key=value" overrides laid over them."""
    result = {
        key: dict(value) if isinstance(value, dict) else value for key, value in table.items()
    }
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise InputError(f"an override reads path.to.key=value, got {override!r}")
        if keys[0] not in _TOP_LEVEL:
            keys = ["settings", *keys]
        place = result
        for key in keys[:-1]:
            inner = place.get(key, {})
            # method = "adam" is short for a table with that name
            inner = {"name": inner} if key == "method" and isinstance(inner, str | Given) else inner
            place[key] = dict(inner) if isinstance(inner, dict) else {}
            place = place[key]
        place[keys[-1]] = Given.parse(text.strip())
    return result


def resolve(table: dict[str, Any]) -> Spec:
    """A spec from the tables of a TOML file."""
    for key in table:
        if key not in _TOP_LEVEL:
            raise unknown(f"key {key!r} in the spec", key, _TOP_LEVEL)
    for key in ("name", "problem"):
        if key not in table:
            raise InputError(f"{key} is missing in the spec; it must be a string")
    top = {
        key: convert(table[key], kind, key)
        for key, kind in _TOP_LEVEL.items()
        if key in table and key not in _TABLES
    }
    task_class = find_task(top["problem"])
    settings = build(task_class, _section(table, "settings"), "settings")
    top["device"] = _device(top.get("device", "auto"))
    if is_study(task_class):
        for key in _OF_SEARCHES:
            if key in table:
                raise InputError(
                    f"{key} has no use here: {top['problem']} is a study, which only has cases"
                )
        return Spec(settings=settings, method=None, budget=None, **top)
    method = _method(_section(table, "method"), settings)
    given = _section(table, "budget")
    default = settings.budget() if hasattr(settings, "budget") else None
    budget = build(optimizers.Budget, {**(table_of(default) if default else {}), **given}, "budget")
    return Spec(settings=settings, method=method, budget=budget, **top)


def method_name(method: Any) -> str:
    """The name under which a method's settings are known."""
    for name, kind in optimizers.METHODS.items():
        if type(method) is kind:
            return name
    raise InputError(
        f"{type(method).__name__} is not a method; allowed: {', '.join(sorted(optimizers.METHODS))}"
    )


def find_task(dotted: str) -> Any:
    """The task class behind "package.module:Name"."""
    module_name, colon, name = dotted.partition(":")
    if not colon or not module_name or not name:
        raise InputError(f"problem must read package.module:Name, got {dotted!r}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise InputError(
                f"problem {dotted!r}: there is no module {error.name!r} on the import path"
            ) from error
        raise
    task = getattr(module, name, None)
    if task is None:
        classes = [key for key, value in vars(module).items() if _is_task(value)]
        raise unknown(f"name {name!r} in {module_name}", name, classes)
    if not (hasattr(task, "__dataclass_fields__") and _is_task(task)):
        raise InputError(
            f"problem {dotted!r} must be a dataclass with start(device, seed) or plan(device, "
            f"seed), got {task!r}"
        )
    return task


def _is_task(value: Any) -> bool:
    return hasattr(value, "start") or is_study(value)


def _section(table: dict[str, Any], name: str) -> dict[str, Any]:
    value = table.get(name, {})
    if isinstance(value, Given) and isinstance(value.value, dict):
        value = value.value
    if name == "method" and isinstance(value, str | Given):
        return {"name": value}
    if not isinstance(value, dict):
        shown = value.text if isinstance(value, Given) else value
        raise InputError(f"{name} must be a table, got {shown!r}")
    return value


def _method(given: dict[str, Any], task: Any) -> Any:
    default = task.method() if hasattr(task, "method") else None
    if "name" in given:
        name = convert(given["name"], str, "method.name")
    elif default is not None:
        name = method_name(default)
    else:
        raise InputError(
            f"method.name is missing; allowed: {', '.join(sorted(optimizers.METHODS))}"
        )
    if name not in optimizers.METHODS:
        raise unknown(f"method {name!r}", name, optimizers.METHODS)
    kind = optimizers.METHODS[name]
    base = table_of(default) if type(default) is kind else {}
    return build(
        kind, {**base, **{key: value for key, value in given.items() if key != "name"}}, "method"
    )


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise InputError(f"device must be 'cpu', 'cuda', 'cuda:<index>' or 'auto', got {name!r}")
    if name != "cpu" and (
        not torch.cuda.is_available() or torch.device(name).index not in _cuda_indices()
    ):
        raise InputError(
            f"device {name!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices; "
            "use 'cpu' or 'auto'"
        )
    return name


def _cuda_indices() -> set[int | None]:
    return {None, *range(torch.cuda.device_count())}


_TOP_LEVEL: dict[str, Any] = {
    "name": str,
    "description": str,
    "problem": str,
    "seed": int,
    "device": str,
    "frames": int,
    "checkpoint_every": int,
    "settings": dict,
    "method": dict,
    "budget": dict,
}
