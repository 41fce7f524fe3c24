"""Layerwise Fisher information of any classifier, in studies and on its own.

trace = layerwise_trace(model.eval(), images)
dict(zip(trace.layers, trace.mean))
"""

from cpframe.fisher.cotangents import Estimator
from cpframe.fisher.examples import chunks, example_gradients
from cpframe.fisher.layers import default_layers, layers_of
from cpframe.fisher.summary import FisherTrace
from cpframe.fisher.trace import layerwise_trace

__all__ = [
    "Estimator",
    "FisherTrace",
    "chunks",
    "default_layers",
    "example_gradients",
    "layers_of",
    "layerwise_trace",
]
