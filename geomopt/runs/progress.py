"""What a run says on stderr: one line rewritten in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import Any, Self

from optimizers import Budget, Iterate

_EVERY = 10.0  # seconds between lines where there is no terminal
_LINE = 80  # characters for the numbers where there is no terminal
_BAR = 20  # characters
_SLOWEST = 0.05  # steps a second: a smaller rate would read 0.0
_AROUND = _BAR + 28  # what bar, percentage, rate, time and the gaps between them take


def share(iterate: Iterate, budget: Budget) -> float | None:
    """Part of the budget that is used up in [0, 1], None where only a target ends the run."""
    used = {
        "iterations": iterate.iteration + 1,
        "evaluations": iterate.evaluations,
        "gradients": iterate.gradients,
        "seconds": iterate.seconds,
    }
    limits = {name: getattr(budget, name) for name in used}
    shares = [used[name] / limit for name, limit in limits.items() if limit is not None]
    return min(1.0, max(shares)) if shares else None


class Progress:
    """Shows how far a run is; a context manager, silent with `wanted=False`.

    budget: of the iterates; None for a run that tells of its steps itself.
    """

    def __init__(self, title: str, budget: Budget | None, wanted: bool = True) -> None:
        self.title, self.budget, self.wanted = title, budget, wanted
        self._bar: Any = None
        self._began = self._spoke = time.monotonic()
        self._first: float | None = None
        self._count = 0

    def __enter__(self) -> Self:
        if self.wanted and sys.stderr.isatty():
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=None, text="starting", rate="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, iterate: Iterate) -> None:
        """Show one iterate."""
        room = _LINE
        if self._bar is not None:
            room = self._bar.console.width - len(self.title) - _AROUND
        if self.wanted:
            done = None if self.budget is None else share(iterate, self.budget)
            self.step(done, f"iterate {iterate.iteration}", _numbers(iterate, room))

    def step(self, done: float | None, heading: str, text: str) -> None:
        """Show that a share in [0, 1] is done, None where nobody knows; heading: what counts,
        which the bar stands for in a terminal; text: what is going on.
        """
        if not self.wanted:
            return
        now = time.monotonic()
        if self._first is None:
            self._first, self._began = done or 0.0, now
        else:
            self._count += 1
        rate = self._count / (now - self._began) if now > self._began else 0.0
        if self._bar is not None:
            self._bar.update(
                self._task,
                total=None if done is None else 1.0,
                completed=done or 0.0,
                text=text,
                rate=f"{rate:.1f}/s" if rate >= _SLOWEST else "",
            )
        elif self._count == 0 or now - self._spoke >= _EVERY or done == 1.0:
            self._spoke = now
            parts = [f"{self.title}: {heading}", text]
            if rate >= _SLOWEST:
                parts.append(f"{rate:.1f}/s")
            if done and (self._first or 0.0) < done < 1.0:
                left = (now - self._began) * (1 - done) / (done - (self._first or 0.0))
                parts.append(f"{_clock(left)} left")
            sys.stderr.write("  ".join(parts) + "\n")
            sys.stderr.flush()


def _numbers(iterate: Iterate, room: int) -> str:
    """Value, violation, and as many terms as there is room for, in characters."""
    text = f"value {iterate.value:.4g}"
    if iterate.violation > 0:
        text += f"  violation {iterate.violation:.2g}"
    for name, number in iterate.terms.items():
        term = f"  {name} {number:.3g}"
        if math.isfinite(number) and len(text + term) <= room:
            text += term
    return text


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=_BAR),
        TaskProgressColumn(),
        TextColumn("{task.fields[text]}"),
        TextColumn("[dim]{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
