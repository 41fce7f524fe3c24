"""Logit cotangents v for which the expectation of ||J^T v||^2 is the Fisher trace of an example.

J is the Jacobian of an example's logits with respect to the weights, p its class probabilities. The gradient of
log p_y is J^T (e_y - p). The trace, the expectation of its squared norm over labels y ~ p, is therefore tr(J^T C J)
with C = diag(p) - p p^T, and ||J^T v||^2 is unbiased for any v with E[v v^T] = C.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn.functional import one_hot

__all__ = ["Estimator", "cholesky_product", "cotangent_count", "cotangents"]

Estimator = Literal["model", "exact", "sampled", "empirical"]
"""``model``: random signs times a square root of C; ``exact``: the sum over classes; ``sampled``: labels sampled from
the model's own probabilities; ``empirical``: the true labels, which gives the trace of the empirical Fisher matrix."""

_MAX_EIGH_CLASSES = 64
"""The most classes for which C is decomposed: the cost grows with their cube and would exceed that of the network."""


def cotangent_count(estimator: Estimator, classes: int, draws: int) -> int:
    """Return the number of cotangents that `cotangents` yields; each needs one backward pass."""
    return {"model": draws, "sampled": draws, "exact": classes, "empirical": 1}[estimator]


def cotangents(
    logits: Tensor, estimator: Estimator, targets: Tensor | None, rng: Generator, draws: int
) -> Iterator[Tensor]:
    """Yield cotangents whose squared pull-back norms sum to the estimate of the trace, per example.

    Random numbers are drawn on the host, example by example, so the batch size and the device do not change them.
    Nothing here waits for the device.

    Args:
        logits: the logits, finite, float64 (n, K).
        estimator: the expectation over labels, see `Estimator`.
        targets: the true labels, (n,) in [0, K); for ``empirical`` only.
        rng: the random generator; for ``model`` and ``sampled`` only.
        draws: the number of random draws to average over; for ``model`` and ``sampled`` only.

    Yields:
        Float64 (n, K): `draws` cotangents for ``model`` and ``sampled``, K for ``exact``, one for ``empirical``.
    """
    n, classes = logits.shape
    p = logits.softmax(dim=1)
    if estimator == "model":
        signs = torch.from_numpy(rng.random((n, draws, classes)) < 0.5).to(logits.device).double().mul_(-2).add_(1)
        if logits.is_cuda or classes > _MAX_EIGH_CLASSES:
            products = cholesky_product(p[:, None], signs)
        else:
            products = torch.einsum("nij,ndj->ndi", _eigen_root(p), signs)
        yield from (products / draws**0.5).unbind(dim=1)
    elif estimator == "exact":
        for label in range(classes):
            yield p[:, label, None].sqrt() * (torch.eye(classes, dtype=p.dtype, device=p.device)[label] - p)
    elif estimator == "sampled":
        uniform = torch.from_numpy(rng.random((n, draws))).to(logits.device)
        labels = (uniform[:, :, None] >= p.cumsum(dim=1)[:, None, :-1]).sum(dim=2)
        for draw in range(draws):
            yield (one_hot(labels[:, draw], classes) - p) / draws**0.5
    else:
        assert targets is not None  # noqa: S101 - the caller has checked this
        yield one_hot(targets, classes) - p


def _eigen_root(p: Tensor) -> Tensor:
    """Return U sqrt(L) for each example, where diag(p) - p p^T = U L U^T; (n, K) -> (n, K, K).

    The largest entry of each eigenvector is made positive, because LAPACK's choice of sign is arbitrary and the random
    draws of two calls must be comparable.
    """
    covariance = -p[:, :, None] * p[:, None, :]
    diagonal = covariance.diagonal(dim1=1, dim2=2)
    diagonal.zero_()
    # Rows sum to 0. The equivalent p - p^2 would cancel where p is near 1.
    diagonal.copy_(-covariance.sum(dim=2))
    values, vectors = torch.linalg.eigh(covariance)
    # A zero eigenvalue (there is always one) is computed as a rounding error, whose square root is no longer small.
    negligible = p.shape[1] * torch.finfo(p.dtype).eps * values.amax(dim=1, keepdim=True)
    values = torch.where(values < negligible, 0, values)
    largest = vectors.abs().argmax(dim=1, keepdim=True)
    root: Tensor = vectors * vectors.gather(1, largest).sign() * values.sqrt()[:, None, :]
    return root


def cholesky_product(p: Tensor, signs: Tensor) -> Tensor:
    """Return R s, where R is the Cholesky factor of diag(p) - p p^T with the classes ordered by decreasing p.

    The closed form is that of Tanabe and Sagae (1992), "An exact Cholesky decomposition and the generalized inverse of
    the variance-covariance matrix of the multinomial distribution": with q_i = 1 - p_1 - ... - p_i,
    R_ii = sqrt(p_i q_i / q_(i-1)) and R_ij = -p_i R_jj / q_j for i > j. It needs time K and no decomposition.

    Args:
        p: the class probabilities, (..., K), broadcast over `signs`.
        signs: the numbers +1 and -1, (..., K), for the classes ordered by decreasing p.

    Returns:
        The product in the original order of the classes, (..., K).
    """
    ordered, order = p.sort(dim=-1, descending=True, stable=True)
    # The tails q are summed from the smallest p upwards: 1 minus a sum close to 1 would lose all their digits.
    before = ordered.flip(-1).cumsum(dim=-1).flip(-1)
    after = torch.cat([before[..., 1:], torch.zeros_like(before[..., :1])], dim=-1)
    diagonal = torch.where(before > 0, ordered * (after / before), 0).sqrt() * signs
    slope = torch.where(after > 0, diagonal / after, 0).cumsum(dim=-1)
    product = diagonal - ordered * torch.cat([torch.zeros_like(slope[..., :1]), slope[..., :-1]], dim=-1)
    return torch.empty_like(product).scatter_(-1, order.expand_as(product), product)
