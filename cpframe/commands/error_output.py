"""Errors on the command line: one clear line each, and the right exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from cpframe.commands.signals import Check, Stopped, stoppable
from cpframe.errors import DataError, ExecutorError, NothingToDrawError, NotInstalledError, SpecError, StoreError


@contextmanager
def report_errors() -> Iterator[Check]:
    """Print an error as one clear line and exit with the right code, instead of a traceback.

    Yields:
        The function by which a long command notices that it was stopped.
    """
    with stoppable() as check:
        try:
            try:
                yield check
            except SpecError as error:
                _fail(str(error), 2)
            except (DataError, StoreError, ExecutorError, NotInstalledError, NothingToDrawError) as error:
                _fail(str(error), 1)
            except BrokenPipeError:
                raise  # the reader of the output has closed it: typer exits quietly
            except OSError as error:
                _discard_output()
                _fail(f"{error.filename or 'input or output failed'}: {error.strerror or error}", 1)
        except Stopped as stop:
            _fail("stopped; run the same command again to continue", stop.exit_code)


def _discard_output() -> None:
    """Discard what remains for a standard output that cannot be written; Python would complain about it at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> None:
    for line in message.splitlines():
        typer.secho(f"cpframe: {line}", err=True, fg=typer.colors.RED)
    raise typer.Exit(code)
