"""The command line. Each verb is one function; what is heavy is imported inside it, so that --help
is instant.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geomopt.runs.store import Run

OK, FAILED, BAD_INPUT = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 a run failed, 2 bad input, 128 + n ended by
    signal n.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    # a user's own problem lies in a module of the current folder
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return _guarded(given)


def _guarded(given: argparse.Namespace) -> int:
    from geomopt.errors import BackendUnavailable, InputError
    from geomopt.files import StorageError, is_forbidden
    from geomopt.runs.interruption import Interrupted

    try:
        return given.verb(given)
    except (InputError, BackendUnavailable) as error:
        return _complain(str(error), BAD_INPUT)
    except StorageError as error:
        return _complain(str(error.strerror), BAD_INPUT if is_forbidden(error) else FAILED)
    except Interrupted as stop:
        return _complain(f"{stop}; continue with the same command", 128 + stop.number)
    except KeyboardInterrupt:
        return _complain("stopped; give the same command again", 130)
    except BrokenPipeError:
        # the reader of our output has gone; Python would complain once more while it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def run(given: argparse.Namespace) -> int:
    """Do a run, or continue it."""
    from geomopt.runs.execute import RunFailed, execute, is_done
    from geomopt.runs.spec import load
    from geomopt.runs.store import Run

    overrides = list(given.set)
    overrides += [f"device={given.device}"] if given.device else []
    overrides += [f"seed={given.seed}"] if given.seed is not None else []
    spec = load(given.spec, overrides)
    done = is_done(Run(Path(given.root) / spec.folder))
    try:
        finished = execute(spec, given.root)
    except RunFailed as failure:
        where = failure.run.folder
        return _complain(
            f"{where} failed: {failure}; the whole story is in {where / 'outcome.json'}", FAILED
        )
    _summary(finished, done)
    return OK


def view(given: argparse.Namespace) -> int:
    """Show a run, or render it to a file."""
    import torch

    torch.set_num_threads(1)  # frames are small: more threads would only wait for each other
    found = find_run(given.run, given.root)
    if given.save is None:
        from geomopt.viewer.desktop import view as show

        show(found.folder)
        return OK
    from geomopt.viewer.record import record
    from geomopt.viewer.timeline import Timeline

    _say(str(record(Timeline(found.folder), given.save, given.size)))
    return OK


def report(given: argparse.Namespace) -> int:
    """Write reports."""
    from geomopt.runs import report as reports
    from geomopt.runs.store import runs_in

    found = []
    for name in given.runs:
        inside = runs_in(name) if Path(name).is_dir() else []
        found += inside or [find_run(name, given.root)]
    for one in found:
        _say(str(reports.write(one)))
    if given.out:
        _say(str(reports.compare(found, given.out)))
    return OK


def list_all(given: argparse.Namespace) -> int:
    """List specs, methods and runs, or the methods with when to use which."""
    import optimizers
    from geomopt.runs.spec import read_table, shipped_specs
    from geomopt.runs.store import runs_in

    if given.methods:
        _show(_guide())
        return OK
    specs = _table("Shipped specs: geomopt run NAME", "name", "what it does")
    for name, file in shipped_specs().items():
        specs.add_row(name, read_table(file).get("description", ""))
    methods = _table("Methods: --set method=NAME", "name", "what it is")
    for name, kind in sorted(optimizers.METHODS.items()):
        methods.add_row(name, (kind.__doc__ or "").strip().split("\n")[0])
    runs = _table(f"Runs in {given.root}", "run", "status", "iterates", "value")
    for one in runs_in(given.root):
        outcome, rows = one.outcome or {}, one.iterates
        values = list(rows.get("best_value", ()))
        value = outcome.get("value", values[-1] if values else None)
        count = f"{len(one.cases)} cases" if one.cases else str(len(values))
        runs.add_row(one.name, one.status, count, "" if value is None else f"{value:.5g}")
    for table in (specs, methods, runs):
        if table.row_count:
            _show(table)
    if not runs.row_count:
        _say(f"no runs in {given.root} yet")
    return OK


def _guide() -> Any:
    """When to use which method, and what it needs of the problem."""
    import optimizers
    from optimizers.recommend import GUIDE

    guide = _table(
        "Methods: --set method=NAME, or minimize(problem, NAME)",
        "name", "when to use it", "needs", "constraints",
    )  # fmt: skip
    for name, kind in optimizers.METHODS.items():
        needs = "gradients" if kind.order else "values"
        own = "its own" if kind.handles_constraints else "augmented Lagrangian"
        guide.add_row(name, GUIDE[name], needs, own)
    return guide


def doctor(given: argparse.Namespace) -> int:
    """Check this machine."""
    from geomopt.doctor import examine

    table = _table("geomopt doctor", "", "what", "found", "what to do")
    found = examine(given.root)
    for one in found:
        mark = "[green]ok[/]" if one.ok else "[red]no[/]" if one.needed else "[yellow]-[/]"
        advice = "" if one.ok else one.advice
        table.add_row(mark, one.name, _escape(one.found), _escape(advice))
    _show(table)
    lacking = [one.name for one in found if one.needed and not one.ok]
    _say(
        f"needed and missing: {', '.join(lacking)}"
        if lacking
        else "everything that is needed is there"
    )
    return FAILED if lacking else OK


def render(given: argparse.Namespace) -> int:
    """Render a mesh to a folder of posed images."""
    from geomopt.reconstruct.dataset import render_dataset

    render_dataset(
        given.mesh, given.out, views=given.views, resolution=given.resolution, seed=given.seed
    )
    _say(str(given.out))
    return OK


def find_run(name: str, root: str | Path) -> Run:
    """A run by its folder, or by the beginning of its name below `root`; raises InputError naming
    what there is.
    """
    from geomopt.errors import InputError
    from geomopt.runs.store import Run, runs_in

    if Path(name).is_dir():
        return Run.open(name)
    matches = [one for one in runs_in(root) if one.name.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    there = ", ".join(one.name for one in matches or runs_in(root)) or "none"
    what = f"several runs begin with {name!r}" if matches else f"there is no run {name!r}"
    raise InputError(f"{what}; runs in {root}: {there}")


def _summary(finished: Run, was_done: bool) -> None:
    outcome = finished.outcome or {}
    if was_done:
        _say(f"{finished.folder} is done already; delete the folder to run it again")
    seconds = sum(outcome["seconds"].values())
    if "cases" in outcome:
        result = f"{outcome['cases']} cases done"
    else:
        result = f"value {outcome['value']:.5g}, ended by {outcome['reason']}"
    _say(f"{finished.folder}  {result}, {seconds:.1f} s")
    for name, value in outcome["metrics"].items():
        _say(f"  {name} {value:.5g}" if isinstance(value, float) else f"  {name} {value}")
    for file in finished.artifacts:
        _say(f"  {file}")
    _say(f"  {finished.folder / 'report.html'}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"geomopt: {text}\n")
    return code


def _table(title: str, *columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _show(table: Any) -> None:
    from rich.console import Console

    # a pipe has no width, and folding for 80 columns would break names apart
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.partition("x")
    if not (
        cross
        and width.isdigit()
        and height.isdigit()
        and 64 <= int(width) <= 8192
        and 64 <= int(height) <= 8192
    ):
        raise argparse.ArgumentTypeError(
            f"a size reads WIDTHxHEIGHT with 64 to 8192 pixels each, got {text!r}"
        )
    return int(width), int(height)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="geomopt",
        description="Find shapes, materials and motions that explain observations.",
        epilog="example: geomopt run reconstruct",
    )
    parser.add_argument("--version", action="version", version=_version())
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def verb(
        name: str, action: Any, help: str, example: str, more: str = ""
    ) -> argparse.ArgumentParser:
        one = verbs.add_parser(
            name,
            help=help,
            description=f"{help[0].upper()}{help[1:]}. {more}".strip(),
            epilog=f"example: {example}",
        )
        one.set_defaults(verb=action)
        return one

    def root(one: argparse.ArgumentParser) -> None:
        one.add_argument("--root", default="runs", help="folder of the runs (default: runs)")

    one = verb(
        "run", run, "do a run, or continue one that was stopped",
        "geomopt run reconstruct --set data=my_scan --seed 1",
        "The run's directory is named after everything that decides its result: the same command "
        "continues a run that was stopped, and returns at once if it is done; delete the folder to "
        "run it again.",
    )  # fmt: skip
    one.add_argument(
        "spec",
        metavar="SPEC",
        help="a TOML file, or the name of a shipped spec (see: geomopt list)",
    )
    one.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="change the spec: method.step_size=0.02, budget.iterations=100, method=lbfgs; a key "
        "that is not at the top of the spec means the table [settings], so data=PATH is "
        "settings.data=PATH; may be repeated",
    )  # fmt: skip
    one.add_argument("--device", help="cpu, cuda, cuda:1 or auto")
    one.add_argument("--seed", type=int, help="seed of everything random")
    root(one)

    one = verb(
        "view",
        view,
        "show a run's timeline in a window, or render it to a file",
        "geomopt view reconstruct --save out.mp4",
    )
    one.add_argument("run", metavar="RUN", help="a run directory, or the beginning of its name")
    one.add_argument(
        "--save", metavar="FILE", help="write FILE.png, .gif or .mp4 instead; needs no display"
    )
    one.add_argument(
        "--size",
        type=_size,
        default=(960, 600),
        metavar="WxH",
        help="pixels of the file (default: 960x600)",
    )
    root(one)

    one = verb(
        "report",
        report,
        "write the HTML report of runs",
        "geomopt report runs --out comparison.html",
    )
    one.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="run directories, beginnings of names, or a folder of runs",
    )
    one.add_argument("--out", metavar="FILE", help="also write one file that compares all of them")
    root(one)

    one = verb(
        "list", list_all, "list the shipped specs, the methods and your runs", "geomopt list"
    )
    one.add_argument("--methods", action="store_true", help="when to use which method")
    root(one)
    root(
        verb(
            "doctor",
            doctor,
            "tell what this machine has, what is missing and how to get it",
            "geomopt doctor",
        )
    )

    one = verb(
        "render", render, "render a mesh from many sides into a folder with transforms.json",
        "geomopt render bunny.ply --views 60 --out bunny_views",
    )  # fmt: skip
    one.add_argument("mesh", metavar="MESH", help="a PLY, OBJ, STL, OFF or GLB file")
    one.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    one.add_argument("--views", type=_positive, default=60, help="number of cameras (default: 60)")
    one.add_argument(
        "--resolution", type=_positive, default=256, help="pixels along each side (default: 256)"
    )
    one.add_argument("--seed", type=int, default=0, help="seed of the cameras (default: 0)")
    return parser


def _version() -> str:
    try:
        return f"geomopt {metadata.version('geomopt')}"
    except metadata.PackageNotFoundError:
        return "geomopt, not installed"


if __name__ == "__main__":
    sys.exit(main())
