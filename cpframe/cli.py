"""The command line. Heavy packages are imported inside the commands, so that ``--help`` is quick."""

from __future__ import annotations

import gc
import os
import sys
from enum import StrEnum
from pathlib import Path
from threading import Thread
from typing import Annotated

import typer

from cpframe.commands.error_output import report_errors
from cpframe.commands.options import (
    DataFolder,
    Device,
    OutFolder,
    Overrides,
    Profile,
    ResultsFile,
    SpecFile,
    StoreFolder,
    Threshold,
    default_folder,
    print_version,
)
from cpframe.export import Format as ExportFormat
from cpframe.report.figures import FIGURES
from cpframe.report.figures import Format as FigureFormat
from cpframe.report.sections import describe_sections, section_names
from cpframe.report.terminal import NARROWEST, WIDEST

# The choices of these options are made from the lists of sections and figures.
SectionName = StrEnum("SectionName", [(name, name) for name in section_names()])  # type: ignore[misc]
FigureName = StrEnum("FigureName", [(name, name) for name in (*(figure.name for figure in FIGURES), "all")])  # type: ignore[misc]

app = typer.Typer(
    help="Find, measure and explain critical learning periods in neural networks.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
bench = typer.Typer(help="Measure the speed of this machine.", no_args_is_help=True)
app.add_typer(bench, name="bench", rich_help_panel="Machine")


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Find, measure and explain critical learning periods in neural networks."""


@app.command(
    rich_help_panel="Study",
    epilog="Example: cpframe run specs/flip_vs_blur.toml --profile cpu --set optimizer.lr=0.1",
)
def run(
    context: typer.Context,
    spec: SpecFile,
    profile: Profile = None,
    overrides: Overrides = None,
    out: OutFolder = None,
    store: StoreFolder = None,
    data: DataFolder = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Number of workers.", show_default="one per CPU core, or one per GPU"),
    ] = None,
    executor: Annotated[
        str,
        typer.Option(
            metavar="WHERE", help="Where stages are trained: auto, inline, processes, ray or ray://HOST:PORT."
        ),
    ] = "auto",
    device: Device = "auto",
    keep_states: Annotated[
        bool, typer.Option("--keep-states", help="Keep the weights at the end of every stage in the store.")
    ] = False,
) -> None:
    """Train everything that a spec asks for, then report. Complete stages are not trained again."""
    with report_errors() as check:
        from cpframe.plugins.discovery import discover
        from cpframe.spec.reader import read_spec

        checked = read_spec(spec, discover(), profile, overrides or ())
        from cpframe.commands.report import Report
        from cpframe.commands.run import notes_console, print_outcome  # imports torch: only once the spec is sound
        from cpframe.commands.run import run as run_spec
        from cpframe.execution.workspace import RunOptions

        options = RunOptions(
            out=out or default_folder(checked.document.name, profile),
            store=store,
            data=data,
            device=device,
            workers=workers,
            executor=executor,
            keep_states=keep_states,
        )
        console = notes_console()
        outcome = run_spec(checked, options, console, [] if context.obj is None else context.obj, check)
        Report(outcome.record).print()
        print_outcome(outcome, console)
        if outcome.failures:
            raise typer.Exit(1)


@app.command(rich_help_panel="Study", epilog="Example: cpframe plan specs/removal_curve.toml --workers 8")
def plan(
    spec: SpecFile,
    profile: Profile = None,
    overrides: Overrides = None,
    out: OutFolder = None,
    store: StoreFolder = None,
    data: DataFolder = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Number of workers to assume.", show_default="as many as run would start"
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Show the stages of a study, which of them are complete, and the time and disk space that the others need."""
    with report_errors():
        from cpframe.plugins.discovery import discover
        from cpframe.spec.reader import read_spec

        checked = read_spec(spec, discover(), profile, overrides or ())
        from rich.console import Console

        from cpframe.commands.plan import plan_study  # imports torch: only once the spec is sound
        from cpframe.execution.workspace import RunOptions

        folder = out or default_folder(checked.document.name, profile)
        options = RunOptions(out=folder, store=store, data=data, device=device, workers=workers)
        Console(highlight=False).print(plan_study(checked, options))


@app.command(
    rich_help_panel="Results",
    epilog="Example: cpframe report runs/flip_vs_blur --section verdict --section phases",
)
def report(
    results: ResultsFile,
    sections: Annotated[
        list[SectionName] | None,
        typer.Option(
            "--section",
            metavar="NAME",
            help=f"Print one section, in full. Repeatable.\n\n{describe_sections()}\n\n",
            show_default="all, abridged",
        ),
    ] = None,
    threshold: Threshold = 1.0,
    width: Annotated[
        int | None,
        typer.Option(min=NARROWEST, max=WIDEST, metavar="N", help="Width in columns.", show_default="the terminal's"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead, for programs.")] = False,
    page: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one self-contained HTML page instead.")
    ] = None,
) -> None:
    """Report on a study: verdicts first, then accuracy, Fisher information and its phases, and controls."""
    with report_errors():
        _refuse_unused({"--section": sections, "--width": width, "--json": as_json} if page else {}, "--html")
        _refuse_unused({"--width": width} if as_json else {}, "--json")
        from cpframe.commands.report import Report
        from cpframe.store import read_results, results_file

        made = Report(read_results(results_file(results)), tuple(one.value for one in sections or ()), threshold)
        if page is not None:
            typer.echo(made.write_html(page))
        elif as_json:
            typer.echo(made.to_json())
        else:
            made.print(width)


def _refuse_unused(given: dict[str, object], other: str) -> None:
    """Refuse options that have no effect together with another one."""
    unused = [option for option, value in given.items() if value]
    if unused:
        raise typer.BadParameter(f"has no effect with {other}; leave one of them out", param_hint=" and ".join(unused))


@app.command(rich_help_panel="Results", epilog="Example: cpframe plot runs/flip_vs_blur --figure removal --format pdf")
def plot(
    results: ResultsFile,
    figures: Annotated[
        list[FigureName] | None,
        typer.Option(
            "--figure",
            metavar="NAME",
            help=f"Figure to draw: {', '.join(FigureName)}. Repeatable.",
            show_default="all that the study has data for",
        ),
    ] = None,
    formats: Annotated[
        list[FigureFormat] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help=f"File format: {', '.join(FigureFormat)}. Repeatable.",
            show_default="png",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for the files.", show_default="figures next to RESULTS"),
    ] = None,
) -> None:
    """Draw the figures of a study, one column wide, for a paper or a talk."""
    with report_errors():
        from cpframe.commands.plot import plot as draw_files
        from cpframe.store import read_results, results_file

        names = [one.value for one in figures or ()] or ["all"]
        forms = [one.value for one in formats or ()] or ["png"]
        file = results_file(results)
        for line in draw_files(read_results(file), names, forms, out or file.parent / "figures"):
            typer.echo(line)


@app.command(rich_help_panel="Results", epilog="Example: cpframe export runs/flip_vs_blur --to parquet")
def export(
    results: ResultsFile,
    to: Annotated[
        ExportFormat,
        typer.Option("--to", help="csv or parquet for tables, netcdf for histories.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="PATH", help="Folder for tables, or netCDF file.", show_default="next to RESULTS"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what an earlier export wrote.")] = False,
) -> None:
    """Write the tables of a study as CSV or Parquet, or its histories as one netCDF file."""
    with report_errors():
        from cpframe import open_results
        from cpframe.export.files import export as write_files

        for line in write_files(open_results(results), to, out, force=force):
            typer.echo(line)


@app.command(rich_help_panel="Plugins", epilog="Example: cpframe plugins")
def plugins() -> None:
    """List the components of the installed plugins, and the plugins that are broken."""
    with report_errors():
        from rich.console import Console

        from cpframe.commands.plugins import list_plugins
        from cpframe.plugins.discovery import discover

        catalogue = discover()
        list_plugins(catalogue, Console())
        if catalogue.broken or catalogue.clashes():
            raise typer.Exit(1)


@bench.command("fisher", epilog="Example: cpframe bench fisher --images 256 --repeats 5")
def bench_fisher(
    device: Device = "auto",
    images: Annotated[int, typer.Option(min=2, metavar="N", help="Images per measurement.")] = 128,
    repeats: Annotated[int, typer.Option(min=1, metavar="N", help="Measurements, of which the median counts.")] = 3,
) -> None:
    """Time the Fisher trace of the paper's networks against a plain forward and backward pass."""
    with report_errors():
        from rich.console import Console

        from cpframe.commands.bench import bench_fisher as time_fisher
        from cpframe.plugins.discovery import discover

        time_fisher(discover(), device, images, repeats, Console())


def main() -> None:
    """Run the command line."""
    gc.set_threshold(50_000, 20)  # collections while modules are imported take a tenth of a short command's time
    abandoned: list[Thread] = []
    try:
        app(obj=abandoned)
    except SystemExit as end:
        if abandoned:
            # At exit, the libraries of an abandoned observer might wait for a server: end without them.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        raise
