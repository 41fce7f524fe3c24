"""Layerwise Fisher information of any classifier, for use inside and outside of studies.

A model (an ``nn.Module`` whose outputs are logits) and a batch of inputs go in; a frozen dataclass of float64 arrays
per layer comes out. README.md in this folder shows the calls. Nothing here needs a spec, a study or a plugin.

`trace` holds the main entry point, `layerwise_trace`; `cotangents` the expectation over labels; `per_sample/` the
squared norms of single-example gradients; `variational` and `hessian` two related traces, both on a `loss_landscape`;
`layers` the grouping of parameters; `result` the means and standard errors.

Where to add: a torch function with parameters of its own in `per_sample/`; an estimator of the expectation over labels
in `cotangents`; another curvature measure in a module next to `hessian`, with a name in ``__all__``.
"""

from cpframe.fisher.cotangents import Estimator
from cpframe.fisher.hessian import HessianTrace, hessian_trace
from cpframe.fisher.layers import default_layers, layers_of
from cpframe.fisher.per_sample.gradients import chunks, example_gradients
from cpframe.fisher.result import FisherTrace
from cpframe.fisher.trace import layerwise_trace
from cpframe.fisher.variational import VariationalTrace, variational_trace

__all__ = [
    "Estimator",
    "FisherTrace",
    "HessianTrace",
    "VariationalTrace",
    "chunks",
    "default_layers",
    "example_gradients",
    "hessian_trace",
    "layers_of",
    "layerwise_trace",
    "variational_trace",
]
