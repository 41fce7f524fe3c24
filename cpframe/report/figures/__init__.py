"""Figures of a study, drawn by matplotlib: an extra, imported by the modules in here alone."""

from typing import Literal

Format = Literal["png", "svg", "pdf"]

FIGURES = ("removal", "sensitivity", "fisher", "layers", "gradients", "filters", "link")
"""Their names, in the order in which they are shown."""

FORMATS: tuple[Format, ...] = ("png", "svg", "pdf")
"""Of the files that they can be saved as."""
