"""Discovery: the components of plugins, broken plugins, which stop nothing else, and the components of a name."""

import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch

from cpframe.api import Batch
from cpframe.errors import SpecError
from cpframe.plan.identity import canonical, component_facts
from cpframe.plugins.discovery import KINDS, Broken, Catalogue, discover
from cpframe.spec.reader import read_spec
from cpframe.testing import write_package

FOG = '''
"""Fog: wash the stimulus towards grey, as an opaque cornea does."""
from dataclasses import dataclass
import torch
from cpframe.api import Batch, Deficits, Fraction, Generator, hookimpl

@dataclass(frozen=True)
class Fog:
    """Blend each image towards its own mean."""
    density: Fraction = 0.8

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        grey = batch.inputs.mean(dim=(-3, -2, -1), keepdim=True)
        return batch._replace(inputs=torch.lerp(batch.inputs, grey, self.density))

@hookimpl
def cpframe_deficits() -> Deficits:
    return {"fog": Fog}
'''

PLAIN = """
from dataclasses import dataclass
from typing import Literal
from cpframe.api import hookimpl

@dataclass(frozen=True)
class Plain:
    n: int = 1
    def __call__(self, *given): return given
"""

TABLES = (
    PLAIN
    + """
@dataclass(frozen=True)
class A:
    {a}

@dataclass(frozen=True)
class B:
    {b}

@dataclass(frozen=True)
class Both:
    of: A | B = A()
    def __call__(self): pass

@hookimpl
def cpframe_metrics(): return {{"both": Both}}
"""
)

SPEC = """\
dataset.use = "digits"
architecture.use = "mlp"
optimizer.use = "sgd"
deficits.fog = { use = "fog", density = 0.25 }
protocols = [{ use = "removal", until = [1], recovery = 5 }]
"""

Installer = Callable[..., list[EntryPoint]]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installer]:
    """Install packages, as pip would: modules and a .dist-info folder in a folder of the module path."""
    modules = []
    monkeypatch.syspath_prepend(tmp_path)

    def install(package: str, version: str = "1.0", metadata: bool = True, **sources: str) -> list[EntryPoint]:
        """One package with one plugin for each source; returns its entry points."""
        points = write_package(tmp_path, package, version, **sources)
        modules.extend(point.module for point in points)
        if not metadata:
            (tmp_path / f"{package.replace('-', '_')}-{version}.dist-info" / "METADATA").unlink()
        return points

    yield install
    for module in modules:
        sys.modules.pop(module, None)


def offered(catalogue: Catalogue) -> list[tuple[str, str, str, str]]:
    return [(offer.kind, offer.name, offer.package, offer.version) for offer in catalogue.offers]


def test_the_bundled_plugins() -> None:
    catalogue = discover()
    assert catalogue.broken == ()
    assert catalogue.clashes() == ()
    assert {offer.kind for offer in catalogue.offers} == set(KINDS)
    assert {offer.package for offer in catalogue.offers} == {"cpframe"}
    found = catalogue.find("deficit", "blur")
    assert catalogue.find("deficit", "cpframe/blur") is found
    assert found.component(size=3).size == 3


def test_a_package_that_is_installed_is_found_and_used(installed: Installer, tmp_path: Path) -> None:
    """The example of the documentation, as a package of its own, from installation to a spec to a batch."""
    installed("fog-plugin", "1.2", fog=FOG)
    catalogue = discover()
    assert catalogue.broken == ()
    assert ("deficit", "fog", "fog-plugin", "1.2") in offered(catalogue)

    (tmp_path / "s.toml").write_text(SPEC)
    fog = read_spec(tmp_path / "s.toml", catalogue).variants[0].deficits["fog"]
    facts = component_facts(fog)
    source = facts["source"]
    assert source  # of its file
    assert canonical(facts) == {
        "use": "fog-plugin/fog",
        "version": "1.2",
        "source": source,
        "parameters": {"density": 0.25},
    }
    rng = np.random.default_rng(0)
    inputs = rng.random((3, 2, 4, 5), dtype=np.float32)
    batch = Batch(torch.from_numpy(inputs.copy()), torch.zeros(3, dtype=torch.int64), torch.arange(3), 10)
    expected = [0.75 * image + 0.25 * image.mean() for image in inputs]
    # float32: a few units in the last place of numbers below 1
    np.testing.assert_allclose(fog.call(batch, rng).inputs.numpy(), expected, atol=1e-6)

    (tmp_path / "s.toml").write_text(SPEC.replace("0.25", "1.25"))
    with pytest.raises(SpecError, match=r"s\.toml:4: deficits\.fog\.density: must be at most 1, not 1\.25$"):
        read_spec(tmp_path / "s.toml", catalogue)


BROKEN = {
    "no module of that name": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'$"),
    "no Python": ("def :", "SyntaxError: invalid syntax"),
    "raises on import": ("raise RuntimeError('two\\n  lines')", "RuntimeError: two lines$"),
    "leaves on import": ("import sys; sys.exit('bye')", "SystemExit: bye$"),
    "the hook raises": (
        PLAIN + "@hookimpl\ndef cpframe_metrics(): raise KeyError('oh')",
        "KeyError: 'oh'$",
    ),
    "the hook returns a list": (
        PLAIN + "@hookimpl\ndef cpframe_metrics(): return [Plain]",
        "TypeError: cpframe_metrics must return a mapping of names to dataclasses, not list$",
    ),
    "the hook returns nothing": (
        PLAIN + "@hookimpl\ndef cpframe_metrics(): pass",
        "TypeError: cpframe_metrics must return a mapping of names to dataclasses, not NoneType$",
    ),
    "an instance, not its class": (
        PLAIN + "@hookimpl\ndef cpframe_metrics(): return {'plain': Plain()}",
        "TypeError: cpframe_metrics: plain must be a frozen dataclass$",
    ),
    "no dataclass": (
        PLAIN + "class Bare:\n    def __call__(self): pass\n@hookimpl\ndef cpframe_metrics(): return {'bare': Bare}",
        "TypeError: cpframe_metrics: bare must be a frozen dataclass$",
    ),
    "not frozen": (
        PLAIN + "@dataclass\nclass Soft:\n    def __call__(self): pass\n"
        "@hookimpl\ndef cpframe_metrics(): return {'soft': Soft}",
        r"TypeError: cpframe_metrics: soft must be a frozen dataclass: @dataclass\(frozen=True\)$",
    ),
    "cannot be called": (
        PLAIN + "@dataclass(frozen=True)\nclass Still:\n    n: int = 1\n"
        "@hookimpl\ndef cpframe_metrics(): return {'still': Still}",
        "TypeError: cpframe_metrics: still has no method __call__$",
    ),
    "a deficit that can neither be called nor loaded": (
        PLAIN + "@dataclass(frozen=True)\nclass Still:\n    n: int = 1\n"
        "@hookimpl\ndef cpframe_deficits(): return {'still': Still}",
        "TypeError: cpframe_deficits: still has no method __call__$",
    ),
    "data loaded by what is no deficit": (
        PLAIN + "@dataclass(frozen=True)\nclass Still:\n    def loaded(self, folder): return self\n"
        "@hookimpl\ndef cpframe_metrics(): return {'still': Still}",
        "TypeError: cpframe_metrics: still has no method __call__$",
    ),
    "an optimizer without a schedule": (
        PLAIN + "@hookimpl\ndef cpframe_optimizers(): return {'plain': Plain}",
        "TypeError: cpframe_optimizers: plain has no method learning_rate$",
    ),
    "capitals in the name": (
        PLAIN + "@hookimpl\ndef cpframe_metrics(): return {'Plain': Plain}",
        "TypeError: cpframe_metrics: the name 'Plain' must be lower-case words joined by hyphens$",
    ),
    "a slash in the name": (
        PLAIN + "@hookimpl\ndef cpframe_metrics(): return {'a/b': Plain}",
        "TypeError: cpframe_metrics: the name 'a/b' must be lower-case words joined by hyphens$",
    ),
    "a number for a name": (
        PLAIN + "@hookimpl\ndef cpframe_metrics(): return {1: Plain}",
        "TypeError: cpframe_metrics: the name 1 must be lower-case words joined by hyphens$",
    ),
    "a misspelt hook": (
        PLAIN + "@hookimpl\ndef cpframe_metric(): return {'plain': Plain}",
        r"TypeError: unknown hook cpframe_metric; did you mean 'cpframe_metrics'\? "
        r"Known hooks: 'cpframe_architectures', .*$",
    ),
    "a hook that is not marked": (
        PLAIN + "def cpframe_metrics(): return {'plain': Plain}",
        "TypeError: the plugin has no hook: define cpframe_architectures, .* or cpframe_observers, "
        "and mark it with @hookimpl$",
    ),
    "a hook that wants arguments": (
        PLAIN + "@hookimpl\ndef cpframe_metrics(spec): return {'plain': Plain}",
        r"PluginValidationError: .*cpframe_metrics.*spec",
    ),
    "an annotation that is not there at run time": (
        "from __future__ import annotations\n" + PLAIN.replace("n: int", "n: Path")
        + "@hookimpl\ndef cpframe_metrics(): return {'plain': Plain}",
        "NameError: name 'Path' is not defined",
    ),
    "a parameter that no spec can give": (
        PLAIN.replace("n: int", "n: type(hookimpl)") + "@hookimpl\ndef cpframe_metrics(): return {'plain': Plain}",
        r"TypeError: Plain\.n: no value of a spec can have the type <class '.*HookimplMarker'>$",
    ),
    "tables that cannot be told apart": (
        TABLES.format(a="n: int = 1", b="m: int = 1"),
        r"TypeError: Both\.of: every dataclass of a union needs a distinct field `use: Literal\[\"...\"\]`$",
    ),
    "tables of which one has no name": (
        TABLES.format(a="use: Literal['a'] = 'a'", b="m: int = 1"),
        r"TypeError: Both\.of: every dataclass of a union needs a distinct field `use: Literal\[\"...\"\]`$",
    ),
    "tables of one name": (
        TABLES.format(a="use: Literal['a'] = 'a'", b="use: Literal['a'] = 'a'"),
        r"TypeError: Both\.of: every dataclass of a union needs a distinct field `use: Literal\[\"...\"\]`$",
    ),
    "a table with a parameter that no spec can give": (
        TABLES.format(a="use: Literal['a'] = 'a'", b="use: Literal['b'] = 'b'\n    m: type(hookimpl) = 1"),
        r"TypeError: B\.m: no value of a spec can have the type <class '.*HookimplMarker'>$",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_a_row_and_stops_nothing_else(source: str, reason: str, installed: Installer) -> None:
    # one before it by the order of names and one after it, and one of the same package
    points = [
        *installed("a-package", "1.0", fog=FOG),
        *installed("broken-package", "0.3", bad=source, good=FOG.replace('"fog"', '"mist"')),
        *installed("c-package", "2.0", fog=FOG.replace('"fog"', '"haze"')),
    ]
    catalogue = discover(points)
    assert offered(catalogue) == [
        ("deficit", "fog", "a-package", "1.0"),
        ("deficit", "mist", "broken-package", "0.3"),
        ("deficit", "haze", "c-package", "2.0"),
    ]
    (row,) = catalogue.broken
    assert (row.plugin, row.package) == ("bad", "broken-package")
    assert re.match(reason, row.reason), row.reason
    assert len(row.reason) <= 300


def test_an_entry_point_to_nothing(installed: Installer) -> None:
    (point,) = installed("fog-plugin", fog=FOG)
    lost = EntryPoint("lost", "no_such_module", "cpframe")
    wrong = EntryPoint("wrong", f"{point.value}:no_such_name", "cpframe")
    garbled = EntryPoint("garbled", "? 3", "cpframe")
    catalogue = discover([lost, wrong, garbled, point])
    assert [offer.name for offer in catalogue.offers] == ["fog"]
    # without a package, the name of the module is used
    assert {(row.plugin, row.package) for row in catalogue.broken} == {
        ("lost", "no_such_module"),
        ("wrong", "fog_plugin_fog"),
        ("garbled", ""),
    }


def test_a_package_without_metadata_is_found(installed: Installer) -> None:
    points = installed("fog-plugin", metadata=False, fog=FOG) + installed("other", other=FOG.replace('"fog"', '"haze"'))
    assert {(offer.name, offer.package, offer.version) for offer in discover(points).offers} == {
        ("fog", "fog_plugin_fog", ""),
        ("haze", "other", "1.0"),
    }


def test_hooks_may_have_other_names_and_live_in_objects(installed: Installer) -> None:
    renamed = PLAIN + "@hookimpl(specname='cpframe_metrics')\ndef ours(): return {'plain': Plain}\n"
    nested = (
        PLAIN + "class Space:\n    @hookimpl\n    def cpframe_metrics(self): return {'nested': Plain}\nspace = Space()"
    )
    points = installed("one", one=renamed)
    (point,) = installed("two", two=nested)
    points.append(EntryPoint("two", f"{point.value}:space", "cpframe"))
    catalogue = discover(points)
    assert catalogue.broken == ()
    assert [(offer.kind, offer.name) for offer in catalogue.offers] == [("metric", "plain"), ("metric", "nested")]


def test_a_plugin_may_offer_several_kinds_or_nothing_at_all(installed: Installer) -> None:
    both = (
        FOG + "\n@hookimpl\ndef cpframe_metrics(): return {'fog': Fog}\n@hookimpl\ndef cpframe_datasets(): return {}\n"
    )
    catalogue = discover(
        installed("both", both=both) + installed("none", none=PLAIN + "@hookimpl\ndef cpframe_metrics(): return {}")
    )
    assert catalogue.broken == ()
    assert {(offer.kind, offer.name) for offer in catalogue.offers} == {("deficit", "fog"), ("metric", "fog")}
    # one name for two kinds is no clash
    assert catalogue.clashes() == ()


def test_a_clash_of_names_names_both_packages_and_either_can_be_picked(installed: Installer, tmp_path: Path) -> None:
    installed("fog-plugin", "1.2", fog=FOG)
    installed("london", "3.0", weather=FOG.replace("0.8", "0.9"))
    catalogue = discover()
    assert catalogue.clashes() == (("deficit", "fog", ("fog-plugin", "london")),)
    spec = tmp_path / "s.toml"
    spec.write_text(SPEC.replace(", density = 0.25", ""))
    with pytest.raises(SpecError) as caught:
        read_spec(spec, catalogue)
    assert str(caught.value) == (
        f"{spec}:4: deficits.fog.use: 'fog' is offered by several packages, fog-plugin and london: "
        "write 'fog-plugin/fog' or 'london/fog'"
    )
    for package, density in (("fog-plugin", 0.8), ("london", 0.9)):
        fog = read_spec(spec, catalogue, None, [f"deficits.fog.use={package}/fog"]).variants[0].deficits["fog"]
        assert (fog.use, fog.call.density) == (f"{package}/fog", density)


def test_one_package_cannot_offer_one_name_twice(installed: Installer) -> None:
    catalogue = discover(installed("twice", one=FOG, two=FOG.replace("0.8", "0.9")))
    assert [offer.component().density for offer in catalogue.offers] == [0.8]
    assert catalogue.clashes() == ()
    assert catalogue.broken == (
        Broken("two", "twice", "TypeError: another plugin of this package already offers the deficit fog"),
    )


def test_the_message_when_no_package_offers_a_name(installed: Installer) -> None:
    points = installed("fog-plugin", fog=FOG) + installed("bad", one="1 / 0", two="1 / 0")
    catalogue = discover(points)
    with pytest.raises(LookupError) as caught:
        catalogue.find("deficit", "fogg")
    assert str(caught.value) == (
        "unknown deficit 'fogg'; did you mean 'fog'? Known deficits: 'fog' (broken plugins: bad; see cpframe plugins)"
    )
    with pytest.raises(LookupError, match="unknown deficit 'frog-plugin/fog'; did you mean 'fog-plugin/fog'"):
        catalogue.find("deficit", "frog-plugin/fog")
    with pytest.raises(LookupError, match=r"^unknown metric 'fog'; known metrics: none"):
        catalogue.find("metric", "fog")


def test_the_order_of_installation_does_not_matter(installed: Installer) -> None:
    points = installed("b", b=FOG) + installed("a", z=FOG.replace('"fog"', '"haze"'), a=FOG.replace('"fog"', '"mist"'))
    catalogue = discover(points)
    assert [offer.name for offer in catalogue.offers] == ["mist", "haze", "fog"]
    assert discover(points[::-1]) == catalogue


def test_offers_know_their_component(installed: Installer) -> None:
    (offer,) = discover(installed("fog-plugin", fog=FOG)).offers
    assert offer.component().density == 0.8
    with pytest.raises(AttributeError):
        offer.component().density = 1
