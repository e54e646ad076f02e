"""Do a run: start its task, iterate, keep everything in its directory, go on after a kill.

The order of writing makes every moment a safe one. An iterate and its frame are on disk before the
checkpoint that follows them; on resuming, what lies past the checkpoint is dropped and made again,
bit for bit. Artifacts are moved into place when all of them are whole, then comes the report, and
the outcome is last: a directory without it is unfinished.
"""

from __future__ import annotations

import math
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

import optimizers
from geomopt import files
from geomopt.errors import BackendUnavailable, InputError
from geomopt.files import StorageError, explained
from geomopt.runs import environment, lock, store
from geomopt.runs.interruption import Interrupted, Interruption, watched
from geomopt.runs.progress import Progress
from geomopt.runs.recorder import Recorder
from geomopt.runs.spec import Spec
from geomopt.runs.store import Run
from geomopt.runs.study import check_plan, go_through, is_study, outcome_of


class RunFailed(RuntimeError):
    """A run ended with an error, which its outcome.json tells in full."""

    def __init__(self, run: Run, message: str) -> None:
        super().__init__(message)
        self.run = run


def execute(spec: Spec, root: str | Path = "runs", progress: bool = True) -> Run:
    """Do the run of a spec below `root`, or continue it, or return it at once if it is done.

    progress: whether to tell on stderr how it goes. torch works on one thread meanwhile: sums then
    have one order, so a resumed run equals an unbroken one. Raises InputError for a task that
    cannot start, Interrupted after SIGINT or SIGTERM, StorageError when the directory cannot be
    written, RunFailed for any other error.
    """
    run = Run(Path(root) / spec.folder)
    if is_done(run):
        return run
    made = not run.folder.exists()
    with explained(run.folder):
        run.folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock.held(run.lock_file), one_thread(), watched() as interruption:
            if not is_done(run):  # another process may have done it just before
                _work(spec, run, interruption, progress)
    finally:
        if made:
            with suppress(OSError):  # only an empty directory goes: there nothing was begun
                run.folder.rmdir()
    return run


def is_done(run: Run) -> bool:
    """Whether the run has ended well."""
    return (run.outcome or {}).get("status") == "ok"


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work on one thread inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _work(spec: Spec, run: Run, interruption: Interruption, progress: bool) -> None:
    began = time.perf_counter()
    try:
        search = _Study(spec, run) if is_study(spec.settings) else _Search(spec, run)
    except InputError:
        raise
    except Exception as error:
        _prepare(spec, run)
        raise _failure(run, error) from error
    seconds = {"start": time.perf_counter() - began}
    try:
        _prepare(spec, run)
        search.go(interruption, progress, seconds)
    except (StorageError, RunFailed):
        raise
    except Exception as error:
        raise _failure(run, error) from error


def _prepare(spec: Spec, run: Run) -> None:
    (run.folder / "outcome.json").unlink(missing_ok=True)
    _remove_drafts(run)
    files.write_text(run.folder / "spec.toml", spec.to_toml())
    before = run.environment
    times = {
        "started": before.get("started", environment.now()),
        "continued": before.get("continued", []),
    }
    if before:
        times["continued"] = [*times["continued"], environment.now()]
    store.write_json(
        run.folder / "env.json", {**environment.describe(spec.device, spec.seed), **times}
    )
    with explained(run.frames_folder):
        run.frames_folder.mkdir(parents=True, exist_ok=True)


def _remove_drafts(run: Run) -> None:
    """Remove what a process that was killed while it wrote has left; drafts begin with a dot."""
    for draft in (*run.folder.glob(".*"), *run.frames_folder.glob(".*")):
        if draft.is_dir():
            shutil.rmtree(draft)
        elif draft != run.lock_file:
            draft.unlink()


@contextmanager
def _refusals(spec: Spec) -> Iterator[None]:
    """What a task or a method refuses in here is the user's input; there is no run yet."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, OSError, BackendUnavailable) as error:
        raise InputError(f"{spec.problem} cannot start: {one_line(error)}") from error


class _Study:
    """The cases of a run."""

    def __init__(self, spec: Spec, run: Run) -> None:
        self.spec, self.run = spec, run
        with _refusals(spec):
            self.cases = check_plan(spec.settings.plan(torch.device(spec.device), spec.seed))

    def go(self, interruption: Interruption, progress: bool, seconds: dict[str, float]) -> None:
        """Do all of them, then write the report and the outcome; raises RunFailed if one failed."""
        from geomopt.runs import report

        with Progress(self.spec.name, None, progress) as shown:
            records = go_through(self.cases, self.run, interruption, shown)
        times = {record["case"]: record["seconds"] for record in records}
        outcome = outcome_of(records)
        outcome |= {"seconds": {**seconds, **times}, "finished": environment.now()}
        report.write(self.run, outcome)
        store.write_json(self.run.folder / "outcome.json", outcome)
        if outcome["status"] == "failed":
            raise RunFailed(self.run, outcome["error"])


class _Search:
    """The optimization of a run."""

    def __init__(self, spec: Spec, run: Run) -> None:
        self.spec, self.run = spec, run
        self.arguments: dict[str, Any] = {
            "budget": spec.budget,
            "seed": spec.seed,
            "checkpoint": run.checkpoint_file,
            "checkpoint_every": spec.checkpoint_every,
        }
        with _refusals(spec):
            self.problem = spec.settings.start(torch.device(spec.device), spec.seed)
            self.iterates = optimizers.iterate(self.problem, spec.method, **self.arguments)

    def go(self, interruption: Interruption, progress: bool, seconds: dict[str, float]) -> None:
        """Do all of it, from the first iterate to the outcome."""
        result = self._iterate(interruption, progress)
        _finish(self.run, self.problem, result, {**seconds, "optimization": result.seconds})

    def _iterate(self, interruption: Interruption, progress: bool) -> optimizers.Result:
        """Iterate to the end; raises Interrupted when a signal has come and all is saved."""
        recorder = Recorder(self.run, self.problem, self.spec.frames)
        try:
            with Progress(self.spec.name, self.spec.budget, progress) as shown:
                interruption.patient = True
                while interruption.requested is None:
                    with files.storage_errors(self.run.checkpoint_file):
                        iterate = next(self.iterates, None)
                    if iterate is None:
                        break
                    recorder.take(iterate)
                    shown.show(iterate)
        finally:
            interruption.patient = False
            with files.storage_errors(self.run.checkpoint_file):
                self.iterates.close()  # writes the checkpoint
        if interruption.requested is not None:
            raise Interrupted(interruption.requested)
        # the search is over, so this only reads its result from the checkpoint
        result = optimizers.minimize(self.problem, self.spec.method, **self.arguments)
        if not math.isfinite(result.value):
            raise RuntimeError(f"no result after {result.iterations} iterates: {result.reason}")
        recorder.finish(result)
        return result


def _finish(run: Run, problem: Any, result: optimizers.Result, timings: dict[str, float]) -> None:
    from geomopt.runs import report

    began = time.perf_counter()
    parameters = problem.parameters_of(result.x)
    metrics = _plain(problem.metrics(parameters)) if hasattr(problem, "metrics") else {}
    if hasattr(problem, "write_artifacts"):
        with store.new_artifacts(run) as folder:
            problem.write_artifacts(parameters, folder)
    outcome = {
        "status": "ok",
        "reason": str(result.reason),
        "value": result.value,
        "violation": result.violation,
        "iterations": result.iterations,
        "evaluations": result.evaluations,
        "gradients": result.gradients,
        "metrics": metrics,
        "seconds": {**timings, "results": time.perf_counter() - began},
        "finished": environment.now(),
    }
    report.write(run, outcome)
    store.write_json(run.folder / "outcome.json", outcome)


def _failure(run: Run, error: Exception) -> RunFailed:
    """Write the outcome and the report of a failed run; gives the error to raise."""
    from geomopt.runs import report

    outcome = {
        "status": "failed",
        "error": f"{type(error).__name__}: {one_line(error)}",
        "traceback": "".join(traceback.format_exception(error)),
        "finished": environment.now(),
    }
    store.write_json(run.folder / "outcome.json", outcome)
    report.write(run, outcome)
    return RunFailed(run, outcome["error"])


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _plain(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.item() if hasattr(value, "item") else value for name, value in metrics.items()
    }
