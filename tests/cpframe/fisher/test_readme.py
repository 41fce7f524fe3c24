"""The README of the library: its examples run, and it names every estimator, rule and attribute of the result."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import cpframe.fisher
from cpframe.fisher import FisherTrace, HessianTrace, VariationalTrace
from cpframe.fisher.per_sample import rules

README = (Path(cpframe.fisher.__file__).parent / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def namespace() -> dict[str, object]:
    """The names that the Python blocks of the README define, run in order."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 16, 10))
    names: dict[str, object] = {"model": model, "images": torch.randn(8, 3, 6, 6)}
    for block in re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE):
        exec(compile(block, "README.md", "exec"), names)
    return names


def test_the_examples_run(namespace) -> None:
    for name in ("trace", "exact", "empirical", "precise", "sketched"):
        trace = namespace[name]
        assert isinstance(trace, FisherTrace)
        assert trace.layers == ("0", "4")
        assert np.all(trace.mean > 0)
    assert namespace["whole"].layers == ("all",)
    assert namespace["whole"].mean.sum() == pytest.approx(namespace["trace"].mean.sum(), rel=1e-12)
    assert isinstance(namespace["variational"], VariationalTrace)
    assert isinstance(namespace["hessian"], HessianTrace)


def test_every_estimator_rule_and_attribute_is_named() -> None:
    quoted = {part for text in re.findall(r"`([^`\n]+)`", README) for part in (text, text.strip('"'))}
    assert {"model", "exact", "sampled", "empirical"} <= quoted
    named = [rule for value in vars(rules).values() for rule in (value if isinstance(value, tuple) else (value,))]
    assert {rule.name for rule in named if isinstance(rule, rules.Rule)} <= quoted
    assert {"vmap", "loop", "not reached"} <= quoted
    assert FisherTrace.__dataclass_fields__.keys() <= quoted
