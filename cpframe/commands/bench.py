"""``cpframe bench``: the speed of this machine, as ratios to a plain forward and backward pass in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cpframe.api import Architecture
from cpframe.fisher import layerwise_trace
from cpframe.fisher.per_sample.convolution import synchronize
from cpframe.numerics import hardware, prepare, resolve
from cpframe.plugins.discovery import Catalogue
from cpframe.plugins.kinds import ARCHITECTURE
from cpframe.training.learner import seed_torch

_NETWORKS: tuple[tuple[str, dict[str, Any], tuple[int, ...], int], ...] = (
    ("all-cnn", {}, (3, 32, 32), 32),
    ("resnet18", {}, (3, 32, 32), 32),
    ("mlp", {"sizes": (2500, 2000, 1500, 1000, 500), "batchnorm": True}, (1, 32, 32), 256),
)
"""The paper's networks in full width: parameters, image shape, and images per plain pass on the CPU."""


def bench_fisher(catalogue: Catalogue, device: str, images: int, repeats: int, console: Console) -> None:
    """Time the Fisher trace and plain passes, network by network, and print a table.

    Args:
        catalogue: the components installed; a network that is missing is left out, with a line.
        device: ``auto``, or a device as torch names it.
        images: the number of images per measurement, of random noise: the time does not depend on their content.
        repeats: the number of measurements, whose median is printed; plain and Fisher passes alternate.
        console: the console to print to.

    Raises:
        SpecError: when the device does not exist.
    """
    numerics = resolve(device, "auto")
    prepare(numerics)
    where = hardware(numerics.device)
    console.print(
        f"{where} · torch {torch.__version__} · {numerics.profile} numerics · {images} images, median of {repeats}"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("network")
    for heading in ("forward + backward", "Fisher trace", "ratio", "first call"):
        table.add_column(heading, justify="right")
    for name, parameters, shape, at_once in _NETWORKS:
        try:
            build: Callable[..., Architecture] = catalogue.find(ARCHITECTURE, name).component
        except LookupError as error:
            console.print(f"{name} is left out: {error}")
            continue
        with seed_torch("cpu", 0, "init"):
            model = build(**parameters)(shape, 10)
        with console.status(f"timing {name}"):
            model = model.eval().to(numerics.device)
            length = at_once if numerics.device == "cpu" else images
            table.add_row(name, *_row(model, (images, *shape), length, repeats))
    console.print(table)
    console.print(
        "ratio: Fisher trace over forward + backward, of the medians. first call: it also checks two images against "
        "plain differentiation and chooses among methods, once per network.",
        style="dim",
    )


def _row(model: nn.Module, shape: tuple[int, ...], at_once: int, repeats: int) -> list[str]:
    device = next(model.parameters()).device
    inputs = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(device)
    targets = torch.randint(10, shape[:1], generator=torch.Generator().manual_seed(0)).to(device)
    model, inputs = model.to(memory_format=torch.channels_last), inputs.to(memory_format=torch.channels_last)

    def plain() -> None:
        model.zero_grad()
        for part in range(0, len(inputs), at_once):
            loss = cross_entropy(model(inputs[part : part + at_once]), targets[part : part + at_once])
            loss.backward()  # type: ignore[no-untyped-call]

    def fisher() -> None:
        layerwise_trace(model, inputs)

    plain()
    first = _seconds(fisher, inputs)
    taken = [(_seconds(plain, inputs), _seconds(fisher, inputs)) for _ in range(repeats)]
    once, traced = (statistics.median(column) for column in zip(*taken, strict=True))
    return [f"{once:.3f} s", f"{traced:.3f} s", f"{traced / once:.2f}", f"{first:.2f} s"]


def _seconds(action: Callable[[], None], on: Tensor) -> float:
    synchronize(on)
    started = time.perf_counter()
    action()
    synchronize(on)
    return time.perf_counter() - started
