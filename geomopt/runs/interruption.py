"""Ctrl-C and SIGTERM end a run between two iterates, so that nothing is lost."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A signal ended the run; the same command continues it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class Interruption:
    """Whether a signal has come. While `patient`, the first one only asks; otherwise it raises
    Interrupted at once.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self.patient = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """What the system calls."""
        if not self.patient or self.requested is not None:
            raise Interrupted(number)
        self.requested = number
        sys.stderr.write("stopping after this iterate; give the signal again to stop at once\n")


@contextmanager
def watched() -> Iterator[Interruption]:
    """Handle SIGINT and SIGTERM inside the block; outside the main thread nothing changes."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {
        number: signal.signal(number, interruption.handle)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
