"""The commands. Everything heavy is imported inside them, so that ``--help`` is quick."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional

import typer

from cpframe.export import Format as ExportFormat
from cpframe.report.figures import FIGURES, Format

app = typer.Typer(
    help="Find, measure and explain critical learning periods in neural networks.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="The TOML file of the study.", show_default=False)]
ResultsFile = Annotated[
    Path, typer.Argument(metavar="RESULTS", help="A results.h5, or its folder.", show_default=False)
]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it at run time
    typer.Option("--set", metavar="KEY=VALUE", help="Lay a value over the spec: --set optimizer.lr=0.1. Repeatable."),
]
Profile = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Lay [profiles.NAME] over the spec.", metavar="NAME"),
]
DataFolder = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(metavar="DIR", help="Folder of the data sets.  [default: $CPFRAME_DATA, or the cache folder]"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", metavar="DEVICE")]
Store = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(metavar="DIR", help="Folder of the stages, which studies share.  [default: .stages beside --out's]"),
]
FigureName = StrEnum("FigureName", [(name, name) for name in (*(figure.name for figure in FIGURES), "all")])  # type: ignore[misc]


@contextmanager
def _told() -> Iterator[None]:
    """Tell errors in one clear line and end with the right exit code, instead of a traceback."""
    from cpframe.commands.signals import Stopped, stoppable

    with stoppable():
        try:
            from cpframe.api import DataError
            from cpframe.errors import ExecutorError, NothingToDrawError, NotInstalledError, SpecError
            from cpframe.store import StoreError

            try:
                yield
            except SpecError as error:
                _fail(str(error), 2)
            except (DataError, StoreError, ExecutorError, NotInstalledError, NothingToDrawError) as error:
                _fail(str(error), 1)
            except BrokenPipeError:
                raise  # whoever read the output has had enough: typer ends quietly
            except OSError as error:
                _silence_broken_output()
                _fail(f"{error.filename or 'input or output failed'}: {error.strerror or error}", 1)
        except Stopped as stop:
            _fail("stopped; run the same command again to go on from here", stop.exit_code)


def _silence_broken_output() -> None:
    """Drop what is left for a standard output that cannot be written, lest Python tries again at exit and complains."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> None:
    for line in message.splitlines():
        typer.secho(f"cpframe: {line}", err=True, fg=typer.colors.RED)
    raise typer.Exit(code)


@app.command()
def run(
    spec: SpecFile,
    profile: Profile = None,
    overrides: Overrides = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="Folder for results.h5.  [default: runs/SPEC[-PROFILE]]"),
    ] = None,
    store: Store = None,
    keep_states: Annotated[
        bool, typer.Option("--keep-states", help="Keep the weights at the end of every stage in the store.")
    ] = False,
    data: DataFolder = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, metavar="N", help="Workers that train.  [default: one a core on the CPU, one a GPU]"),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="auto, inline, processes, ray, ray://HOST:PORT.", metavar="WHERE")
    ] = "auto",
    device: Device = "auto",
) -> None:
    """Train everything a spec asks for, then report; what is done already is not trained again."""
    with _told():
        from cpframe.plugins.discovery import discover
        from cpframe.spec.reader import read_spec

        checked = read_spec(spec, discover(), profile, overrides or ())
        from cpframe.commands.run import run_spec  # imports torch: only once the spec is sound

        folder = out or _folder(spec, profile)
        if not run_spec(checked, folder, data, workers, device, executor, store, keep_states=keep_states):
            raise typer.Exit(1)


@app.command()
def plan(
    spec: SpecFile,
    profile: Profile = None,
    overrides: Overrides = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="Folder of the study.  [default: runs/SPEC[-PROFILE]]"),
    ] = None,
    store: Store = None,
    data: DataFolder = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, metavar="N", help="Processes to reckon with.  [default: as many as run would take]"),
    ] = None,
    device: Device = "auto",
) -> None:
    """Show what a run would train, what is done already, and the time and disk it takes; trains nothing."""
    with _told():
        from cpframe.plugins.discovery import discover
        from cpframe.spec.reader import read_spec

        checked = read_spec(spec, discover(), profile, overrides or ())
        from cpframe.commands.plan import plan_spec  # imports torch: only once the spec is sound

        plan_spec(checked, out or _folder(spec, profile), store, data, workers, device)


def _folder(spec: Path, profile: str | None) -> Path:
    """Of a study, unless another is named."""
    return Path("runs") / (spec.stem if profile is None else f"{spec.stem}-{profile}")


@app.command()
def report(
    results: ResultsFile,
    sections: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--section",
            metavar="NAME",
            help="Tell one section, in full: verdict, curves, phases, layers, plasticity, link, metrics, controls. "
            "Repeatable.  [default: all, with the most telling timelines]",
        ),
    ] = None,
    threshold: Annotated[
        float, typer.Option(metavar="POINTS", help="A deficit has healed when at most so many points stay lost.")
    ] = 1.0,
    width: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="N", help="Columns, from 60 to 400.  [default: the terminal's]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead, for machines.")] = False,
    page: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--html", metavar="FILE", help="Write one self-contained page of HTML instead."),
    ] = None,
) -> None:
    """Report on a study: verdicts first, then accuracy, Fisher information and its phases, controls."""
    with _told():
        from cpframe.commands.report import check_page, check_report, print_report
        from cpframe.store import read_results, results_file

        asked = check_report(sections or (), threshold, width, as_json=as_json)
        if page is None:
            print_report(read_results(results_file(results)), asked)
            return
        from cpframe.commands.plot import write_page

        check_page(asked)
        typer.echo(write_page(read_results(results_file(results)), page, asked.threshold))


@app.command()
def plot(
    results: ResultsFile,
    figures: Annotated[
        Optional[list[FigureName]],  # noqa: UP045
        typer.Option(
            "--figure",
            metavar="NAME",
            help=f"A figure to draw: {', '.join(FigureName)}. Repeatable.  [default: all, where the data suffice]",
        ),
    ] = None,
    formats: Annotated[
        Optional[list[Format]],  # noqa: UP045
        typer.Option(
            "--format", metavar="FORMAT", help=f"A file format: {', '.join(Format)}. Repeatable.  [default: png]"
        ),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="Folder for the files.  [default: figures beside RESULTS]"),
    ] = None,
) -> None:
    """Draw a study's figures, one column wide, for a paper or a talk."""
    with _told():
        from cpframe.commands.plot import plot as plotted
        from cpframe.store import read_results, results_file

        file = results_file(results)
        folder = out or file.parent / "figures"
        for line in plotted(read_results(file), figures or ["all"], formats or ["png"], folder):
            typer.echo(line)


@app.command()
def export(
    results: ResultsFile,
    to: Annotated[
        ExportFormat,
        typer.Option("--to", metavar="FORMAT", help="csv, parquet (tables), netcdf (histories).", show_default=False),
    ],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="PATH", help="Folder, or netCDF file.  [default: beside RESULTS]", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write to an existing folder or file.")] = False,
) -> None:
    """Write a study's tables as CSV or Parquet, or its histories as one netCDF file."""
    with _told():
        from cpframe import open_results
        from cpframe.export.files import export as exported

        for line in exported(open_results(results), to, out, force=force):
            typer.echo(line)


@app.command()
def plugins() -> None:
    """List the components that the plugins installed offer, and the plugins that are broken."""
    with _told():
        from rich.console import Console

        from cpframe.commands.plugins import list_plugins
        from cpframe.plugins.discovery import discover

        catalogue = discover()
        list_plugins(catalogue, Console())
        if catalogue.broken or catalogue.clashes():
            raise typer.Exit(1)


bench = typer.Typer(help="Measure how fast this machine is.", no_args_is_help=True)
app.add_typer(bench, name="bench")


@bench.command("fisher")
def bench_fisher(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", metavar="DEVICE")] = "auto",
    images: Annotated[int, typer.Option(min=2, metavar="N", help="Images in a measurement.")] = 128,
    repeats: Annotated[int, typer.Option(min=1, metavar="N", help="Of which the median counts.")] = 3,
) -> None:
    """Time the Fisher trace of the paper's networks beside a plain forward and backward pass."""
    with _told():
        from rich.console import Console

        from cpframe.commands.bench import bench_fisher as timed
        from cpframe.plugins.discovery import discover

        timed(discover(), device, images, repeats, Console())


def main() -> None:
    """Run the command line."""
    try:
        app()
    except SystemExit as end:
        if any(thread.name.startswith("observer ") for thread in threading.enumerate()):
            # One was left behind: whatever its libraries would still wait for at exit, nobody else does.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        raise
