"""``cpframe plugins``: the components of the installed plugins, by kind, and the plugins that are broken."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cpframe.plugins.discovery import Catalogue
from cpframe.plugins.kinds import KINDS
from cpframe.plugins.parameters import parameters


def list_plugins(catalogue: Catalogue, console: Console) -> None:
    """Print every component with its package and parameters, then clashes and broken plugins."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("kind", "name", "package", "parameters"):
        table.add_column(heading, overflow="fold")
    for kind in KINDS:
        for offer in sorted(catalogue.of_kind(kind), key=lambda offer: offer.name):
            names = ", ".join(parameters(offer.component))
            table.add_row(kind, offer.name, f"{offer.package} {offer.version}", names)
    console.print(table)
    for kind, name, packages in catalogue.clashes():
        ways = " or ".join(f"{package}/{name}" for package in packages)
        console.print(f"[yellow]clash:[/] the {kind} {name} is offered by {' and '.join(packages)}; write {ways}")
    for row in catalogue.broken:
        console.print(f"[red]broken:[/] {row.plugin} of {row.package}: {escape(row.reason)}", soft_wrap=True)
