"""A run: what was asked, what happened, what came out, in one directory.

A `Spec` (spec.py) is read from TOML by building frozen dataclasses from its tables (settings.py)
and written back by toml.py. `execute` (execute.py) starts its task, iterates, and hands each
iterate to a recorder (recorder.py), which keeps the directory that `Run` (store.py) reads. Every
file is replaced atomically or appended in a way that can be taken back (geomopt/files.py), one
process at a time (lock.py), and a signal waits for the end of an iterate (interruption.py). So a
run may be killed at any moment and goes on when the same command is given again. `report.write`
tells the story in one HTML file.

    from geomopt.runs import execute, load

    run = execute(load("reconstruct", ["data=scan", "seed=1"]))
    run.outcome["metrics"], run.iterates["value"], run.artifacts

The task that a spec names is a frozen dataclass of settings with

    start(device, seed) -> optimizers.Problem        ValueError or OSError there: bad input
    method(), budget()                                optional: what a spec that is silent means

and its problem may have

    scene(parameters) -> Scene                        a frame of the viewer's timeline
    metrics(parameters) -> dict[str, number or text]  what the report lists
    write_artifacts(parameters, folder)               meshes, pictures, animations

where parameters is the dictionary of named tensors that the problem was declared with. A task with
`plan` in place of `start` is a study (study.py): it has cases to go through, such as those of a
validation, and nothing to optimize.
"""

from geomopt.runs.execute import RunFailed, execute
from geomopt.runs.interruption import Interrupted
from geomopt.runs.spec import Spec, load
from geomopt.runs.store import Run, runs_in
from geomopt.runs.study import CaseResult

__all__ = ["CaseResult", "Interrupted", "Run", "RunFailed", "Spec", "execute", "load", "runs_in"]
