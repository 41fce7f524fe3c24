"""Discovery: entry points -> `Catalogue`. A broken plugin becomes a row of the catalogue and stops nothing else."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

import pluggy

from cpframe.api import DeficitWithData
from cpframe.errors import nearest
from cpframe.plugins import hookspecs
from cpframe.plugins.kinds import DEFICIT, KINDS, OPTIMIZER, K_co, Kind
from cpframe.plugins.parameters import check_annotations
from cpframe.plugins.source_digest import source_digest

GROUP = "cpframe"
"""The entry-point group of plugins."""
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
K = TypeVar("K")


@dataclass(frozen=True)
class Offer(Generic[K_co]):
    """A component that a plugin offers.

    Attributes:
        kind: the component kind.
        name: the name after ``use =`` in a spec.
        package: the distribution that contains the plugin.
        version: the version of the distribution.
        component: the frozen dataclass.
    """

    kind: Kind[K_co]
    name: str
    package: str
    version: str
    component: type[K_co]


@dataclass(frozen=True)
class Broken:
    """A plugin that cannot be used.

    Attributes:
        plugin: the name of the entry point.
        package: the distribution that contains the plugin.
        reason: one line that says why.
    """

    plugin: str
    package: str
    reason: str


@dataclass(frozen=True)
class Catalogue:
    """The components of all installed plugins, and the plugins that are broken."""

    offers: tuple[Offer[Any], ...]
    broken: tuple[Broken, ...]

    def of_kind(self, kind: Kind[K]) -> tuple[Offer[K], ...]:
        """Return the offers of one kind."""
        return tuple(offer for offer in self.offers if offer.kind == kind)

    def find(self, kind: Kind[K], use: str) -> Offer[K]:
        """Find a component by its name, or by ``package/name``.

        Raises:
            LookupError: when no package offers it, or several do; the message is meant for the user.
        """
        offers = self.of_kind(kind)
        package, slash, name = use.rpartition("/")
        matches = [offer for offer in offers if offer.name == name and (not slash or offer.package == package)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            packages = " and ".join(offer.package for offer in matches)
            choices = " or ".join(f"'{offer.package}/{name}'" for offer in matches)
            raise LookupError(f"{name!r} is offered by several packages, {packages}: write {choices}")
        known = {f"{offer.package}/{offer.name}" if slash else offer.name for offer in offers}
        raise LookupError(f"unknown {kind} {use!r}; {nearest(use, known, f'{kind}s')}{self._mention_broken()}")

    def clashes(self) -> tuple[tuple[Kind[Any], str, tuple[str, ...]], ...]:
        """Return the names that several packages offer: (kind, name, packages)."""
        packages: dict[tuple[Kind[Any], str], list[str]] = {}
        for offer in self.offers:
            packages.setdefault((offer.kind, offer.name), []).append(offer.package)
        return tuple((*key, tuple(names)) for key, names in packages.items() if len(names) > 1)

    def _mention_broken(self) -> str:
        if not self.broken:
            return ""
        return f" (broken plugins: {', '.join(dict.fromkeys(row.package for row in self.broken))}; see cpframe plugins)"


def discover(points: Iterable[EntryPoint] | None = None) -> Catalogue:
    """Load every plugin of the entry-point group ``cpframe`` and collect its components.

    Args:
        points: the entry points to load; None for all that are installed.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    offers: dict[tuple[Kind[Any], str, str], Offer[Any]] = {}
    broken: list[Broken] = []
    chosen = entry_points(group=GROUP) if points is None else points
    for point in sorted(chosen, key=lambda point: (_package(point), point.name)):
        try:
            found = {(offer.kind, offer.package, offer.name): offer for offer in _load_offers(manager, point)}
            for kind, _, name in found.keys() & offers.keys():
                raise TypeError(f"another plugin of this package already offers the {kind} {name}")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything, and must stop nothing else
            reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...")
            broken.append(Broken(point.name, _package(point), reason))
        else:
            offers |= found
    return Catalogue(tuple(offers.values()), tuple(broken))


def _package(point: EntryPoint) -> str:
    return (point.dist.name if point.dist is not None else "") or re.split(r"[^\w-]", point.value)[0]


def _load_offers(manager: pluggy.PluginManager, point: EntryPoint) -> list[Offer[Any]]:
    """Load one plugin and collect its components; raises whatever the plugin raises, and TypeError for a bad offer."""
    module = point.load()
    manager.register(module, name=f"{_package(point)}/{point.name}")
    known = [kind.hook for kind in KINDS]
    for attribute in dir(module):
        options = manager.parse_hookimpl_opts(module, attribute)
        name = (options and options.get("specname")) or attribute
        if options is not None and name not in known:
            raise TypeError(f"unknown hook {name}; {nearest(name, known, 'hooks')}")
    version = (point.dist.version if point.dist is not None else "") or ""
    implementations = [
        (kind, implementation.function)
        for kind in KINDS
        for implementation in getattr(manager.hook, kind.hook).get_hookimpls()
        if implementation.plugin is module
    ]
    if not implementations:
        raise TypeError(
            f"the plugin has no hook: define {', '.join(known[:-1])} or {known[-1]}, and mark it with @hookimpl"
        )
    offers = [
        Offer(kind, name, _package(point), version, component)
        for kind, function in implementations
        for name, component in _validate_components(kind, function()).items()
    ]
    for offer in offers:
        source_digest(offer.component.__module__)  # of the code that was imported, before anybody edits it
    return offers


def _validate_components(kind: Kind[Any], components: object) -> Mapping[str, type[Any]]:
    """Check the return value of a hook: names, and frozen dataclasses that can be built from a spec and called."""
    hook = kind.hook
    if not isinstance(components, Mapping):
        raise TypeError(f"{hook} must return a mapping of names to dataclasses, not {type(components).__name__}")
    for name, component in components.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise TypeError(f"{hook}: the name {name!r} must be lower-case words joined by hyphens")
        if not (isinstance(component, type) and dataclasses.is_dataclass(component)):
            raise TypeError(f"{hook}: {name} must be a frozen dataclass")
        if not component.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise TypeError(f"{hook}: {name} must be a frozen dataclass: @dataclass(frozen=True)")
        has_data = kind == DEFICIT and issubclass(component, DeficitWithData)
        method = "loaded" if has_data else "__call__"
        if not any(method in vars(base) for base in component.__mro__):
            raise TypeError(f"{hook}: {name} has no method {method}")
        if kind == OPTIMIZER and not hasattr(component, "learning_rate"):
            raise TypeError(f"{hook}: {name} has no method learning_rate")
        check_annotations(component)
    return components
