from __future__ import annotations

import math

import numpy as np
import pytest

import fastnn as fnn
from fastnn import initializers
from fastnn.initializers import Constant, Glorot, He, Normal, Orthogonal, Xavier

D, H = 400, 300


def draw(initializer, shape=(D, H), seed=0):
    return initializers.draw(initializer, shape, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("initializer", "deviation"),
    [
        ("normal", 0.01),
        (Normal(0.3), 0.3),
        ("xavier", math.sqrt(1 / D)),
        ("lecun", math.sqrt(1 / D)),
        ("glorot", math.sqrt(2 / (D + H))),
        ("he", math.sqrt(2 / D)),
        (He(0.5), 0.5 * math.sqrt(2 / D)),
    ],
)
def test_the_spread_is_the_one_of_the_rule(initializer, deviation):
    values = draw(initializer)
    n = values.size
    assert abs(values.mean()) < 5 * deviation / math.sqrt(n)
    assert values.std() == pytest.approx(deviation, rel=5 / math.sqrt(2 * n))


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (20, 20)])
def test_orthogonal_rows_or_columns(shape):
    q = draw(Orthogonal(2.0), shape) / 2.0
    small = q.T @ q if shape[0] >= shape[1] else q @ q.T
    np.testing.assert_allclose(small, np.eye(min(shape)), atol=1e-12)


def test_orthogonal_is_uniform_over_signs():
    # Without turning the columns, Q of a 1 by 1 matrix would always be of one sign.
    signs = [draw("orthogonal", (1, 1), seed)[0, 0] for seed in range(40)]
    assert 8 < signs.count(1.0) < 32
    assert signs.count(1.0) + signs.count(-1.0) == 40


def test_constants():
    assert (draw("zeros") == 0).all()
    assert (draw("ones") == 1).all()
    assert (draw(0.01, (7,)) == 0.01).all()
    assert initializers.get(0.01) == initializers.get(np.float64(0.01)) == Constant(0.01)


@pytest.mark.parametrize("initializer", [Normal(), Xavier(2.0), Glorot(), He(), Orthogonal(), 0.25])
def test_config_gives_an_equal_initializer(initializer):
    config = initializers.to_config(initializer)
    assert initializers.get(config) == initializers.get(initializer)
    np.testing.assert_array_equal(draw(config, (5, 4)), draw(initializer, (5, 4)))


def test_any_callable_will_do():
    assert (draw(lambda shape, rng: np.full(shape, 3.0), (2, 2)) == 3).all()


@pytest.mark.parametrize(
    ("initializer", "error", "match"),
    [
        ("kaiming", ValueError, "unknown initializer 'kaiming'; there are normal, xavier"),
        (None, TypeError, "initializer is None"),
        (He, TypeError, "expected a name, a number or an object"),
        (True, TypeError, "initializer is True"),
        ({"name": "nobody"}, ValueError, "not the description of an initializer"),
        (lambda shape, rng: np.zeros(3), ValueError, r"returned the shape \(3,\), expected"),
        (lambda shape, rng: np.full(shape, np.nan), ValueError, "not finite"),
        (float("inf"), ValueError, "expected a finite number"),
    ],
)
def test_what_is_refused(initializer, error, match):
    with pytest.raises(error, match=match):
        draw(initializer)


def test_orthogonal_refuses_a_vector():
    with pytest.raises(ValueError, match="needs a matrix"):
        draw("orthogonal", (5,))


def weights(seed, dtype="float64", first="he"):
    model = fnn.Sequential(
        [fnn.Dense(6, initializer=first), fnn.Dense(5)], input_dim=4, seed=seed, dtype=dtype
    )
    return model.parameters()


def test_a_seed_gives_the_same_weights_in_both_dtypes():
    wide, narrow = weights(3), weights(3, "float32")
    for name, array in wide.items():
        np.testing.assert_array_equal(array, weights(3)[name])
        np.testing.assert_array_equal(array.astype(np.float32), narrow[name])
    assert (weights(4)["0.weight"] != wide["0.weight"]).all()


def test_layers_draw_independently():
    assert (weights(3, first="zeros")["1.weight"] == weights(3)["1.weight"]).all()
    assert not np.isin(weights(3)["1.weight"], weights(3)["0.weight"]).any()
