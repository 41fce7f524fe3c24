"""Layerwise Fisher information of any classifier, in studies and on its own.

trace = layerwise_trace(model.eval(), images)
dict(zip(trace.layers, trace.mean))    # with trace.stderr; the same by parameter
trace.rules                            # how each parameter was measured
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
