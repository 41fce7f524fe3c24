"""Discovery: entry points -> Catalogue. A broken plugin is a row in it, never a crash."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, get_args

import pluggy

from cpframe.errors import nearest
from cpframe.plugins import hookspecs as hooks
from cpframe.plugins.parameters import check_annotations

GROUP = "cpframe"
Kind = Literal["architecture", "dataset", "deficit", "optimizer", "metric", "observer"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Offer:
    """A component that a plugin offers.

    Attributes:
        kind: of component.
        name: after ``use =`` in a spec.
        package: the distribution that brought it.
        version: of that package.
        component: its frozen dataclass.
    """

    kind: Kind
    name: str
    package: str
    version: str
    component: type[Any]


@dataclass(frozen=True)
class Broken:
    """A plugin that cannot be used, or cannot be used in full.

    Attributes:
        plugin: the name of its entry point.
        package: the distribution that brought it.
        reason: why, in a line.
    """

    plugin: str
    package: str
    reason: str


@dataclass(frozen=True)
class Catalogue:
    """All that the plugins installed offer, and those that are broken, with their reason."""

    offers: tuple[Offer, ...]
    broken: tuple[Broken, ...]

    def find(self, kind: Kind, use: str) -> Offer:
        """Find a component by its name, or by ``package/name``.

        Raises:
            LookupError: nobody offers it (with the nearest name), or several packages do; a sentence for the user.
        """
        named: dict[str, list[Offer]] = {}
        for offer in self.offers:
            if offer.kind == kind:
                named.setdefault(offer.name, []).append(offer)
        package, slash, name = use.rpartition("/")
        matches = [offer for offer in named.get(name, []) if not slash or offer.package == package]
        if len(matches) == 1:
            return matches[0]
        if matches:
            packages = " and ".join(offer.package for offer in matches)
            ways = " or ".join(f"'{offer.package}/{name}'" for offer in matches)
            raise LookupError(f"{name!r} is offered by several packages, {packages}: write {ways}")
        known = [f"{offer.package}/{offer.name}" for offers in named.values() for offer in offers] if slash else named
        raise LookupError(f"{use!r} is not a known {kind}; {nearest(use, known)}{self._brokenness()}")

    def clashes(self) -> tuple[tuple[Kind, str, tuple[str, ...]], ...]:
        """Names that several packages offer: (kind, name, packages)."""
        packages: dict[tuple[Kind, str], list[str]] = {}
        for offer in self.offers:
            packages.setdefault((offer.kind, offer.name), []).append(offer.package)
        return tuple((*key, tuple(names)) for key, names in packages.items() if len(names) > 1)

    def _brokenness(self) -> str:
        if not self.broken:
            return ""
        return f" (broken plugins: {', '.join(dict.fromkeys(row.package for row in self.broken))}; see cpframe plugins)"


def discover(points: Iterable[EntryPoint] | None = None) -> Catalogue:
    """Load every plugin of the entry-point group ``cpframe`` and ask it for what it offers.

    Args:
        points: the entry points to load instead of those installed.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hooks)
    offers: dict[tuple[Kind, str, str], Offer] = {}
    broken: list[Broken] = []
    chosen = entry_points(group=GROUP) if points is None else points
    for point in sorted(chosen, key=lambda point: (_package(point), point.name)):
        try:
            found = {(offer.kind, offer.package, offer.name): offer for offer in _ask(manager, point)}
            for kind, _, name in found.keys() & offers.keys():
                raise TypeError(f"another plugin of this package offers the {kind} {name} already")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code: whatever it raises is its row
            reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...")
            broken.append(Broken(point.name, _package(point), reason))
        else:
            offers |= found
    return Catalogue(tuple(offers.values()), tuple(broken))


def _package(point: EntryPoint) -> str:
    return (point.dist.name if point.dist is not None else "") or re.split(r"[^\w-]", point.value)[0]


def _ask(manager: pluggy.PluginManager, point: EntryPoint) -> list[Offer]:
    """Load one plugin and collect its offers; raises whatever the plugin raises, and TypeError for what is no offer."""
    module = point.load()
    manager.register(module, name=f"{_package(point)}/{point.name}")
    known = [name for name in vars(hooks) if name.startswith("cpframe_")]
    for attribute in dir(module):
        options = manager.parse_hookimpl_opts(module, attribute)
        name = (options and options.get("specname")) or attribute
        if options is not None and name not in known:
            raise TypeError(f"{name} is not a hook; {nearest(name, known)}")
    version = (point.dist.version if point.dist is not None else "") or ""
    implementations = [
        (kind, hook.name, implementation.function)
        for kind, hook in _hooks(manager).items()
        for implementation in hook.get_hookimpls()
        if implementation.plugin is module
    ]
    if not implementations:
        raise TypeError(f"has no hook: a function named {', '.join(known[:-1])} or {known[-1]}, marked @hookimpl")
    return [
        Offer(kind, name, _package(point), version, component)
        for kind, hook, function in implementations
        for name, component in _sound(function(), hook).items()
    ]


def _hooks(manager: pluggy.PluginManager) -> dict[Kind, pluggy.HookCaller]:
    hook = manager.hook
    return {
        "architecture": hook.cpframe_architectures,
        "dataset": hook.cpframe_datasets,
        "deficit": hook.cpframe_deficits,
        "optimizer": hook.cpframe_optimizers,
        "metric": hook.cpframe_metrics,
        "observer": hook.cpframe_observers,
    }


def _sound(answer: object, hook: str) -> Mapping[str, type[Any]]:
    """Check what a hook returned: names and frozen dataclasses whose instances can be called, made from a spec."""
    if not isinstance(answer, Mapping):
        raise TypeError(f"{hook} should return a mapping of names to dataclasses, not {type(answer).__name__}")
    for name, component in answer.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise TypeError(f"{hook}: {name!r} should be lower-case words joined by hyphens")
        if not (isinstance(component, type) and dataclasses.is_dataclass(component)):
            raise TypeError(f"{hook}: {name} should be a frozen dataclass")
        if not component.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise TypeError(f"{hook}: {name} should be a frozen dataclass: @dataclass(frozen=True)")
        # a deficit that needs data is not called itself, see `api.DeficitWithData`
        job = "loaded" if hook == "cpframe_deficits" and hasattr(component, "loaded") else "__call__"
        if not any(job in vars(base) for base in component.__mro__):
            raise TypeError(f"{hook}: {name} has no __call__")
        if hook == "cpframe_optimizers" and not hasattr(component, "learning_rate"):
            raise TypeError(f"{hook}: {name} has no learning_rate")
        check_annotations(component)
    return answer
