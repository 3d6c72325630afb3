"""`model.fold_batchnorm()`: the same predictions with the batch norms inside the dense layers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import fastnn as fnn

#: Of the largest output.
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def trained(layers: list[fnn.Layer], dtype: str, inputs: int = 20) -> fnn.Sequential:
    """A model whose parameters and running statistics are all away from where they start."""
    model = fnn.Sequential(layers, input_dim=inputs, dtype=dtype, seed=1)
    rng = np.random.default_rng(0)
    for name, array in model.state().items():
        if name.endswith("running_var"):
            array[...] = rng.uniform(0.01, 9.0, array.shape)
        elif not name.endswith("weight"):
            array[...] = rng.standard_normal(array.shape)
    return model


def kinds(model: fnn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


def assert_same_predictions(model: fnn.Sequential, folded: fnn.Sequential, x: np.ndarray) -> None:
    expected = model.forward(x, training=False)
    got = folded.forward(x, training=False)
    assert got.dtype == model.dtype
    allowed = TOLERANCE[str(model.dtype)] * np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=allowed)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((57, 20))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
def test_it_predicts_the_same(x: np.ndarray, dtype: str, bias: bool) -> None:
    layers = [
        *(fnn.Dense(50, bias=bias), fnn.BatchNorm(eps=1e-3), fnn.ReLU()),
        *(fnn.Dense(30, bias=bias), fnn.BatchNorm(), fnn.Tanh()),
        *(fnn.Dense(10, bias=bias), fnn.BatchNorm()),
    ]
    model = trained(layers, dtype)
    before = {name: array.copy() for name, array in model.state().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folded = model.fold_batchnorm()
    assert kinds(folded) == ["Dense", "ReLU", "Dense", "Tanh", "Dense"]
    assert_same_predictions(model, folded, x)
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, before[name])
        assert not any(np.may_share_memory(array, other) for other in folded.state().values())
    assert kinds(model)[1] == "BatchNorm" and model.layers[0].get_config()["bias"] is bias


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_cannot_be_folded_stays_and_is_named(x: np.ndarray, dtype: str) -> None:
    layers = [
        fnn.BatchNorm(),
        *(fnn.Dense(9), fnn.ReLU(), fnn.BatchNorm()),
        *(fnn.Dense(4), fnn.BatchNorm()),
    ]
    model = trained(layers, dtype)
    with pytest.warns(UserWarning, match="fold_batchnorm left") as caught:
        folded = model.fold_batchnorm()
    said = str(caught[0].message)
    assert "layer 0 (BatchNorm), because it is the first" in said
    assert "layer 3 (BatchNorm), because it follows ReLU" in said
    assert "layer 5" not in said
    assert caught[0].filename == __file__
    assert kinds(folded) == ["BatchNorm", "Dense", "ReLU", "BatchNorm", "Dense"]
    assert_same_predictions(model, folded, x)


def test_two_in_a_row_go_into_one_dense_layer(x: np.ndarray) -> None:
    model = trained([fnn.Dense(9), fnn.BatchNorm(), fnn.BatchNorm()], "float64")
    folded = model.fold_batchnorm()
    assert kinds(folded) == ["Dense"]
    assert_same_predictions(model, folded, x)


class Shifted(fnn.BatchNorm):
    """A user's own: what it computes is not known here."""

    def forward(self, x: np.ndarray, training: bool = True) -> np.ndarray:
        return super().forward(x, training) + 1


def test_a_batch_norm_of_the_users_own_stays(x: np.ndarray) -> None:
    model = trained([fnn.Dense(9), Shifted()], "float64")
    with pytest.warns(UserWarning, match=r"layer 1 \(Shifted\), because Shifted is a class of its"):
        folded = model.fold_batchnorm()
    assert_same_predictions(model, folded, x)


def test_a_model_without_batch_norm_is_copied(x: np.ndarray) -> None:
    model = trained([fnn.Dense(9), fnn.ReLU(), fnn.Dense(2)], "float32")
    folded = model.fold_batchnorm()
    np.testing.assert_array_equal(folded.forward(x, False), model.forward(x, False))


def test_the_folded_model_predicts_evaluates_and_is_saved(x: np.ndarray, tmp_path: Any) -> None:
    model = fnn.Sequential([fnn.Dense(16), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(2)], seed=0)
    y = (x[:, 0] > 0).astype(int)
    model.fit(x, y, epochs=5, batch_size=10, verbose=False)
    folded = model.fold_batchnorm()
    np.testing.assert_array_equal(folded.predict(x), model.predict(x))
    assert folded.evaluate(x, y)["accuracy"] == model.evaluate(x, y)["accuracy"]
    folded.save(tmp_path / "small.safetensors")
    again = fnn.load(tmp_path / "small.safetensors")
    np.testing.assert_array_equal(again.predict_proba(x), folded.predict_proba(x))


def test_a_model_that_is_not_built_says_so() -> None:
    with pytest.raises(RuntimeError, match="input_dim="):
        fnn.Sequential([fnn.Dense(3), fnn.BatchNorm()]).fold_batchnorm()
