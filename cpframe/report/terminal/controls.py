"""The section on controls: what idle explains, and which controls are missing."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cpframe.analysis.confounds import Confound, ConfoundKind
from cpframe.analysis.statistics import ENOUGH_SEEDS
from cpframe.report.formatting import percent, shorten
from cpframe.report.terminal.layout import Page, heading, in_lines, name_with_look, note
from cpframe.report.variant_names import variant_label

_WORDS: dict[ConfoundKind, str] = {
    "idle reproduces the curve": "YES: idle loses as much",
    "partly": "in part",
    "not": "no",
    "undecided": "undecided: the interval is too wide",
    "no drop": "nothing to explain: no loss over the curve",
    "no idle": "unknown: the rate changes and there is no idle control",
    "rates match": "no: the clean epochs run at the rates of no deficit",
    "unknown yet": "unknown yet: no clean epoch after the deficit is recorded",
    "not enough seeds": f"fewer than {ENOUGH_SEEDS} seeds have both",
}


def controls_section(page: Page) -> Iterator[RenderableType]:
    """Whether lost training explains a removal curve, and the controls that the claims of the study still lack."""
    yield heading(page, "Controls", {})
    if page.findings.confounds:
        yield Text("Does lost training alone (idle, the same learning rates) explain the removal curve?", "italic")
        answers: dict[str, list[Text]] = {}
        for confound in page.findings.confounds:
            name = name_with_look(page, confound.deficit, shorten(confound.deficit, 16))
            answers.setdefault(idle_words(confound), []).append(name)
        for answer, names in answers.items():
            yield in_lines([*names, Text(answer)], page.width)
        if any(confound.at for confound in page.findings.confounds):
            yield note(
                "Fraction: idle's loss over the deficit's, each averaged over the epochs of removal (95%, Fieller)."
            )
        yield Text()
    missing = page.findings.missing_controls
    if not missing:
        yield Text("Missing: none that this report knows of")
        return
    yield Text("Missing", "italic")
    table = Table.grid(padding=(0, 1))
    for control in missing:
        table.add_row("▸", Text.assemble((control.what, "bold"), ": ", control.why))
    yield table


def idle_words(confound: Confound) -> str:
    """Whether idle explains the curve, in words, and the variant."""
    more = confound.kind == "idle reproduces the curve" and confound.fraction.low > 1
    text = "YES: idle loses more" if more else _WORDS[confound.kind]
    if confound.at and confound.kind != "no drop":
        fraction = confound.fraction
        text += f"; {fraction.mean:.0%} of it ({fraction.low:.0%} to {fraction.high:.0%})"
        text += f", {percent(confound.idle.mean)} of {percent(confound.drop.mean)} points"
    label = variant_label(confound.group.variant)
    return f"{text} ({label})" if label else text
