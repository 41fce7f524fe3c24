"""Ctrl-C and SIGTERM: the first ends a run in order, another one at once."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SAME_SECONDS = 0.5
"""Signals this close together are one request: `timeout` and job schedulers send theirs to a process and its group."""
_SHOW_CURSOR = "\r\x1b[K\x1b[?25h"


class Stopped(BaseException):
    """This process was asked to stop; like KeyboardInterrupt, it is no error.

    Attributes:
        exit_code: as shells have it: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, number: int) -> None:
        """Stop for the signal of this number."""
        super().__init__(number)
        self.exit_code = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` at the first SIGINT or SIGTERM; another one ends the process there and then.

    Workers die with their driver and commits are atomic, so even that leaves neither orphans nor broken files. A
    signal that is ignored (as under nohup) stays so. To be entered by the main thread.
    """
    first: float | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal first
        del frame
        now = time.monotonic()
        if first is None:
            first = now
            raise Stopped(number)
        if now - first >= _SAME_SECONDS:
            if sys.stderr.isatty():
                os.write(sys.stderr.fileno(), _SHOW_CURSOR.encode())
            os._exit(128 + number)

    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        if first is None:  # else this process is about to end, and another signal is still to end it at once
            for number, handler in before.items():
                signal.signal(number, handler)
