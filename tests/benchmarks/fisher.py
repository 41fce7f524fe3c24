"""The Fisher trace beside its peers: time, memory and error, as ratios to one plain forward and backward pass.

    pip install -e '.[bench]'
    OMP_NUM_THREADS=1 python tests/benchmarks/fisher.py [--networks all-cnn resnet18 mlp] [--images 256] [--repeats 5]
    OMP_NUM_THREADS=1 CPFRAME_DATA=DIR python tests/benchmarks/fisher.py --noise

In one process, methods take turns with plain passes; every figure is a median of ratios of neighbours. Peak memory is
that of a process of its own for each method, beyond the network and its inputs (Linux). Errors are the largest relative
ones over all parameters, of the trace with the true labels, against a loop over single examples in float64. A peer
that is not installed or fails has a row with the reason. Peers compute something like it, not the same: what each
leaves out is said.
`--noise` compares the standard errors of the estimators on a network trained on CIFAR-10 images.
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
"""How it is made, its images, and how many of these a plain pass takes at once: as many as are quickest."""


@dataclass
class Case:
    """A network, its inputs and labels."""

    name: str
    model: nn.Module
    inputs: Tensor
    labels: Tensor
    at_once: int

    def batches(self, at_once: int | None = None):
        length = at_once or self.at_once
        return zip(self.inputs.split(length), self.labels.split(length), strict=True)


def case_of(name: str, images: int, dtype: torch.dtype = torch.float32) -> Case:
    """A network with running statistics and weights as after a little training, on noise."""
    make, shape, at_once = NETWORKS[name]
    torch.manual_seed(0)
    model = make()
    inputs, labels = torch.randn(images, *shape), torch.randint(CLASSES, (images,))
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    with torch.no_grad():
        model.train()(inputs[:32])
    return Case(name, model.eval().to(dtype), inputs.to(dtype), labels, at_once)


# A method takes a case and returns a function that measures it once, and gives the traces with the true labels by
# parameter, or None where it has only a sum or draws labels itself.
Measured = dict[str, float] | None
Method = Callable[[Case], Callable[[], Measured]]


def plain(case: Case) -> Callable[[], Measured]:
    def once() -> None:
        case.model.zero_grad()
        for inputs, labels in case.batches():
            cross_entropy(case.model(inputs), labels).backward()

    return once


def cpframe(case: Case, **options: object) -> Callable[[], Measured]:
    options = {"estimator": "model"} | options

    def once() -> Measured:
        trace = layerwise_trace(case.model, case.inputs, case.labels, **options)
        return dict(zip(trace.parameters, trace.parameter_mean, strict=True))

    return once


def backpack(case: Case) -> Callable[[], Measured]:
    from backpack import backpack as within
    from backpack import extend
    from backpack.extensions import BatchL2Grad

    model = extend(copy.deepcopy(case.model), use_converter=case.name == "resnet18").eval()
    loss = extend(nn.CrossEntropyLoss(reduction="sum"))

    def once() -> Measured:
        total: dict[str, float] = {}
        for inputs, labels in case.batches():
            model.zero_grad()
            with within(BatchL2Grad()):
                loss(model(inputs), labels).backward()
            for name, p in model.named_parameters():
                total[name] = total.get(name, 0.0) + p.batch_l2.double().sum().item() / len(case.inputs)
                del p.batch_l2
        return total

    return once


def opacus(case: Case) -> Callable[[], Measured]:
    """Ghost norms; those of BatchNorm are not offered, so its parameters are frozen."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    body = copy.deepcopy(case.model)
    for module in body.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.requires_grad_(False)
    model = GradSampleModuleFastGradientClipping(body, loss_reduction="sum", strict=False, use_ghost_clipping=True)
    model.train()  # it watches modules in train mode only
    for module in body.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()

    def once() -> Measured:
        total: dict[str, float] = {}
        for inputs, labels in case.batches():
            model.zero_grad()
            cross_entropy(model(inputs), labels, reduction="sum").backward()
            for name, p in body.named_parameters():
                if p.requires_grad:
                    total[name] = total.get(name, 0.0) + (p._norm_sample.double() ** 2).sum().item() / len(case.inputs)
        return total

    return once


def vmap(case: Case) -> Callable[[], Measured]:
    from torch.func import functional_call, grad, vmap

    parameters = {name: p.detach() for name, p in case.model.named_parameters()}
    # As many as keep the gradients, one of the network's size for each image, within 200 MB.
    at_once = max(1, min(case.at_once, int(2e8 / (4 * sum(p.numel() for p in parameters.values())))))

    def loss(some: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return cross_entropy(functional_call(case.model, some, (image[None],)), label[None])

    def once() -> Measured:
        total = dict.fromkeys(parameters, 0.0)
        for inputs, labels in case.batches(at_once):
            for name, g in vmap(grad(loss), in_dims=(None, 0, 0))(parameters, inputs, labels).items():
                total[name] += g.flatten(1).square().sum().item() / len(case.inputs)
        return total

    return once


def nngeometry(case: Case) -> Callable[[], Measured]:
    """Diagonal of the Fisher matrix, by one drawn label for each image."""
    from nngeometry.metrics import FIM_MonteCarlo
    from nngeometry.object import PMatDiag
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(case.inputs, case.labels), batch_size=max(1, case.at_once // 2))
    model = copy.deepcopy(case.model).requires_grad_(True)

    def once() -> Measured:
        FIM_MonteCarlo(model, loader, PMatDiag, trials=1, device="cpu").trace().item()
        return None

    return once


def curvlinops(case: Case) -> Callable[[], Measured]:
    """Hutchinson's trace of the whole matrix by one product, with one drawn label for each image."""
    from curvlinops import FisherMCLinearOperator, hutchinson_trace

    parameters = [p for p in case.model.parameters() if p.requires_grad]
    data = list(case.batches())

    def once() -> Measured:
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
    "nngeometry, drawn labels": nngeometry,
    "curvlinops, one product": curvlinops,
}
UNLIKE = ("cpframe, sketch of 8", "nngeometry, drawn labels", "curvlinops, one product")
"""Those that give no trace with the true labels to compare."""
REMARKS = {
    "Opacus ghost norms": "leaves BatchNorm out",
    "nngeometry, drawn labels": "the sum only",
    "curvlinops, one product": "the sum only, with the noise of one direction",
}


def looped(case: Case) -> dict[str, float]:
    """The trace with the true labels by parameter, in float64, one example after the other."""
    model = copy.deepcopy(case.model).double()
    total = dict.fromkeys((name for name, _ in model.named_parameters()), 0.0)
    for inputs, labels in case.batches(1):
        loss = cross_entropy(model(inputs.double()), labels)
        for name, g in zip(total, torch.autograd.grad(loss, list(model.parameters())), strict=True):
            total[name] += g.square().sum().item() / len(case.inputs)
    return total


def errors(name: str) -> dict[str, float | str]:
    """The largest relative error over parameters, on 16 images, by method."""
    small = case_of(name, 16)
    truth = looped(small)
    found: dict[str, float | str] = {}
    trials: dict[str, Method] = {"cpframe, model": lambda case: cpframe(case, estimator="empirical")}
    trials |= {method: METHODS[method] for method in METHODS if method not in trials and method not in UNLIKE}
    for method, make in trials.items():
        try:
            values = make(small)()
            found[method] = max(abs(values[key] - truth[key]) / truth[key] for key in values)
        except Exception as error:  # noqa: BLE001 - a peer's failure is a row
            found[method] = f"{type(error).__name__}: {error}".splitlines()[0]
    wide = case_of(name, 16, torch.float64)
    values = cpframe(wide, estimator="empirical")()
    found["cpframe, float64"] = max(abs(values[key] - truth[key]) / truth[key] for key in truth)
    return found


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def compare(name: str, images: int, repeats: int, chosen: list[str]) -> None:
    case = case_of(name, images)
    once = plain(case)
    once()
    whole = Case(name, case.model, case.inputs, case.labels, images)
    ratio = statistics.median(seconds(plain(whole)) / seconds(once) for _ in range(repeats))
    print(f"\n{name}: {images} images; a plain pass, {case.at_once} at once: {seconds(once):.2f} s;", end=" ")
    print(f"all {images} at once: {ratio:.2f} of that", flush=True)
    wrong = errors(name)
    print(f"  {'method':28}{'time':>7}  {'of min .. max':16}{'memory':>8}  {'error':>8}")
    for method in ["plain", *chosen]:
        make = plain if method == "plain" else METHODS[method]
        try:
            action = make(case)
            action()  # the first call of some is another thing
            ratios = []
            for _ in range(repeats if method != "plain" else 1):
                before = seconds(once)
                ratios.append(seconds(action) / before)
        except Exception as error:  # noqa: BLE001 - a peer's failure is a row
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            print(f"  {method:28}fails: {reason[:90]}", flush=True)
            continue
        error = wrong.get(method, "")
        said = f"{error:.0e}" if isinstance(error, float) else error[:60]
        spread = f"{min(ratios):.2f} .. {max(ratios):.2f}"
        row = f"  {method:28}{statistics.median(ratios):7.2f}  {spread:16}{memory(name, images, method):>8}  {said:>8}"
        print(f"{row}  {REMARKS.get(method, '')}", flush=True)
    print(f"  error of cpframe in float64: {wrong['cpframe, float64']:.0e}", flush=True)


def memory(name: str, images: int, method: str) -> str:
    """Peak memory beyond the network and its inputs, of a process of its own."""
    command = [sys.executable, __file__, "--memory-of", method, "--networks", name, "--images", str(images)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.split()[-1] if answer.returncode == 0 and answer.stdout.split() else "?"


def memory_of(name: str, images: int, method: str) -> None:
    case = case_of(name, images)
    # Once on two images: libraries load on first use, and that is no memory of the method.
    make = plain if method == "plain" else METHODS[method]
    make(Case(name, case.model, case.inputs[:2], case.labels[:2], 2))()
    action = make(case)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = resident("VmRSS")
    action()
    print(f"{(resident('VmHWM') - before) / 1024:.0f}MB")


def resident(which: str) -> int:
    """Kilobytes of memory that this process holds, or has held at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which))


def noise() -> None:
    """Standard errors of the estimators through the training of a small All-CNN on CIFAR-10 images of 16 x 16.

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
    print("\nCompute of sampled labels over compute of `model`, for equal standard error of the sum over layers")
    print("epoch  train accuracy  on fixed inputs (noise of draws)  over inputs too")
    for epoch in range(1, 41):
        model.train()
        right = 0
        for some in torch.randperm(len(inputs)).split(64):
            outputs = model(inputs[some])
            optimizer.zero_grad()
            cross_entropy(outputs, labels[some]).backward()
            optimizer.step()
            right += int((outputs.argmax(dim=1) == labels[some]).sum())
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
                f"{epoch:5}  {right / len(inputs):14.1%}  {draws['sampled'] / draws['model']:32.1f}"
                f"  {spread['sampled'] / spread['model']:15.1f}",
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
