"""The imports that every worker needs before its first epoch; processes are forked from one that has made them."""

import torch._dynamo  # noqa: F401 - torch imports it at the first step of an optimizer

import cpframe.execution.executors.processes  # noqa: F401
