"""Logit cotangents v for which the expectation of ||J^T v||^2 is an example's Fisher trace.

With J the Jacobian of an example's logits by the weights and p its class probabilities, the gradient of log p_y is
J^T (e_y - p). So the trace, the expectation of its squared norm over labels y ~ p, is tr(J^T C J) with
C = diag(p) - p p^T, and any v with E[v v^T] = C gives an unbiased ||J^T v||^2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

__all__ = ["Estimator", "cotangents"]

Estimator = Literal["model", "exact", "sampled", "empirical"]
"""``model``: random signs in the eigenbasis of C; ``exact``: the sum over classes; ``sampled``: labels drawn from the
model's own probabilities; ``empirical``: the true labels, which is the trace of another matrix."""

Floats = NDArray[np.float64]


def cotangents(
    logits: Floats, estimator: Estimator, targets: NDArray[np.int64] | None, rng: Generator, draws: int
) -> Iterator[Floats]:
    """Yield cotangents, one for each example at a time; the squared norms of their pull-backs sum to the estimate.

    Random numbers are used example by example, so that it does not matter how examples are cut into batches.

    Args:
        logits: (n, K), finite.
        estimator: see `Estimator`.
        targets: (n,) in [0, K), for ``empirical`` only.
        rng: for ``model`` and ``sampled`` only.
        draws: to average over, for ``model`` and ``sampled`` only.

    Yields:
        (n, K): `draws` of them for ``model`` and ``sampled``, K for ``exact``, one for ``empirical``.

    Raises:
        ValueError: where ``empirical`` is given no targets, or a class without an output.
    """
    n, classes = logits.shape
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    if estimator == "model":
        signs = np.where(rng.random((n, draws, classes)) < 0.5, -1.0, 1.0)
        roots = _roots(probabilities)
        for draw in range(draws):
            yield (roots @ signs[:, draw, :, None])[:, :, 0] / np.sqrt(draws)
    elif estimator == "exact":
        for label in range(classes):
            weight = np.sqrt(probabilities[:, label, None])
            yield weight * _residuals(probabilities, np.full(n, label))
    elif estimator == "sampled":
        cumulative = probabilities.cumsum(axis=1)
        labels = (rng.random((n, draws))[:, :, None] >= cumulative[:, None, :-1]).sum(axis=2)
        for draw in range(draws):
            yield _residuals(probabilities, labels[:, draw]) / np.sqrt(draws)
    elif targets is None:
        raise ValueError("the estimator 'empirical' takes the true labels: give targets")
    elif targets.max() >= classes:
        raise ValueError(f"targets has class {targets.max()}, but the model has only {classes} outputs")
    else:
        yield _residuals(probabilities, targets)


def _residuals(probabilities: Floats, labels: NDArray[np.int64]) -> Floats:
    """Return e_y - p, the gradient of log p_y by the logits."""
    return np.eye(probabilities.shape[1])[labels] - probabilities


def _roots(p: Floats) -> Floats:
    """Return U sqrt(L) for every example, where diag(p) - p p^T = U L U^T; (n, K) -> (n, K, K).

    An eigenvector's largest entry is made positive: LAPACK's choice of sign is arbitrary, and draws are to be paired.
    """
    classes = np.arange(p.shape[1])
    covariance = -p[:, :, None] * p[:, None, :]
    covariance[:, classes, classes] = 0
    # Rows sum to 0; p - p^2 would cancel where p is near 1.
    covariance[:, classes, classes] = -covariance.sum(axis=2)
    values, vectors = np.linalg.eigh(covariance)
    # Eigenvalues that are 0 (there is always one) come out as rounding, and its root would be no longer small.
    values[values < p.shape[1] * np.finfo(np.float64).eps * values.max(axis=1, keepdims=True)] = 0
    largest = np.abs(vectors).argmax(axis=1)[:, None, :]
    roots: Floats = vectors * np.sign(np.take_along_axis(vectors, largest, axis=1)) * np.sqrt(values)[:, None, :]
    return roots
