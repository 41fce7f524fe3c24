"""Logit cotangents v for which the expectation of ||J^T v||^2 is an example's Fisher trace.

With J the Jacobian of an example's logits by the weights and p its class probabilities, the gradient of log p_y is
J^T (e_y - p). So the trace, the expectation of its squared norm over labels y ~ p, is tr(J^T C J) with
C = diag(p) - p p^T, and any v with E[v v^T] = C gives an unbiased ||J^T v||^2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn.functional import one_hot

__all__ = ["Estimator", "cotangents", "passes"]

Estimator = Literal["model", "exact", "sampled", "empirical"]
"""``model``: random signs through a root of C; ``exact``: the sum over classes; ``sampled``: labels drawn from the
model's own probabilities; ``empirical``: the true labels, which is the trace of another matrix."""

_MOST_EIGENVECTORS = 64
"""Classes up to which C is decomposed: beyond, the cube of their number would cost more than the network."""


def passes(estimator: Estimator, classes: int, draws: int) -> int:
    """How many cotangents `cotangents` yields: each needs a backward pass."""
    return {"model": draws, "sampled": draws, "exact": classes, "empirical": 1}[estimator]


def cotangents(
    logits: Tensor, estimator: Estimator, targets: Tensor | None, rng: Generator, draws: int
) -> Iterator[Tensor]:
    """Yield cotangents, one for each example at a time; the squared norms of their pull-backs sum to the estimate.

    Random numbers are used example by example, and drawn on the host: it does not matter how examples are cut into
    batches, nor where they are. Nothing here waits for the device.

    Args:
        logits: (n, K), finite, float64.
        estimator: see `Estimator`.
        targets: (n,) in [0, K), for ``empirical`` only.
        rng: for ``model`` and ``sampled`` only.
        draws: to average over, for ``model`` and ``sampled`` only.

    Yields:
        (n, K), float64: `draws` of them for ``model`` and ``sampled``, K for ``exact``, one for ``empirical``.
    """
    n, classes = logits.shape
    p = logits.softmax(dim=1)
    if estimator == "model":
        signs = torch.from_numpy(rng.random((n, draws, classes)) < 0.5).to(logits.device).double().mul_(-2).add_(1)
        if logits.is_cuda or classes > _MOST_EIGENVECTORS:
            rooted = triangular(p[:, None], signs)
        else:
            rooted = torch.einsum("nij,ndj->ndi", _eigenroots(p), signs)
        yield from (rooted / draws**0.5).unbind(dim=1)
    elif estimator == "exact":
        for label in range(classes):
            yield p[:, label, None].sqrt() * (torch.eye(classes, dtype=p.dtype, device=p.device)[label] - p)
    elif estimator == "sampled":
        uniform = torch.from_numpy(rng.random((n, draws))).to(logits.device)
        labels = (uniform[:, :, None] >= p.cumsum(dim=1)[:, None, :-1]).sum(dim=2)
        for draw in range(draws):
            yield (one_hot(labels[:, draw], classes) - p) / draws**0.5
    else:
        assert targets is not None  # noqa: S101 - the caller has checked
        yield one_hot(targets, classes) - p


def _eigenroots(p: Tensor) -> Tensor:
    """Return U sqrt(L) for every example, where diag(p) - p p^T = U L U^T; (n, K) -> (n, K, K).

    An eigenvector's largest entry is made positive: LAPACK's choice of sign is arbitrary, and draws are to be paired.
    """
    covariance = -p[:, :, None] * p[:, None, :]
    diagonal = covariance.diagonal(dim1=1, dim2=2)
    diagonal.zero_()
    # Rows sum to 0; p - p^2 would cancel where p is near 1.
    diagonal.copy_(-covariance.sum(dim=2))
    values, vectors = torch.linalg.eigh(covariance)
    # Eigenvalues that are 0 (there is always one) come out as rounding, and its root would be no longer small.
    negligible = p.shape[1] * torch.finfo(p.dtype).eps * values.amax(dim=1, keepdim=True)
    values = torch.where(values < negligible, 0, values)
    largest = vectors.abs().argmax(dim=1, keepdim=True)
    roots: Tensor = vectors * vectors.gather(1, largest).sign() * values.sqrt()[:, None, :]
    return roots


def triangular(p: Tensor, signs: Tensor) -> Tensor:
    """Return R s, where R is the Cholesky factor of diag(p) - p p^T with the classes in order of falling p.

    The closed form is that of Tanabe and Sagae (1992), "An exact Cholesky decomposition and the generalized inverse of
    the variance-covariance matrix of the multinomial distribution": with q_i = 1 - p_1 - ... - p_i,
    R_ii = sqrt(p_i q_i / q_(i-1)) and R_ij = -p_i R_jj / q_j for i > j. So R s takes time K, and no decomposition.

    Args:
        p: (..., K), broadcast over `signs`.
        signs: (..., K), of +1 and -1, of the classes in order of falling p.

    Returns:
        (..., K), in the order of the classes.
    """
    ordered, order = p.sort(dim=-1, descending=True, stable=True)
    # Tails summed from the small end: 1 minus a sum near 1 would leave nothing of them.
    before = ordered.flip(-1).cumsum(dim=-1).flip(-1)
    after = torch.cat([before[..., 1:], torch.zeros_like(before[..., :1])], dim=-1)
    diagonal = torch.where(before > 0, ordered * (after / before), 0).sqrt() * signs
    slope = torch.where(after > 0, diagonal / after, 0).cumsum(dim=-1)
    rooted = diagonal - ordered * torch.cat([torch.zeros_like(slope[..., :1]), slope[..., :-1]], dim=-1)
    return torch.empty_like(rooted).scatter_(-1, order.expand_as(rooted), rooted)
