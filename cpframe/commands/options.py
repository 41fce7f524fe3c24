"""The arguments and options that several commands share, as typer reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# A bracket in a help text is escaped, since rich would take it for markup.

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="TOML file of the study.", show_default=False)]
ResultsFile = Annotated[
    Path, typer.Argument(metavar="RESULTS", help="A results.h5, or the folder that contains it.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override one value of the spec, as in --set optimizer.lr=0.1. Repeatable."
    ),
]
Profile = Annotated[
    str | None, typer.Option(metavar="NAME", help=r"Apply the \[profiles.NAME] table of the spec.", show_default=False)
]
OutFolder = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder of the study, for results.h5.",
        show_default="runs/SPEC or runs/SPEC-PROFILE",
    ),
]
StoreFolder = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="DIR",
        help="Folder of the stages, which studies share.",
        show_default=".stages next to --out",
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="Folder of the data sets.", show_default="$CPFRAME_DATA, or the cache folder"
    ),
]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="Device: auto, cpu, cuda, cuda:1 or mps.")]


def _check_threshold(points: float) -> float:
    if not 0 <= points < 100:
        raise typer.BadParameter(f"must be at least 0 and below 100 percentage points, not {points:g}")
    return points


Threshold = Annotated[
    float,
    typer.Option(
        metavar="POINTS",
        callback=_check_threshold,
        help="The largest drop, in percentage points, that counts as recovered.",
    ),
]


def default_folder(name: str, profile: str | None) -> Path:
    """Return the folder of a study for which none was named."""
    return Path("runs") / (name if profile is None else f"{name}-{profile}")


def print_version(asked: bool) -> None:
    """Print the version and exit, if that was asked for."""
    if asked:
        from importlib.metadata import version

        typer.echo(f"cpframe {version('cpframe')}")
        raise typer.Exit
