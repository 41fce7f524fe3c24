"""A network with its optimizer: construction from a seed, saved states, training steps and tests."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from cpframe.api import Layer, Task
from cpframe.fisher import layers_of
from cpframe.numerics import Numerics
from cpframe.spec.model import Variant
from cpframe.training.data import DeviceData
from cpframe.training.randomness import stream

TEST_BATCH = 500
"""The number of images per forward pass of a test, few enough that activations stay in the caches."""


@dataclass(frozen=True, eq=False)
class Learner:
    """A network and its optimizer, on a device."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    numerics: Numerics

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Run forward passes inside the context in the precision of the numerics."""
        if self.numerics.precision == "float32":
            yield
            return
        with torch.autocast(self.numerics.device.partition(":")[0], dtype=torch.bfloat16):
            yield

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the network, computed once."""
        return layers_of(self.model)


@contextmanager
def seed_torch(device: str, seed: int, purpose: str, *counters: int) -> Iterator[None]:
    """Seed torch's own random numbers (initial weights, dropout) from a keyed stream; restore the CPU's afterwards."""
    number = int(stream(seed, purpose, *counters).integers(2**63))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(number)  # torch.manual_seed would also query every other kind of device
        if device.startswith("cuda"):
            torch.cuda.manual_seed_all(number)  # manual_seed would seed the current device, which may be another
        elif device == "mps":
            torch.mps.manual_seed(number)
        yield


def new_model(variant: Variant, data: DeviceData, seed: int, numerics: Numerics) -> nn.Module:
    """Build a network; its weights are drawn on the CPU, so they are the same on every device."""
    with seed_torch("cpu", seed, "init"):
        model = variant.architecture.call(data.shape, data.task.outputs)
    model = model.to(numerics.device)
    if data.inputs.ndim == 4:  # the faster memory format for convolutions, on CUDA and on the CPU
        model = model.to(memory_format=torch.channels_last)
    return model


def new_learner(variant: Variant, model: nn.Module, numerics: Numerics) -> Learner:
    """Return a learner with the given network and a new optimizer."""
    return Learner(model, variant.optimizer.call(model.parameters()), numerics)


def serialise_state(learner: Learner) -> bytes:
    """Return the state of the network and the optimizer as the bytes of a file of torch."""
    buffer = io.BytesIO()
    torch.save({"model": learner.model.state_dict(), "optimizer": learner.optimizer.state_dict()}, buffer)
    return buffer.getvalue()


def restore(learner: Learner, state: bytes, *, optimizer: bool) -> None:
    """Load a serialised state into a learner: the weights, and if `optimizer` is true the optimizer's state."""
    content = torch.load(io.BytesIO(state), map_location=learner.numerics.device, weights_only=True)
    learner.model.load_state_dict(content["model"])
    if optimizer:
        learner.optimizer.load_state_dict(content["optimizer"])


@dataclass
class Tally:
    """Sums of loss and score over examples, on the device until `means` is called."""

    sums: Tensor
    count: int = 0

    def add(self, losses: Tensor, scores: Tensor) -> None:
        """Add the examples of a batch, each (N,)."""
        self.sums += torch.stack([losses.detach().sum(), scores.sum()])
        self.count += len(losses)

    def means(self) -> tuple[float, float]:
        """Return the mean loss and the mean score; nan without an example."""
        if not self.count:
            return float("nan"), float("nan")
        loss, score = (self.sums / self.count).tolist()
        return loss, score


def new_tally(device: str) -> Tally:
    """Return an empty tally, in float64 where the device supports it."""
    return Tally(torch.zeros(2, dtype=torch.float32 if device == "mps" else torch.float64, device=device))


def train_step(learner: Learner, inputs: Tensor, targets: Tensor, task: Task, tally: Tally) -> None:
    """Run one forward pass, one backward pass and one update."""
    with learner.autocast():
        outputs = learner.model(inputs)
    outputs = outputs.float()
    losses = task.loss(outputs, targets)
    learner.optimizer.zero_grad(set_to_none=True)
    losses.mean().backward()  # type: ignore[no-untyped-call]
    learner.optimizer.step()
    with torch.no_grad():
        tally.add(losses, task.score(outputs, targets))


def test(learner: Learner, data: DeviceData) -> tuple[float, float]:
    """Return the mean loss and the mean score on the test set, without a deficit and in eval mode."""
    learner.model.eval()
    tally = new_tally(learner.numerics.device)
    with torch.inference_mode():
        for start in range(0, len(data.test_inputs), TEST_BATCH):
            targets = data.test_targets[start : start + TEST_BATCH]
            with learner.autocast():
                outputs = learner.model(data.test_inputs[start : start + TEST_BATCH])
            tally.add(data.task.loss(outputs.float(), targets), data.task.score(outputs.float(), targets))
    return tally.means()


@contextmanager
def reestimate_batchnorm(learner: Learner, inputs: Tensor, batch_size: int) -> Iterator[None]:
    """Use the average statistics over `inputs` in BatchNorm; restore its running statistics afterwards.

    All other modules are in eval mode, as in a test.
    """
    norms = [
        module
        for module in learner.model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    running = [({name: buffer.clone() for name, buffer in norm.named_buffers()}, norm.momentum) for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        learner.model.eval()
        for norm in norms:
            norm.train()
        with torch.no_grad(), learner.autocast():
            for chunk in torch.split(inputs, batch_size):
                if norms and len(chunk) > 1:
                    learner.model(chunk)
        yield
    finally:
        for norm, (buffers, momentum) in zip(norms, running, strict=True):
            norm.momentum = momentum
            for name, buffer in buffers.items():
                getattr(norm, name).copy_(buffer)
