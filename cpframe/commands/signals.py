"""Ctrl-C and SIGTERM: the first one ends a run in order; the next one ends the process, or is ignored in a notebook."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SAME_SECONDS = 0.5
"""Signals this close together are one request: `timeout` and job schedulers signal a process and then its group."""
_SHOW_CURSOR = "\r\x1b[K\x1b[?25h"


class Stopped(BaseException):
    """The process was asked to stop; like KeyboardInterrupt, this is no error.

    Attributes:
        exit_code: the exit code that a shell expects: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, number: int) -> None:
        """Stop because of the signal with this number."""
        super().__init__(number)
        self.exit_code = 128 + number


Check = Callable[[], None]
"""A function to call regularly: it raises the exception of a signal again if Python discarded it in a finaliser."""


@contextmanager
def stoppable() -> Iterator[Check]:
    """Raise `Stopped` at the first SIGINT or SIGTERM; a second one ends the process at once.

    Workers end with their driver and commits are atomic, so even that leaves neither orphans nor broken files. A
    signal that is ignored (as under nohup) stays ignored. Only the main thread may enter.

    Yields:
        A `Check`: an exception that a signal raises inside a finaliser is lost.
    """
    first: float | None = None
    received = 0

    def check() -> None:
        if received:
            raise Stopped(received)

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal first, received
        del frame
        now = time.monotonic()
        if first is None:
            first, received = now, number
            raise Stopped(number)
        if now - first >= _SAME_SECONDS:
            if sys.stderr.isatty():
                os.write(sys.stderr.fileno(), _SHOW_CURSOR.encode())
            os._exit(128 + number)

    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield check
    finally:
        if first is None:  # otherwise the process is about to end, and a second signal must still end it at once
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[Check]:
    """Raise KeyboardInterrupt at the first SIGINT, and ignore further ones until all inside has been cleaned up.

    This is for a process that continues afterwards, such as the kernel of a notebook: an impatient second Ctrl-C must
    not interrupt the end of the workers. Outside the main thread nothing is changed.

    Yields:
        A `Check`, as `stoppable` does.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield lambda: None
        return
    interrupted = False

    def check() -> None:
        if interrupted:
            raise KeyboardInterrupt

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        del number, frame
        if not interrupted:
            interrupted = True
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
