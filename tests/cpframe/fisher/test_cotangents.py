"""Cotangents: their second moment is the covariance of the labels, and each estimator yields those it defines."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from cpframe.fisher.cotangents import cholesky_product, cotangent_count, cotangents

LOGITS = np.random.default_rng(1).normal(size=(3, 5)) * np.array([[0.1], [1.0], [6.0]])  # flat, usual, confident


def covariance(logits):
    """diag(p) - p p^T of every row, (n, K) -> (n, K, K)."""
    p = softmax(logits, axis=1)
    return np.stack([np.diag(row) - np.outer(row, row) for row in p])


def drawn(estimator, logits=LOGITS, targets=None, seed=0, draws=1):
    labels = None if targets is None else torch.from_numpy(targets)
    found = list(cotangents(torch.from_numpy(logits), estimator, labels, np.random.default_rng(seed), draws))
    assert len(found) == cotangent_count(estimator, logits.shape[1], draws)
    return torch.stack(found).numpy()


def test_exact_sums_to_the_covariance():
    v = drawn("exact")
    assert v.shape == (5, 3, 5)
    np.testing.assert_allclose(np.einsum("rni,rnj->nij", v, v), covariance(LOGITS), rtol=0, atol=1e-15)  # rounding


@pytest.mark.parametrize("estimator", ["model", "sampled"])
def test_the_second_moment_of_many_draws_is_the_covariance(estimator):
    draws = 40_000
    v = drawn(estimator, draws=draws) * np.sqrt(draws)
    products = np.einsum("rni,rnj->rnij", v, v)
    error = products.std(axis=0) / np.sqrt(draws)
    difference = np.abs(products.mean(axis=0) - covariance(LOGITS))
    # 75 entries, 45 of them distinct: above 4.5 standard errors by chance once in 3,000 seeds; 1e-12 is for entries
    # without noise.
    assert (difference <= 4.5 * error + 1e-12).all()
    # The test has power: an entry of the largest size would not pass if it were a tenth too large.
    main = covariance(LOGITS).max(axis=(1, 2))
    assert (0.1 * main > 4.5 * error.max(axis=(1, 2))).all()


def test_model_draws_have_the_norm_of_the_covariance():
    """||U sqrt(L) s||^2 = sum of L = tr C, for all signs: the reason for the low noise."""
    v = drawn("model", draws=7) * np.sqrt(7)
    trace = np.trace(covariance(LOGITS), axis1=1, axis2=2)
    np.testing.assert_allclose((v**2).sum(axis=2), np.tile(trace, (7, 1)), rtol=1e-12)  # rounding


def test_model_draws_follow_a_renaming_of_the_classes():
    """Eigenvectors have arbitrary signs; unless these are fixed, the same draws give different results per platform."""
    order = np.array([3, 1, 4, 0, 2])
    # Rounding, times the inverse of the smallest distance between eigenvalues, about 1e-3 here.
    np.testing.assert_allclose(drawn("model", logits=LOGITS[:, order]), drawn("model")[..., order], rtol=0, atol=1e-10)


def test_sampled_draws_are_labels_less_the_prediction():
    draws = 2_000
    v = drawn("sampled", draws=draws) * np.sqrt(draws)
    p = softmax(LOGITS, axis=1)
    labels = v + p
    assert np.allclose(labels.max(axis=2), 1)
    assert np.allclose(labels.sum(axis=2), 1)
    error = np.sqrt(p * (1 - p) / draws)
    # 15 frequencies: 4.5 standard errors are passed by chance once in 10,000 seeds; 1 / draws allows for a rare class
    # that is drawn once.
    assert (np.abs(labels.mean(axis=0) - p) <= 4.5 * error + 1 / draws).all()


def test_empirical_takes_the_labels_given():
    targets = np.array([4, 0, 2])
    (v,) = drawn("empirical", targets=targets)
    np.testing.assert_allclose(v, np.eye(5)[targets] - softmax(LOGITS, axis=1), rtol=0, atol=1e-15)  # rounding


@pytest.mark.parametrize("estimator", ["model", "sampled"])
def test_how_examples_are_cut_into_batches_does_not_matter(estimator):
    rng = np.random.default_rng(0)
    parts = [
        torch.stack(list(cotangents(torch.from_numpy(some), estimator, None, rng, 3)))
        for some in (LOGITS[:2], LOGITS[2:])
    ]
    np.testing.assert_array_equal(torch.cat(parts, dim=1), drawn(estimator, draws=3))


@pytest.mark.parametrize("estimator", ["model", "exact", "sampled"])
def test_certain_predictions_have_none(estimator):
    v = drawn(estimator, logits=np.array([[0.0, 2000.0, -2000.0]]))
    np.testing.assert_array_equal(v, 0)


def test_the_triangular_root_is_a_root():
    """With unit vectors in place of signs the product is the columns of R, and R R^T is the covariance for any p."""
    p = torch.from_numpy(softmax(LOGITS, axis=1))
    columns = cholesky_product(p[:, None], torch.eye(5, dtype=torch.float64).expand(3, 5, 5))
    np.testing.assert_allclose(columns.mT @ columns, covariance(LOGITS), rtol=0, atol=1e-15)  # rounding


def test_the_triangular_root_is_the_cholesky_factor():
    """The factor of the leading block, for the whole matrix is singular; against LAPACK, with decreasing p."""
    p = np.sort(softmax(LOGITS[1]))[::-1].copy()
    columns = cholesky_product(torch.from_numpy(p), torch.eye(5, dtype=torch.float64))
    block = np.linalg.cholesky((np.diag(p) - np.outer(p, p))[:4, :4])
    np.testing.assert_allclose(columns[:4, :4].T, block, rtol=1e-12, atol=1e-15)  # rounding


def test_the_triangular_root_keeps_small_tails():
    """Probabilities down to 1e-300: differences from 1 would be 0."""
    p = torch.tensor([1 - 1e-15, 1e-15, 1e-200, 1e-300, 0], dtype=torch.float64)
    columns = cholesky_product(p, torch.eye(5, dtype=torch.float64))
    assert torch.isfinite(columns).all()
    np.testing.assert_allclose(columns.square().sum(dim=0)[1:], p[1:], rtol=1e-12)  # the diagonal of C: p (1 - p)


def test_a_thousand_classes_take_the_triangular_root():
    logits = np.random.default_rng(0).normal(size=(2, 1000))
    signs = torch.where(torch.from_numpy(np.random.default_rng(0).random((2, 1, 1000)) < 0.5), -1.0, 1.0).double()
    expected = cholesky_product(torch.from_numpy(softmax(logits, axis=1))[:, None], signs)[:, 0]
    np.testing.assert_allclose(drawn("model", logits=logits)[0], expected, rtol=1e-10, atol=1e-18)  # rounding


def test_many_classes_with_equal_probabilities():
    """All eigenvalues but one are equal: any basis will do, and the sum of squares is 1 - 1/K."""
    v = drawn("model", logits=np.zeros((1, 60)))
    np.testing.assert_allclose((v**2).sum(), 1 - 1 / 60, rtol=1e-12)  # rounding
