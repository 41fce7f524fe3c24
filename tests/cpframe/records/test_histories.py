"""Arithmetic on histories: concatenated parts, rows after an epoch, and arrays that do not fit together."""

from dataclasses import replace

import numpy as np
import pytest

from cpframe.records.histories import CURVES, concatenate, rows_after, validate
from cpframe.records.model import History, MetricHistory


def make_history(start: int = 0, epochs: int = 4) -> History:
    epoch = np.arange(start + 1, start + epochs + 1)
    measured = epoch[epoch % 2 == 0]
    fisher = np.outer(measured, [1.0, 2.0])
    return History(
        epoch=epoch,
        condition=tuple("blur" if number < 3 else "clean" for number in epoch.tolist()),
        **{name: epoch + 0.1 * index for index, name in enumerate(CURVES)},
        measured_epoch=measured,
        layers=("a", "b"),
        metrics={"fisher": MetricHistory(fisher, fisher / 10, "nat", "", "clean")},
    )


def assert_same(one: History, other: History) -> None:
    assert (one.condition, one.layers, one.metrics.keys()) == (other.condition, other.layers, other.metrics.keys())
    for name in ("epoch", "measured_epoch", *CURVES):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)
    for name, metric in one.metrics.items():
        np.testing.assert_array_equal(metric.values, other.metrics[name].values, strict=True)
        np.testing.assert_array_equal(metric.stderr, other.metrics[name].stderr, strict=True)


@pytest.mark.parametrize("epoch", range(1, 8))
def test_the_rows_after_an_epoch_are_the_rest_of_the_history(epoch: int) -> None:
    whole = make_history(0, 8)
    rest = rows_after(whole, epoch)
    assert_same(rest, make_history(epoch, 8 - epoch))
    assert_same(concatenate([make_history(0, epoch), rest]), whole)


def test_a_history_whose_arrays_fit_is_returned() -> None:
    history = make_history()
    assert validate(history) is history
    number = MetricHistory(np.ones(2), None, "", "", "clean")
    image = MetricHistory(np.ones((2, 3, 5)), np.ones((2, 3, 5)), "", "", "clean", axes=("height", "width"))
    more = replace(history, metrics={"number": number, "image": image})
    assert validate(more) is more


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (MetricHistory(np.ones((3, 2)), None, "", "", "clean"), "the metric m has the wrong shape"),
        (MetricHistory(np.ones((2, 3)), None, "", "", "clean"), "the metric m has the wrong shape"),
        (MetricHistory(np.ones((2, 3)), None, "", "", "clean", axes=("x", "y")), "the metric m has the wrong shape"),
        (MetricHistory(np.ones((2, 2)), np.ones(2), "", "", "clean"), "the metric m has the wrong shape"),
        (MetricHistory(np.ones((2, 3)), None, "", "", "clean", axes=("m",)), "the dimension m of the metric m has the"),
    ],
)
def test_a_metric_that_does_not_fit_is_rejected(metric: MetricHistory, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate(replace(make_history(), metrics={"m": metric}))


@pytest.mark.parametrize("name", [*CURVES, "condition"])
def test_curves_of_different_length_are_rejected(name: str) -> None:
    history = make_history()
    with pytest.raises(ValueError, match="the curves differ in length"):
        validate(replace(history, **{name: getattr(history, name)[1:]}))
