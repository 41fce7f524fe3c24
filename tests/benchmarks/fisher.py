"""The time, memory and error of the Fisher trace and of other libraries, relative to plain forward and backward passes.

    pip install -e '.[bench]'
    OMP_NUM_THREADS=1 python tests/benchmarks/fisher.py [--networks all-cnn resnet18 mlp] [--images 256] [--repeats 5]
    OMP_NUM_THREADS=1 CPFRAME_DATA=DIR python tests/benchmarks/fisher.py --noise

Time: in one process, each measurement follows a plain pass; the table has the median of the ratios. Memory: the peak of
a separate process per method, without the network and its inputs (Linux only). Error: the largest relative error over
all parameters of the trace with the true labels, compared with a loop over single examples in float64. A library that
is not installed or fails has a row with the reason. The libraries compute similar quantities, not the same one; the
last column says what each omits. `--noise` compares the standard errors of the estimators on a network trained on
CIFAR-10 images.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cpframe.api import Layer
from cpframe.fisher import layerwise_trace
from cpframe_plugins import networks

CLASSES = 10
NETWORKS = {
    "all-cnn": (lambda: networks.all_cnn((3, 32, 32), CLASSES, 1.0), (3, 32, 32), 32),
    "resnet18": (lambda: networks.resnet18((3, 32, 32), CLASSES, 1.0), (3, 32, 32), 32),
    "mlp": (lambda: networks.mlp((1, 32, 32), CLASSES, (2500, 2000, 1500, 1000, 500), True), (1, 32, 32), 256),
}
"""By name: the constructor, the shape of an image, and the batch size at which a plain pass is the fastest."""


@dataclass
class Case:
    """A network with its inputs, labels and batch size."""

    name: str
    model: nn.Module
    inputs: Tensor
    labels: Tensor
    batch_size: int

    def batches(self, batch_size: int | None = None):
        length = batch_size or self.batch_size
        return zip(self.inputs.split(length), self.labels.split(length), strict=True)


def make_case(name: str, images: int, dtype: torch.dtype = torch.float32) -> Case:
    """Return a network with realistic running statistics, and inputs of random noise."""
    make, shape, batch_size = NETWORKS[name]
    torch.manual_seed(0)
    model = make()
    inputs, labels = torch.randn(images, *shape), torch.randint(CLASSES, (images,))
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    with torch.no_grad():
        model.train()(inputs[:32])
    return Case(name, model.eval().to(dtype), inputs.to(dtype), labels, batch_size)


# A method takes a case and returns a function that measures it once. That function returns the traces with the true
# labels by parameter, or None where the method has only their sum or samples labels.
Traces = dict[str, float] | None
Method = Callable[[Case], Callable[[], Traces]]


def plain(case: Case) -> Callable[[], Traces]:
    def once() -> None:
        case.model.zero_grad()
        for inputs, labels in case.batches():
            cross_entropy(case.model(inputs), labels).backward()

    return once


def cpframe(case: Case, **options: object) -> Callable[[], Traces]:
    options = {"estimator": "model"} | options

    def once() -> Traces:
        trace = layerwise_trace(case.model, case.inputs, case.labels, **options)
        return dict(zip(trace.parameters, trace.parameter_mean, strict=True))

    return once


def backpack(case: Case) -> Callable[[], Traces]:
    from backpack import backpack as extensions
    from backpack import extend
    from backpack.extensions import BatchL2Grad

    model = extend(copy.deepcopy(case.model), use_converter=case.name == "resnet18").eval()
    loss = extend(nn.CrossEntropyLoss(reduction="sum"))

    def once() -> Traces:
        total: dict[str, float] = {}
        for inputs, labels in case.batches():
            model.zero_grad()
            with extensions(BatchL2Grad()):
                loss(model(inputs), labels).backward()
            for name, p in model.named_parameters():
                total[name] = total.get(name, 0.0) + p.batch_l2.double().sum().item() / len(case.inputs)
                del p.batch_l2
        return total

    return once


def opacus(case: Case) -> Callable[[], Traces]:
    """Ghost norms. They do not support BatchNorm, whose parameters are therefore frozen."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    body = copy.deepcopy(case.model)
    for module in body.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.requires_grad_(False)
    model = GradSampleModuleFastGradientClipping(body, loss_reduction="sum", strict=False, use_ghost_clipping=True)
    model.train()  # it captures modules in train mode only
    for module in body.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()

    def once() -> Traces:
        total: dict[str, float] = {}
        for inputs, labels in case.batches():
            model.zero_grad()
            cross_entropy(model(inputs), labels, reduction="sum").backward()
            for name, p in body.named_parameters():
                if p.requires_grad:
                    total[name] = total.get(name, 0.0) + (p._norm_sample.double() ** 2).sum().item() / len(case.inputs)
        return total

    return once


def vmap(case: Case) -> Callable[[], Traces]:
    from torch.func import functional_call, grad, vmap

    parameters = {name: p.detach() for name, p in case.model.named_parameters()}
    # The gradients, of the size of the network per image, should take at most 200 MB.
    batch_size = max(1, min(case.batch_size, int(2e8 / (4 * sum(p.numel() for p in parameters.values())))))

    def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return cross_entropy(functional_call(case.model, weights, (image[None],)), label[None])

    def once() -> Traces:
        total = dict.fromkeys(parameters, 0.0)
        for inputs, labels in case.batches(batch_size):
            for name, g in vmap(grad(loss), in_dims=(None, 0, 0))(parameters, inputs, labels).items():
                total[name] += g.flatten(1).square().sum().item() / len(case.inputs)
        return total

    return once


def nngeometry(case: Case) -> Callable[[], Traces]:
    """The diagonal of the Fisher matrix, with one sampled label per image."""
    from nngeometry.metrics import FIM_MonteCarlo
    from nngeometry.object import PMatDiag
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(case.inputs, case.labels), batch_size=max(1, case.batch_size // 2))
    model = copy.deepcopy(case.model).requires_grad_(True)

    def once() -> Traces:
        FIM_MonteCarlo(model, loader, PMatDiag, trials=1, device="cpu").trace().item()
        return None

    return once


def curvlinops(case: Case) -> Callable[[], Traces]:
    """Hutchinson's trace of the whole matrix from one product, with one sampled label per image."""
    from curvlinops import FisherMCLinearOperator, hutchinson_trace

    parameters = [p for p in case.model.parameters() if p.requires_grad]
    data = list(case.batches())

    def once() -> Traces:
        operator = FisherMCLinearOperator(
            case.model, nn.CrossEntropyLoss(), parameters, data, check_deterministic=False, num_data=len(case.inputs)
        )
        hutchinson_trace(operator, num_matvecs=1).item()
        return None

    return once


METHODS: dict[str, Method] = {
    "cpframe, model": cpframe,
    "cpframe, sketch of 8": lambda case: cpframe(case, sketch=8),
    "BackPACK BatchL2Grad": backpack,
    "Opacus ghost norms": opacus,
    "torch.func vmap(grad)": vmap,
    "nngeometry, sampled labels": nngeometry,
    "curvlinops, one product": curvlinops,
}
WITHOUT_ERROR = ("cpframe, sketch of 8", "nngeometry, sampled labels", "curvlinops, one product")
"""The methods without an exact trace with the true labels per parameter."""
REMARKS = {
    "Opacus ghost norms": "without BatchNorm",
    "nngeometry, sampled labels": "sum over parameters only",
    "curvlinops, one product": "sum over parameters only, with the noise of one direction",
}


def reference(case: Case) -> dict[str, float]:
    """Return the trace with the true labels by parameter, in float64, from a loop over single examples."""
    model = copy.deepcopy(case.model).double()
    total = dict.fromkeys((name for name, _ in model.named_parameters()), 0.0)
    for inputs, labels in case.batches(1):
        loss = cross_entropy(model(inputs.double()), labels)
        for name, g in zip(total, torch.autograd.grad(loss, list(model.parameters())), strict=True):
            total[name] += g.square().sum().item() / len(case.inputs)
    return total


def errors(name: str) -> dict[str, float | str]:
    """Return the largest relative error over parameters by method, on 16 images, or the reason of a failure."""
    small = make_case(name, 16)
    truth = reference(small)
    found: dict[str, float | str] = {}
    trials: dict[str, Method] = {"cpframe, model": lambda case: cpframe(case, estimator="empirical")}
    trials |= {method: METHODS[method] for method in METHODS if method not in trials and method not in WITHOUT_ERROR}
    for method, make in trials.items():
        try:
            values = make(small)()
            found[method] = max(abs(values[key] - truth[key]) / truth[key] for key in values)
        except Exception as error:  # noqa: BLE001 - the failure of a library is shown in its row
            found[method] = f"{type(error).__name__}: {error}".splitlines()[0]
    wide = make_case(name, 16, torch.float64)
    values = cpframe(wide, estimator="empirical")()
    found["cpframe, float64"] = max(abs(values[key] - truth[key]) / truth[key] for key in truth)
    return found


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def compare(name: str, images: int, repeats: int, chosen: list[str]) -> None:
    case = make_case(name, images)
    once = plain(case)
    once()
    whole = Case(name, case.model, case.inputs, case.labels, images)
    ratio = statistics.median(seconds(plain(whole)) / seconds(once) for _ in range(repeats))
    print(f"\n{name}: {images} images; a plain pass in batches of {case.batch_size}: {seconds(once):.2f} s;", end=" ")
    print(f"in one batch: {ratio:.2f} of that", flush=True)
    error_of = errors(name)
    print(f"  {'method':28}{'time':>7}  {'min .. max':16}{'memory':>8}  {'error':>8}")
    for method in ["plain", *chosen]:
        make = plain if method == "plain" else METHODS[method]
        try:
            action = make(case)
            action()  # the first call of some methods takes longer
            ratios = []
            for _ in range(repeats if method != "plain" else 1):
                before = seconds(once)
                ratios.append(seconds(action) / before)
        except Exception as error:  # noqa: BLE001 - the failure of a library is shown in its row
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            print(f"  {method:28}fails: {reason[:90]}", flush=True)
            continue
        error = error_of.get(method, "")
        cell = f"{error:.0e}" if isinstance(error, float) else error[:60]
        spread = f"{min(ratios):.2f} .. {max(ratios):.2f}"
        row = f"  {method:28}{statistics.median(ratios):7.2f}  {spread:16}{memory(name, images, method):>8}  {cell:>8}"
        print(f"{row}  {REMARKS.get(method, '')}", flush=True)
    print(f"  error of cpframe in float64: {error_of['cpframe, float64']:.0e}", flush=True)


def memory(name: str, images: int, method: str) -> str:
    """Return the peak memory of a separate process, without the network and its inputs."""
    command = [sys.executable, __file__, "--memory-of", method, "--networks", name, "--images", str(images)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.split()[-1] if answer.returncode == 0 and answer.stdout.split() else "?"


def memory_of(name: str, images: int, method: str) -> None:
    case = make_case(name, images)
    # The first call, on two images, loads libraries, whose memory is not that of the method.
    make = plain if method == "plain" else METHODS[method]
    make(Case(name, case.model, case.inputs[:2], case.labels[:2], 2))()
    action = make(case)
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = resident("VmRSS")
    action()
    print(f"{(resident('VmHWM') - before) / 1024:.0f}MB")


def resident(which: str) -> int:
    """Return the resident memory of this process in kilobytes: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which))


def noise() -> None:
    """Compare the standard errors of the estimators during the training of a small All-CNN on 16 x 16 CIFAR-10 images.

    The images are JPEG files in the data folder, ``cifar10-jpeg/{train,test}/<class>/``.
    """
    from cpframe_plugins.datasets import ImageFolder

    folder = Path(os.environ["CPFRAME_DATA"])
    splits = ImageFolder(path="cifar10-jpeg", size=16, train=4000, test=1000)(folder)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (splits.mean, splits.std))
    inputs, labels = (splits.train_inputs.float() / 255 - mean) / std, splits.train_targets
    torch.manual_seed(0)
    model = networks.all_cnn((3, 16, 16), CLASSES, 0.25)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-3)
    print("\nCompute of `sampled` relative to `model`, for the same standard error of the sum over layers")
    print("epoch  train accuracy  on fixed inputs (noise of draws)  with the noise of inputs")
    for epoch in range(1, 41):
        model.train()
        correct = 0
        for positions in torch.randperm(len(inputs)).split(64):
            outputs = model(inputs[positions])
            optimizer.zero_grad()
            cross_entropy(outputs, labels[positions]).backward()
            optimizer.step()
            correct += int((outputs.argmax(dim=1) == labels[positions]).sum())
        if epoch in (1, 5, 10, 20, 40):
            model.eval()
            probe = inputs[:256]
            layers = [Layer("all", tuple(name for name, _ in model.named_parameters()))]
            spread, draws = {}, {}
            for estimator in ("sampled", "model"):
                traces = [
                    layerwise_trace(model, probe, layers=layers, estimator=estimator, rng=np.random.default_rng(seed))
                    for seed in range(60)
                ]
                draws[estimator] = np.var([trace.mean[0] for trace in traces], ddof=1)
                spread[estimator] = np.mean([trace.stderr[0] ** 2 for trace in traces])
            print(
                f"{epoch:5}  {correct / len(inputs):14.1%}  {draws['sampled'] / draws['model']:32.1f}"
                f"  {spread['sampled'] / spread['model']:24.1f}",
                flush=True,
            )


def main() -> None:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--memory-of")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory_of:
        memory_of(arguments.networks[0], arguments.images, arguments.memory_of)
        return
    print(f"torch {torch.__version__}, Python {platform.python_version()}, one thread; median of {arguments.repeats}")
    if arguments.noise:
        noise()
        return
    for name in arguments.networks:
        compare(name, arguments.images, arguments.repeats, arguments.methods)


if __name__ == "__main__":
    main()
