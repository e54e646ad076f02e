"""The one bridge between torch and Warp.

`launch` runs a Warp kernel on torch tensors without copying: the device comes from the tensors, and
on CPU a large launch can be split over a small thread pool, since Warp runs a CPU launch on one
core but releases the interpreter lock. `differentiable` makes a torch function of a forward and a
hand-written backward. It refuses second derivatives, which would otherwise be dropped silently.

Every kernel takes `first: int` as its first argument and works on element `first + wp.tid()`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

import torch
import warp as wp
from torch import Tensor

# on a machine without a GPU this is no news; `geomopt doctor` tells which devices there are
NO_DRIVER = b"Warp CUDA warning: Could not find or load the NVIDIA CUDA driver"
SPLIT_ABOVE = 16384  # elements; below this a second thread costs more than it gains

_VECTORS = {
    (torch.float32, 2): wp.vec2f,
    (torch.float32, 3): wp.vec3f,
    (torch.float32, 4): wp.vec4f,
    (torch.float64, 2): wp.vec2d,
    (torch.float64, 3): wp.vec3d,
    (torch.float64, 4): wp.vec4d,
    (torch.int32, 2): wp.vec2i,
    (torch.int32, 3): wp.vec3i,
    (torch.int32, 4): wp.vec4i,
}
_SCALARS = {torch.float32, torch.float64, torch.int32, torch.int64, torch.bool}


@dataclass(frozen=True)
class Vectors:
    """A tensor (..., n), n = 2, 3 or 4, that a kernel takes as an array of vectors."""

    tensor: Tensor


@contextmanager
def _without_line(start: bytes) -> Iterator[None]:
    """Hold standard error back, native code's too, and give it on but for lines of that start."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            os.write(2, b"".join(line for line in held if not line.startswith(start)))


@cache
def initialize() -> None:
    """Start Warp quietly, once. `from_torch` fails obscurely before it."""
    wp.config.log_level = wp.LOG_WARNING
    with _without_line(NO_DRIVER):
        wp.init()


def warp_scalar(dtype: torch.dtype) -> Any:
    """The Warp scalar type of a torch dtype, for kernels that are built per precision."""
    return {torch.float32: wp.float32, torch.float64: wp.float64}[dtype]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="geomopt-launch")


@cache
def _descriptor() -> Any:
    """The type of what `from_torch` describes a tensor by."""
    return type(wp.from_torch(torch.zeros(1), return_ctype=True))


def _argument(value: Any) -> Any:
    # a launch costs less without `from_torch`; the caller keeps the tensors alive meanwhile
    if isinstance(value, Vectors):
        tensor = value.tensor
        dtype = _VECTORS[tensor.dtype, tensor.shape[-1]]
        if tensor.ndim < 2 or not tensor.is_contiguous():
            return wp.from_torch(tensor.detach(), dtype=dtype, return_ctype=True)
        return _described(tensor, tensor.ndim - 1)
    if not isinstance(value, Tensor):
        return value
    if value.dtype not in _SCALARS:
        return wp.from_torch(value.detach(), return_ctype=True)
    return _described(value, value.ndim)


def _described(tensor: Tensor, rank: int) -> Any:
    """What `from_torch` gives for an array over the first `rank` dimensions."""
    layout = _layout(tensor.shape, tensor.stride(), tensor.element_size(), rank)
    described = _descriptor().from_buffer_copy(layout)
    described.data = tensor.data_ptr()
    return described


@lru_cache(4096)
def _layout(shape: torch.Size, strides: tuple[int, ...], size: int, rank: int) -> bytes:
    return bytes(_descriptor()(0, 0, rank, shape, [size * stride for stride in strides]))


class Commands:
    """Launches in their order, to be made again on the same memory at a fraction of the cost.

    Whoever runs them keeps the tensors alive that they were made with. Made by `recorded`.
    """

    def __init__(self) -> None:
        self._made: list[list[Any]] = []

    def add(self, parts: list[Any]) -> None:
        """Append a launch, in parts that may run side by side on CPU, and make it."""
        self._made.append(parts)
        _run(parts)

    def run(self) -> None:
        """Make all launches again."""
        for parts in self._made:
            _run(parts)


def _run(parts: list[Any]) -> None:
    if len(parts) == 1:
        command = parts[0]
        if command.device.is_cuda:
            command.launch(wp.stream_from_torch(torch.cuda.current_stream()))
        else:
            command.launch()
        return
    jobs = [_pool().submit(command.launch) for command in parts]
    for job in jobs:
        job.result()


@contextmanager
def recorded() -> Iterator[Commands]:
    """Record the launches of this thread inside the block, which are made as well."""
    outer, commands = _recorded.commands, Commands()
    _recorded.commands = commands
    try:
        yield commands
    finally:
        _recorded.commands = outer


class _Recorded(threading.local):
    """The launches of each kernel on CPU that a thread has made, to be made again, and where those
    that it makes now are kept.
    """

    def __init__(self) -> None:
        self.launches: dict[Any, Any] = {}
        self.commands: Commands | None = None


_recorded = _Recorded()


def _on_cpu(kernel: Any, count: int, arguments: Sequence[Any]) -> None:
    recorded: Any = _recorded.launches.get(kernel)
    if recorded is None:
        recorded = wp.launch(kernel, count, inputs=arguments, device="cpu", record_cmd=True)
        _recorded.launches[kernel] = recorded
    else:
        if recorded.bounds.size != count:
            recorded.set_dim(count)
        plain = int, float, _descriptor()
        for place, value in enumerate(arguments):
            if isinstance(value, plain):
                recorded.set_param_at_index_from_ctype(place, value)
            else:
                recorded.set_param_at_index(place, value)
    recorded.launch()


def _command(kernel: Any, count: int, arguments: Sequence[Any], device: Any) -> Any:
    return wp.launch(kernel, count, inputs=arguments, device=device, record_cmd=True)


def _device(arguments: Sequence[Any]) -> torch.device:
    for value in arguments:
        if isinstance(value, Vectors):
            return value.tensor.device
        if isinstance(value, Tensor):
            return value.device
    raise ValueError("a launch needs at least one tensor argument")


def launch(
    kernel: Any,
    count: int,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    *,
    split: bool = False,
    grain: int = SPLIT_ABOVE,
) -> None:
    """Run `kernel` on elements 0..count-1 of contiguous torch tensors.

    inputs, outputs: tensors (as arrays of scalars), `Vectors`, or plain numbers. split: allow a CPU
    launch to be shared out over `torch.get_num_threads()` threads; only for kernels that write each
    output from one element (no scatter). grain: elements worth a thread, fewer for heavy ones.
    """
    if count == 0:
        return
    initialize()
    device = _device([*inputs, *outputs])
    given = [_argument(value) for value in inputs]
    made = [_argument(value) for value in outputs]
    commands = _recorded.commands
    if device.type == "cuda" and commands is not None:
        where = wp.device_from_torch(device)
        commands.add([_command(kernel, count, [0, *given, *made], where)])
        return
    if device.type == "cuda":
        stream = wp.stream_from_torch(torch.cuda.current_stream(device))
        wp.launch(
            kernel,
            count,
            inputs=[0, *given],
            outputs=made,
            device=wp.device_from_torch(device),
            stream=stream,
        )
        return
    parts = max(1, min(torch.get_num_threads(), count // grain)) if split else 1
    bounds = [count * part // parts for part in range(parts + 1)]
    if commands is not None:
        ranges = [(start, stop - start) for start, stop in pairwise(bounds)]
        commands.add(
            [_command(kernel, size, [start, *given, *made], "cpu") for start, size in ranges]
        )
        return
    if parts == 1:
        _on_cpu(kernel, count, [0, *given, *made])
        return
    jobs = [
        _pool().submit(_on_cpu, kernel, stop - start, [start, *given, *made])
        for start, stop in pairwise(bounds)
    ]
    for job in jobs:
        job.result()


class _Operation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, operation: Any, *tensors: Tensor | None) -> Any:
        forward, backward, rows = operation
        outputs, saved = forward(*tensors)
        ctx.backward_of, ctx.rows = backward, rows
        ctx.saved = saved
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(out for out in outputs if not out.dtype.is_floating_point))
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        again = torch.is_grad_enabled()
        if again and not ctx.rows:
            raise NotImplementedError(
                "a Warp kernel has no second derivative; "
                "use backend='torch' or drop create_graph=True"
            )
        if all(gradient is None for gradient in gradients):
            return (None,) * len(ctx.needs_input_grad)

        def pull(*given: Tensor | None) -> Any:
            contiguous = [None if gradient is None else gradient.contiguous() for gradient in given]
            tensors, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
            return tuple(ctx.backward_of(tensors, ctx.saved, contiguous, needed))

        return None, *(_Pulled.apply(pull, *gradients) if again else pull(*gradients))


class _Pulled(torch.autograd.Function):
    """The derivative of an operation on rows, which is linear in the incoming gradients."""

    @staticmethod
    def forward(ctx: Any, pull: Any, *gradients: Tensor | None) -> Any:
        ctx.pull, ctx.gradients = pull, gradients
        ctx.set_materialize_grads(False)
        return pull(*gradients)

    @staticmethod
    def backward(ctx: Any, *ways: Tensor | None) -> Any:
        found: list[Tensor | None] = [None] * len(ctx.gradients)
        for place, gradient in enumerate(ctx.gradients):
            if gradient is None or not ctx.needs_input_grad[1 + place]:
                continue
            # rows do not see each other, so one number of all of them is pulled back at once
            columns = []
            for column in torch.eye(gradient[:1].numel()).to(gradient):
                seed = column.reshape(gradient.shape[1:]).expand_as(gradient)
                seeds = [seed if other == place else None for other in range(len(found))]
                pairs = zip(ctx.pull(*seeds), ways, strict=True)
                parts = [p * w for p, w in pairs if p is not None and w is not None]
                columns.append(sum(part.flatten(1).sum(1) for part in parts))
            found[place] = torch.stack(columns, 1).reshape_as(gradient) if columns else gradient
        return None, *found


def differentiable(
    forward: Callable[..., tuple[Sequence[Tensor], Any]],
    backward: Callable[..., Sequence[Tensor | None]],
    *tensors: Tensor | None,
    rows: bool = False,
) -> tuple[Tensor, ...]:
    """Apply a forward with a hand-written adjoint as one torch operation.

    forward(*tensors) -> (outputs, saved): detached tensors in, a sequence of tensors and anything
    the backward wants to keep. backward(tensors, saved, gradients, needed) -> one gradient or None
    for each of `tensors`; `gradients` holds None for an output that was not used, `needed` says
    which are wanted. Integer outputs carry no gradient. Raises NotImplementedError when a
    derivative of the backward is asked for.

    rows: each row of the outputs follows from the same row of the tensors. The backward can then be
    differentiated in the gradients, which forward mode by two reverse passes asks for; in the
    tensors it counts as constant.
    """
    return _Operation.apply((forward, backward, rows), *tensors)  # pyright: ignore[reportReturnType]
