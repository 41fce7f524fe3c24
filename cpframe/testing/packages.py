"""A plugin package, as pip installs one."""

from __future__ import annotations

from importlib.metadata import Distribution, EntryPoint
from pathlib import Path


def write_package(folder: Path, package: str, version: str = "1.0", **sources: str) -> list[EntryPoint]:
    """Write a package with plugins into a folder, as pip installs one: modules and a ``.dist-info`` folder.

    cpframe finds the plugins when the folder is on the module path: on ``sys.path`` in this process, in ``PYTHONPATH``
    for others.

    Args:
        folder: an existing folder.
        package: the name of the package.
        version: the version of the package.
        sources: the Python source of each plugin, by the name of its entry point. Its module is called
            ``PACKAGE_NAME``, with underscores for the hyphens of the package.

    Returns:
        The entry points of the package, in the order of `sources`.
    """
    prefix = package.replace("-", "_")
    metadata = folder / f"{prefix}-{version}.dist-info"
    metadata.mkdir()
    for name, source in sources.items():
        (folder / f"{prefix}_{name}.py").write_text(source, encoding="utf-8")
    points = [f"{name} = {prefix}_{name}" for name in sources]
    (metadata / "entry_points.txt").write_text("\n".join(["[cpframe]", *points]), encoding="utf-8")
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    return list(Distribution.at(metadata).entry_points)
