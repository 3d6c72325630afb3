"""Principal components, whitening and ZCA, against NumPy's SVD and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn as fnn
from fastnn.preprocessing import PCA, ZCA, components
from fastnn.sources import BatchSource


def correlated(rows=400, columns=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, columns)) @ rng.standard_normal((columns, columns)) + 5


@pytest.mark.parametrize("source", [np.float32, np.float64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pca_is_the_svd(source, dtype):
    x = correlated().astype(source)
    pca = PCA(dtype=dtype).fit(x)
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    _, s, v = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(pca.variance, s**2 / len(x), rtol=1e-9)
    np.testing.assert_allclose(np.abs(pca.directions), np.abs(v), atol=1e-9)
    y = pca.transform(x)
    assert y.dtype == dtype
    wanted = centred @ pca.directions.T
    np.testing.assert_allclose(y, wanted, atol=1e-5 if "float32" in (dtype, x.dtype) else 1e-12)


def test_pca_agrees_with_scikit_learn():
    theirs = pytest.importorskip("sklearn.decomposition").PCA(3, svd_solver="full")
    x = correlated()
    ours = PCA(3, dtype="float64").fit(x).transform(x)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs.fit_transform(x)), atol=1e-10)


@pytest.mark.parametrize("make", [lambda **o: PCA(whiten=True, **o), ZCA])
def test_whitened_rows_have_the_covariance_1(make):
    x = correlated()
    y = make(epsilon=0, dtype="float64").fit(x).transform(x)
    np.testing.assert_allclose(np.cov(y.T, bias=True), np.eye(6), atol=1e-10)
    assert abs(y.mean()) < 1e-12
    damped = make(epsilon=1e-2, dtype="float64").fit(x).transform(x)
    variance = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    expected = np.sort(variance / (variance + 1e-2 * variance[-1]))
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(damped.T, bias=True)), expected, rtol=1e-8)


def test_zca_stays_closest_to_the_data():
    """Its matrix is symmetric, which of all whitening ones changes the rows least."""
    x = correlated()
    zca = ZCA(epsilon=0, dtype="float64").fit(x)
    assert np.abs(zca._matrix() - zca._matrix().T).max() < 1e-12
    pca = PCA(whiten=True, epsilon=0, dtype="float64").fit(x)
    centred = x - x.mean(axis=0)
    assert np.linalg.norm(zca.transform(x) - centred) < np.linalg.norm(pca.transform(x) - centred)


def test_a_far_off_mean_and_blocks_lose_nothing(monkeypatch):
    x = correlated(3000) * [1, 1e-3, 1, 1, 1, 1]
    near = PCA(dtype="float64").fit(x)
    monkeypatch.setattr(components, "BLOCK_ROWS", 7)
    monkeypatch.setattr(components, "BLOCK_ELEMENTS", 40)
    far = PCA(dtype="float64").fit(x + 1e4)
    np.testing.assert_allclose(far.variance, near.variance, rtol=1e-8)
    np.testing.assert_allclose(far.transform(x + 1e4), near.transform(x), atol=1e-6)
    batches = PCA(dtype="float64").fit(iter([x[:100], x[100:101], x[101:]]))
    np.testing.assert_allclose(batches.variance, near.variance, rtol=1e-10, atol=1e-13)
    blocks = near.transform(BatchSource([x[:50], x[50:]])).blocks()
    np.testing.assert_allclose(np.concatenate([b.x for b in blocks]), near.transform(x), atol=1e-12)


def test_how_many_components():
    x = correlated()
    everything = PCA().fit(x)
    assert PCA(2).fit(x).transform(x).shape == (400, 2)
    shares = np.cumsum(everything.variance) / everything.variance.sum()
    for share in (0.3, 0.9, 0.999999):
        kept = len(PCA(share).fit(x).variance)
        assert shares[kept - 1] >= share and (kept == 1 or shares[kept - 2] < share)


def test_fewer_rows_than_components():
    x = correlated(4, 10)
    pca = PCA().fit(x)
    assert pca.directions.shape == (3, 10)  # four points span three directions
    with pytest.raises(ValueError, match="5 components are asked for, but 4 rows of 10 columns"):
        PCA(5).fit(x)
    y = ZCA(epsilon=0, dtype="float64").fit(x).transform(x)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(
        np.linalg.eigvalsh(np.cov(y.T, bias=True))[-4:], [0, 1, 1, 1], atol=1e-9
    )


@pytest.mark.parametrize("make", [PCA, lambda: PCA(whiten=True, epsilon=0), lambda: ZCA(epsilon=0)])
def test_constant_columns_stay_out(make):
    x = np.column_stack([correlated(), np.full(400, 0.1), correlated(seed=1)[:, 0]])
    preprocessor = make().fit(x)
    assert len(preprocessor.variance) == 7
    x[:, 6] += 100  # only now
    np.testing.assert_allclose(
        preprocessor.transform(x), preprocessor.transform(x - np.eye(8)[6] * 100), atol=1e-5
    )


@pytest.mark.parametrize("make", [lambda: PCA(2), lambda: PCA(0.5, whiten=True), lambda: ZCA(1e-3)])
def test_it_comes_back_through_a_model_file(make, tmp_path):
    x = correlated()
    model = fnn.Sequential([fnn.Dense(2)], input_dim=2, seed=0)
    model.preprocessing = make().fit(x)
    model.save(tmp_path / "m.safetensors")
    loaded = fnn.load(tmp_path / "m.safetensors").preprocessing
    assert loaded.get_config() == model.preprocessing.get_config()
    np.testing.assert_array_equal(loaded.transform(x), model.preprocessing.transform(x))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: PCA().fit(np.ones((1, 3))), "at least 2 rows"),
        (lambda: PCA().fit(np.full((5, 3), 0.1)), "all rows are equal"),
        (lambda: ZCA().fit(np.array([[1.0, np.nan], [2.0, 3.0]])), "NaN in row 0, column 1"),
        (lambda: ZCA().fit(np.array([[1e300, 1], [-1e300, 2]])), "too large"),
        (lambda: PCA().fit(np.empty((0, 2))), "empty"),
        (lambda: PCA().fit(correlated()).transform(np.full((2, 6), np.inf)), "infinity in row 0"),
        (lambda: PCA().fit(correlated()).transform(np.ones((2, 5))), "5 columns, expected the 6"),
        (lambda: PCA(0), "components is 0"),
        (lambda: PCA(1.5), "components is 1.5"),
        (lambda: PCA(True), "components is True"),
        (lambda: ZCA(-1), "epsilon is -1"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
