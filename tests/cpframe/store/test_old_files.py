"""A results file of cpframe 0.1.0 is read with its quantities and idle controls, and every command shows it."""

import gzip
from pathlib import Path

import pytest

from cpframe.analysis.findings import Findings
from cpframe.records.model import FISHER_TRACE, FISHER_VARIATIONAL, GRADIENT_MEAN, GRADIENT_STD
from cpframe.store import read_results
from cpframe.testing import run_command

GOLDEN = Path(__file__).parent / "golden" / "results-0.1.0.h5.gz"
PLOT, EXPORT = pytest.mark.needs_extra("plot"), pytest.mark.needs_extra("export")


@pytest.fixture(scope="module")
def old_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("old") / "results.h5"
    path.write_bytes(gzip.decompress(GOLDEN.read_bytes()))
    return path


def test_quantities_and_idle_controls_are_recognised(old_file: Path) -> None:
    study = read_results(old_file)
    assert study.deficits == {"blur": "cpframe/blur", "rest": "cpframe/idle"}
    assert study.idle == {"rest"}
    quantities = {name: one.quantity for name, one in study.trajectories[0].history.metrics.items()}
    assert quantities == {
        "f": FISHER_TRACE,
        "f-scaled": "",
        "f-share": "",
        "v": FISHER_VARIATIONAL,
        "g-mean": GRADIENT_MEAN,
        "g-std": GRADIENT_STD,
    }
    findings = Findings(study)
    assert list(findings.fisher) == ["f", "v"]
    assert {claim.deficit for claim in findings.claims} == {"blur"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("report",), "A results file of cpframe 0.1.0"),
        (("report", "--json"), '"idle'),
        pytest.param(
            ("plot", "--figure", "removal", "--figure", "gradients", "--out", "figures"), "removal.png", marks=PLOT
        ),
        pytest.param(("report", "--html", "page.html"), "page.html", marks=PLOT),
        pytest.param(("export", "--to", "csv", "--out", "tables"), "trajectories.csv", marks=EXPORT),
        pytest.param(("export", "--to", "netcdf", "--out", "all.nc"), "all.nc", marks=EXPORT),
    ],
)
def test_every_command_shows_it(words: tuple[str, ...], expected: str, old_file: Path, tmp_path: Path) -> None:
    done = run_command(words[0], old_file, *words[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
