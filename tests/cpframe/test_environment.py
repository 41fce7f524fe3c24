"""The folders that cpframe uses on this machine."""

from pathlib import Path

import platformdirs
import pytest
from platformdirs.macos import MacOS
from platformdirs.unix import Unix

from cpframe import environment
from cpframe.environment import cache_folder, data_folder


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_CACHE_HOME", "CPFRAME_DATA"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(("system", "path"), [(Unix, ".cache/cpframe"), (MacOS, "Library/Caches/cpframe")])
def test_the_cache_folder_is_that_of_the_platform(system, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platformdirs, "PlatformDirs", system)
    assert cache_folder() == Path.home() / path


def test_xdg_cache_home_moves_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platformdirs, "PlatformDirs", Unix)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "cpframe"
    assert not cache_folder().exists()
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == Path.home() / ".cache" / "cpframe"


def test_data_sets_are_in_the_chosen_folder_else_the_variables_else_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "cache_folder", lambda: Path("cache"))
    assert data_folder(None) == Path("cache")
    monkeypatch.setenv("CPFRAME_DATA", "variable")
    assert data_folder(None) == Path("variable")
    assert data_folder(Path("chosen")) == Path("chosen")
