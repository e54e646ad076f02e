"""Calls in other processes, whose results can be differentiated.

`Workers.map` calls one function on many arguments, each in one of a few processes that stay.
Tensors travel beside what holds them, and those of the results are functions of those of the
arguments as if the call had been made here: each process keeps the graphs of its calls, and
backward asks it for the derivatives. A call that raises, or ends its process, costs that call
alone.

A worker is a new Python that imports what it is sent by name, with one thread for numerics; unlike
those of `multiprocessing` it does not run the main script again.
"""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError

SERVE = "from geomopt.workers import serve; serve()"
GRACE = 0.2  # s
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Outcome:
    """What became of a call. ok: it returned `value`; else `error` says what it raised."""

    ok: bool
    value: Any = None
    error: str = ""


def _packed(thing: Any) -> tuple[bytes, list[Tensor]]:
    """A thing as bytes without its tensors, and these, each once."""
    tensors: list[Tensor] = []
    places: dict[int, int] = {}

    class Packer(pickle.Pickler):
        def persistent_id(self, obj: Any) -> int | None:
            if not isinstance(obj, Tensor):
                return None
            if id(obj) not in places:
                places[id(obj)] = len(tensors)
                tensors.append(obj)
            return places[id(obj)]

    buffer = io.BytesIO()
    Packer(buffer, protocol=5).dump(thing)
    return buffer.getvalue(), tensors


def _unpacked(data: bytes, tensors: Sequence[Tensor]) -> Any:
    class Unpacker(pickle.Unpickler):
        def persistent_load(self, pid: Any) -> Tensor:
            return tensors[pid]

    return Unpacker(io.BytesIO(data)).load()


def _plain(tensors: Sequence[Tensor | None]) -> list[Any]:
    """Tensors as what can be sent: values, the device and whether they are differentiated."""
    return [
        None if t is None else (t.detach().cpu().numpy(), str(t.device), t.requires_grad)
        for t in tensors
    ]


def _tensors(sent: Sequence[Any]) -> list[Any]:
    return [
        None if part is None else torch.from_numpy(part[0]).to(part[1]).requires_grad_(part[2])
        for part in sent
    ]


class _Worker:
    """One process, asked for one thing at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        # calls that can no longer be differentiated; told with the next request, since these are
        # found wherever memory is cleaned up, in the middle of a request too
        self.dropped: list[int] = []

    def ask(self, *request: Any) -> Any:
        """The answer to a request. Raises EOFError where the process ends instead."""
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                self._end()
                process = self._process = subprocess.Popen(
                    [sys.executable, "-c", SERVE],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(sys.path)},
                )
            try:
                while self.dropped:
                    _write(process.stdin, ("drop", self.dropped.pop()))
                _write(process.stdin, request)
                return pickle.load(process.stdout)  # pyright: ignore[reportArgumentType]
            except (EOFError, OSError, pickle.UnpicklingError):
                raise EOFError(f"its process ended with code {self._end()}") from None
            except BaseException:
                self._end()  # an answer that nobody reads would be taken for the next one
                raise

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _end(self) -> int | None:
        """End the process, if there is one; the code with which it ended."""
        process, self._process = self._process, None
        if process is None:
            return None
        try:
            process.wait(timeout=GRACE)  # one that ends by itself tells more than a kill
        except subprocess.TimeoutExpired:
            process.kill()
        with process:  # closes its pipes
            return process.wait()


def _write(stream: Any, thing: Any) -> None:
    pickle.dump(thing, stream, protocol=5)
    stream.flush()


@dataclass(eq=False)
class _Call:
    """A call on its way: its number, what it is, the tensors of it, then its answer."""

    ticket: int
    data: bytes
    tensors: list[Tensor]
    worker: _Worker = field(init=False)
    answer: tuple[str, Any, Any] = ("failed", "", None)

    def make(self, worker: _Worker) -> None:
        """Have it made; its worker keeps the graph where a tensor is to be differentiated."""
        self.worker = worker
        keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in self.tensors)
        try:
            self.answer = worker.ask("call", self.ticket, self.data, _plain(self.tensors), keep)
        except EOFError as error:
            self.answer = ("failed", str(error), None)

    @property
    def returned(self) -> list[Tensor]:
        """The tensors of the value."""
        kind, _, sent = self.answer
        return [t.requires_grad_(False) for t in _tensors(sent)] if kind == "done" else []


class Workers:
    """Processes that make calls, for as long as this object is open.

    processes: how many, as many as there are cores by default. Raises InputError for fewer than
    one.
    """

    def __init__(self, processes: int | None = None) -> None:
        if processes is None:
            processes = os.cpu_count() or 1
        if not isinstance(processes, int) or isinstance(processes, bool) or processes < 1:
            raise InputError(f"processes must be a positive whole number, got {processes!r}")
        self._workers = [_Worker() for _ in range(processes)]
        self._tickets = count()
        self._finalizer = weakref.finalize(self, _close, self._workers)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; results that were not differentiated yet no longer can be."""
        _close(self._workers)

    def map(self, function: Callable[..., Any], arguments: Sequence[tuple]) -> list[Outcome]:
        """function(*arguments[i]) for all i, in the order of the arguments.

        function must be importable by name. Floating tensors of a value are differentiable, once,
        in the tensors of its own arguments. Raises InputError for what cannot be sent.
        """
        try:
            calls = [_Call(next(self._tickets), *_packed((function, a))) for a in arguments]
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise InputError(
                f"function must be importable by name and arguments must be picklable, got {error}"
            ) from None
        waiting = iter(calls)  # of a list: threads may share it
        grad = torch.is_grad_enabled()

        def work(worker: _Worker) -> None:
            with torch.set_grad_enabled(grad):  # a thread has a mode of its own
                for call in waiting:
                    call.make(worker)

        with ThreadPoolExecutor(len(self._workers)) as pool:
            list(pool.map(work, self._workers))
        return _outcomes(calls)


def _close(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.close()


def _outcomes(calls: Sequence[_Call]) -> list[Outcome]:
    """What became of calls, tensors of values as functions of those of the arguments."""
    flat = [tensor for call in calls for tensor in call.returned]
    asked = [call for call in calls if call.answer[0] == "done"]
    inputs = [t for call in asked for t in call.tensors if t.requires_grad]
    if inputs and torch.is_grad_enabled():
        flat = list(_Attach.apply(asked, flat, *inputs))  # pyright: ignore[reportGeneralTypeIssues]
    outcomes, place = [], 0
    for call in calls:
        kind, content, sent = call.answer
        if kind == "failed":
            outcomes.append(Outcome(False, error=content))
            continue
        outcomes.append(Outcome(True, _unpacked(content, flat[place : place + len(sent)])))
        place += len(sent)
    return outcomes


class _Attach(torch.autograd.Function):
    """Tensors that came back from calls, all at once, so that backward asks all workers at once."""

    @staticmethod
    def forward(ctx: Any, calls: list[_Call], returned: list[Tensor], *inputs: Tensor) -> Any:
        ctx.calls = calls
        ctx.counts = [(len(call.answer[2]), call.worker, call.ticket) for call in calls]
        ctx.mark_non_differentiable(*(t for t in returned if not t.is_floating_point()))
        ctx.set_materialize_grads(False)
        for _, worker, ticket in ctx.counts:
            weakref.finalize(ctx, worker.dropped.append, ticket)
        return tuple(returned)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        requests, place = [], 0
        for returned, worker, ticket in ctx.counts:
            part = gradients[place : place + returned]
            place += returned
            if any(gradient is not None for gradient in part):
                requests.append((worker, ticket, _plain(part)))
        answers: dict[int, list[Tensor | None]] = {}

        def differentiate(worker: _Worker) -> None:
            for other, ticket, part in requests:
                if other is worker:
                    kind, content = worker.ask("backward", ticket, part)
                    if kind == "failed":
                        raise RuntimeError(f"a call could not be differentiated: {content}")
                    answers[ticket] = _tensors(content)

        busy = list({id(worker): worker for worker, _, _ in requests}.values())
        with ThreadPoolExecutor(max(len(busy), 1)) as pool:
            list(pool.map(differentiate, busy))
        found: list[Tensor | None] = []
        for call in ctx.calls:
            given = answers.get(call.ticket, [None] * len(call.tensors))
            found += [g for g, t in zip(given, call.tensors, strict=True) if t.requires_grad]
        return None, None, *found


def serve() -> None:
    """What a worker does: answer requests from its standard input until that ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what is printed is no answer
    torch.set_num_threads(1)
    kept: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
    while True:
        try:
            kind, ticket, *rest = pickle.load(requests)
        except EOFError:
            return
        if kind == "drop":
            kept.pop(ticket, None)
            continue
        try:
            answer = (
                _called(kept, ticket, *rest) if kind == "call" else _pulled(kept[ticket], *rest)
            )
        except Exception as error:
            told = "".join(traceback.format_exception_only(error)).strip()
            answer = ("failed", told, None) if kind == "call" else ("failed", told)
        _write(answers, answer)


def _called(
    kept: dict[int, tuple[list[Tensor], list[Tensor]]],
    ticket: int,
    data: bytes,
    sent: list[Any],
    keep: bool,
) -> tuple[str, bytes, list[Any]]:
    inputs = _tensors(sent)
    function, arguments = _unpacked(data, inputs)
    with torch.set_grad_enabled(keep):
        value = function(*arguments)
    packed, returned = _packed(value)
    if keep:
        kept[ticket] = inputs, returned
    return "done", packed, _plain(returned)


def _pulled(call: tuple[list[Tensor], list[Tensor]], sent: list[Any]) -> tuple[str, list[Any]]:
    inputs, returned = call
    seeds = _tensors(sent)
    parts = [
        (output * seed).sum()
        for output, seed in zip(returned, seeds, strict=True)
        if seed is not None and output.requires_grad
    ]
    leaves = [tensor for tensor in inputs if tensor.requires_grad]
    found: list[Tensor | None] = [None] * len(leaves)
    if parts and leaves:
        total = torch.stack(parts).sum()
        found = list(torch.autograd.grad(total, leaves, retain_graph=True, allow_unused=True))
    rest = iter(found)
    return "done", _plain([next(rest) if t.requires_grad else None for t in inputs])
