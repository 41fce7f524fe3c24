"""What every worker imports before its first epoch; processes are forked from one that has imported this."""

import torch._dynamo  # noqa: F401 - torch does, at the first step of an optimizer

import cpframe.execution.executors.processes  # noqa: F401
