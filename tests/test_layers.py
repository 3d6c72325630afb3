from __future__ import annotations

import inspect

import numpy as np
import pytest

import fastnn as fnn
from fastnn import functional, layers, reference
from fastnn.checks import parse_activation
from fastnn.layers import KNOWN

ACTIVATIONS = [
    layers.ReLU(),
    layers.LeakyReLU(0.2),
    layers.ELU(0.7),
    layers.Sigmoid(),
    layers.Tanh(),
    layers.SELU(),
    layers.Softplus(),
    layers.ReLU6(),
    layers.HardTanh(),
    layers.HardSigmoid(),
    layers.SiLU(),
    layers.GELU(),
    layers.GELU("tanh"),
    layers.HardSwish(),
]


def available(layer):
    if not hasattr(functional, layer.operation):
        pytest.skip(f"functional.{layer.operation} is not there yet")
    return type(layer)(**layer.get_config())


def relative(approx, exact):
    size = (np.linalg.norm(approx) + np.linalg.norm(exact)) / 2
    return np.linalg.norm(approx - exact) / size if size else 0.0


def check_gradients(model, x, training=True, limit=1e-7):
    """Central differences of sum(forward(x) · dy), for every parameter and for x."""
    dy = np.random.default_rng(5).standard_normal(model.forward(x, training).shape)
    dx = model.backward(dy)
    exact = {**{name: g.copy() for name, g in model.gradients().items()}, "x": dx}
    places = {**model.parameters(), "x": x}
    for name, array in places.items():
        approx = np.empty_like(array)
        for at in np.ndindex(array.shape):
            kept = array[at]
            array[at] = kept + 1e-5
            high = (model.forward(x, training) * dy).sum()
            array[at] = kept - 1e-5
            low = (model.forward(x, training) * dy).sum()
            array[at] = kept
            approx[at] = (high - low) / 2e-5
        assert relative(approx, exact[name]) < limit, name


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((9, 5))


# --- the layers of fastnn ------------------------------------------------------------------------


def test_dense_is_the_affine_map(x):
    model = fnn.Sequential([fnn.Dense(3, bias_init=0.5)], input_dim=5, dtype="float64", seed=0)
    w, b = model.parameters()["0.weight"], model.parameters()["0.bias"]
    assert w.shape == (5, 3) and (b == 0.5).all()
    np.testing.assert_allclose(model.forward(x), x @ w + b, rtol=1e-13)
    dy = np.random.default_rng(2).standard_normal((9, 3))
    np.testing.assert_allclose(model.backward(dy), dy @ w.T, rtol=1e-12)
    np.testing.assert_allclose(model.gradients()["0.weight"], x.T @ dy, rtol=1e-12)
    np.testing.assert_allclose(model.gradients()["0.bias"], dy.sum(axis=0), rtol=1e-12)


def test_dense_without_bias(x):
    model = fnn.Sequential([fnn.Dense(3, bias=False)], input_dim=5, dtype="float64", seed=0)
    assert list(model.parameters()) == ["0.weight"]
    check_gradients(model, x)


def test_batchnorm_follows_the_reference(x):
    model = fnn.Sequential([fnn.BatchNorm(momentum=0.3)], input_dim=5, dtype="float64")
    mean, var = np.zeros(5), np.ones(5)
    y, *_ = reference.batchnorm_forward(x, np.ones(5), np.zeros(5), mean, var, momentum=0.3)
    np.testing.assert_allclose(model.forward(x), y, rtol=1e-12)
    state = model.state()
    np.testing.assert_allclose(state["0.running_mean"], 0.3 * x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        state["0.running_var"], 0.7 + 0.3 * x.var(axis=0, ddof=1), rtol=1e-12
    )
    before = {name: array.copy() for name, array in state.items()}
    out = model.forward(x, training=False)
    expected = (x - before["0.running_mean"]) / np.sqrt(before["0.running_var"] + 1e-5)
    np.testing.assert_allclose(out, expected, rtol=1e-12)
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("training", [True, False])
def test_batchnorm_gradients_in_both_modes(x, training):
    model = fnn.Sequential([fnn.BatchNorm()], input_dim=5, dtype="float64")
    model.parameters()["0.gamma"][:] = np.linspace(0.5, 2, 5)
    model.state()["0.running_var"][:] = 3.0
    check_gradients(model, x, training)


def test_batchnorm_refuses_one_row_in_training_only():
    model = fnn.Sequential([fnn.Dense(4), fnn.BatchNorm()], input_dim=3, seed=0)
    with pytest.raises(ValueError, match=r"layer 1 \(BatchNorm\).*two rows or more"):
        model.forward(np.zeros((1, 3)))
    assert model.forward(np.zeros((1, 3)), training=False).shape == (1, 4)


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
def test_activations_are_their_operation(layer, x):
    layer = available(layer)
    model = fnn.Sequential([layer], input_dim=5, dtype="float64")
    expected = getattr(reference, layer.operation)(x, **layer.options)
    np.testing.assert_allclose(model.forward(x), expected, rtol=1e-12, atol=1e-15)
    check_gradients(model, x)
    name, options = parse_activation(layer.activation)
    assert (name, dict(options)) == (layer.operation, layer.options)


#: Hard sigmoid is linear for all that a batch norm makes of nine rows: the beta before it has no influence.
BENT = [layer for layer in ACTIVATIONS if not isinstance(layer, layers.HardSigmoid)]


@pytest.mark.parametrize("layer", BENT, ids=repr)
def test_a_whole_network_has_the_gradients_of_its_function(layer, x):
    model = fnn.Sequential(
        [fnn.Dense(6), fnn.BatchNorm(), available(layer), fnn.Dense(4), fnn.BatchNorm()],
        input_dim=5,
        dtype="float64",
        seed=0,
    )
    # The bias before a batch norm has no influence: its gradient is rounding, not a number.
    model.layers[0].parameters["bias"][:] = 0.0
    dy = np.random.default_rng(5).standard_normal(model.forward(x).shape)
    model.backward(dy)
    assert np.abs(model.gradients()["0.bias"]).max() < 1e-12
    smaller = fnn.Sequential(
        [
            fnn.Dense(6, bias=False),
            fnn.BatchNorm(),
            available(layer),
            fnn.Dense(4, bias=False),
            fnn.BatchNorm(),
        ],
        input_dim=5,
        dtype="float64",
        seed=0,
    )
    check_gradients(smaller, x)


@pytest.mark.parametrize(
    "layer",
    [
        fnn.Dense(7, "glorot", bias_init=0.01),
        fnn.Dense(3, bias=False),
        fnn.BatchNorm(0.2, 1e-3),
        fnn.Maxout(5, 3, "xavier", bias=False),
        fnn.Dropout(0.3),
        fnn.Softmax(),
        fnn.LogSoftmax(),
    ]
    + ACTIVATIONS,
    ids=repr,
)
def test_config_makes_a_twin(layer):
    twin = type(layer)(**layer.get_config())
    assert twin.get_config() == layer.get_config()
    assert repr(twin) == repr(layer)
    assert KNOWN[type(layer).__name__] is type(layer)


def test_repr_shows_what_is_not_the_default():
    assert repr(fnn.Dense(5)) == "Dense(5)"
    assert repr(fnn.Dense(5, bias=False)) == "Dense(5, bias=False)"
    assert repr(layers.LeakyReLU(0.2)) == "LeakyReLU(negative_slope=0.2)"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: fnn.Dense(0), "units"),
        (lambda: fnn.Dense(2.5), "units"),
        (lambda: fnn.Dense(3, "big"), "unknown initializer"),
        (lambda: fnn.BatchNorm(momentum=1.5), "momentum"),
        (lambda: fnn.BatchNorm(eps=0.0), "eps"),
        (lambda: layers.LeakyReLU(0.0), "negative_slope"),
        (lambda: layers.ELU(-1.0), "alpha"),
        (lambda: layers.GELU("tan"), "approximate"),
        (lambda: fnn.Dropout(1.0), r"p must be in \[0, 1\)"),
        (lambda: fnn.Dropout("half"), "p must be a number"),
        (lambda: fnn.Maxout(0), "units"),
        (lambda: fnn.Maxout(3, pieces=257), "pieces"),
    ],
)
def test_wrong_settings_are_refused_at_once(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()


def test_dense_wants_vectors():
    with pytest.raises(ValueError, match=r"rows of shape \(8, 8\); flatten them first"):
        fnn.Sequential([fnn.Dense(3)], input_dim=(8, 8))


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_maxout_is_the_maximum_of_affine_maps(x, pieces):
    model = fnn.Sequential([fnn.Maxout(3, pieces)], input_dim=5, dtype="float64", seed=0)
    model.parameters()["0.bias"][:] = np.linspace(-1, 1, 3 * pieces)
    z = x @ model.parameters()["0.weight"] + model.parameters()["0.bias"]
    np.testing.assert_allclose(model.forward(x), z.reshape(9, 3, pieces).max(axis=2), rtol=1e-12)
    check_gradients(model, x)


@pytest.mark.parametrize("layer", [fnn.Softmax, fnn.LogSoftmax])
def test_softmax_is_its_operation(layer, x):
    model = fnn.Sequential([layer()], input_dim=5, dtype="float64")
    expected = getattr(reference, layer.operation)(x)
    np.testing.assert_allclose(model.forward(x), expected, rtol=1e-12)
    check_gradients(model, x)


def dropouts(seed=0, **settings):
    stack = [fnn.Dropout(0.5), fnn.Dense(4), fnn.Dropout(0.5)]
    return fnn.Sequential(stack, input_dim=5, dtype="float64", seed=seed, **settings)


def test_dropout_scales_what_it_keeps(x):
    model = fnn.Sequential([fnn.Dropout(0.25)], input_dim=5, dtype="float64", seed=0)
    np.testing.assert_array_equal(model.forward(x, training=False), x)
    np.testing.assert_array_equal(model.backward(x), x)
    y = model.forward(x)
    kept = y != 0
    assert 0 < kept.sum() < x.size
    np.testing.assert_allclose(y[kept], x[kept] / 0.75, rtol=1e-15)
    np.testing.assert_array_equal(model.backward(x), y)


def test_every_training_pass_has_a_mask_of_its_own(x):
    model = dropouts()
    zeros = [(model.forward(np.ones((50, 5))) == 0) for _ in range(3)]
    assert all((a != b).any() for i, a in enumerate(zeros) for b in zeros[:i])
    # Nor are the masks of two layers the same, or those of two seeds.
    first, _, last = dropouts().layers
    assert first.random_key != last.random_key != dropouts(seed=1).layers[2].random_key
    again = dropouts()
    for mask in zeros:
        np.testing.assert_array_equal(again.forward(np.ones((50, 5))) == 0, mask)


def test_inference_draws_nothing(x):
    model = dropouts()
    model.compile("mean_squared_error")
    model.forward(x, training=False), model.predict(x), model.evaluate(x, np.zeros((9, 4)))
    assert [layer.training_passes for layer in model.layers] == [0, 0, 0]


# --- a layer of one's own ------------------------------------------------------------------------


class Scale(fnn.Layer):
    """Takes no super().__init__(), keeps what it wants, assigns its gradients."""

    def __init__(self, start=1.0, *, name_of_scale="scale"):
        self.start = start
        self.key = name_of_scale

    def build(self, input_shape):
        self.add_parameter(self.key, input_shape, self.start)
        return input_shape

    def forward(self, x, training=True):
        self.x = x
        return x * self.parameters[self.key]

    def backward(self, dy):
        self.gradients[self.key] = (dy * self.x).sum(axis=0)
        return dy * self.parameters[self.key]


def built(layer, dtype="float64"):
    return fnn.Sequential([layer], input_dim=5, dtype=dtype, seed=0)


def test_own_layer_has_parameters_gradients_and_config(x):
    layer = Scale(2.0, name_of_scale="s")
    model = fnn.Sequential([layer, fnn.Dense(2)], input_dim=5, dtype="float64", seed=0)
    assert (model.parameters()["0.s"] == 2.0).all()
    check_gradients(model, x)
    assert layer.get_config() == {"start": 2.0, "name_of_scale": "s"}
    assert repr(layer) == "Scale(start=2.0, name_of_scale='s')"


def test_assigning_writes_into_the_view():
    model = built(Scale())
    view = model.parameters()["0.scale"]
    model.layers[0].parameters["scale"] = np.arange(5.0)
    assert view.tolist() == [0, 1, 2, 3, 4]
    model.layers[0].parameters["scale"] += 1
    assert view.tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"'scale' has the shape \(5,\), got \(4,\)"):
        model.layers[0].parameters["scale"] = np.zeros(4)
    with pytest.raises(KeyError, match="add_parameter"):
        model.layers[0].gradients["other"] = np.zeros(5)


def test_gradients_may_be_added_to_or_left_out(x):
    class Adds(Scale):
        def backward(self, dy):
            self.gradients[self.key] += (dy * self.x).sum(axis=0)
            return dy * self.parameters[self.key]

    class LeavesOut(Scale):
        def backward(self, dy):
            return dy * self.parameters[self.key]

    model, lazy = built(Adds()), built(LeavesOut())
    for _ in range(2):
        check_gradients(model, x)
        lazy.forward(x)
        lazy.backward(x)
        assert (lazy.gradients()["0.scale"] == 0).all()


def test_another_dtype_or_layout_is_converted(x):
    class Careless(fnn.Layer):
        def forward(self, x, training=True):
            return np.asfortranarray(x.astype(np.float64))

        def backward(self, dy):
            return np.asfortranarray(dy.astype(np.float64))

    model = fnn.Sequential([Careless(), fnn.Dense(2), Careless()], input_dim=5, seed=0)
    out = model.forward(x)
    assert out.dtype == np.float32 and out.flags.c_contiguous
    dx = model.backward(out)
    assert dx.dtype == np.float32 and dx.flags.c_contiguous


@pytest.mark.parametrize(
    ("returned", "match"),
    [(None, "returned None"), (np.zeros((9, 4)), r"returned the shape \(9, 4\)")],
)
@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_wrong_result_is_named(x, method, returned, match):
    class Wrong(Scale):
        pass

    setattr(Wrong, method, lambda self, *_: returned)
    model = built(Wrong())
    with pytest.raises(ValueError, match=rf"{method} of layer 0 \(Wrong\) {match}.*\(9, 5\)"):
        model.backward(model.forward(x))


def test_forward_never_hands_out_the_input(x):
    class Nothing(fnn.Layer):
        def forward(self, x, training=True):
            return x

        def backward(self, dy):
            return dy

    model = built(Nothing())
    out = model.forward(x)
    assert not np.shares_memory(out, x)
    assert not np.shares_memory(model.backward(out), out)


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda self, shape: None, TypeError, r"build of layer 0 \(Scale\) returned None"),
        (lambda self, shape: self.add_parameter("a.b", 3), ValueError, "without a dot"),
        (lambda self, shape: self.add_parameter("a", (0,)), ValueError, "at least 1"),
        (lambda self, shape: self.add_parameter("a", "x"), TypeError, "whole numbers"),
        (
            lambda self, shape: [self.add_parameter("a", 3), self.add_buffer("a", 3)],
            ValueError,
            "declares 'a' twice",
        ),
    ],
)
def test_a_wrong_build_is_named(monkeypatch, build, error, match):
    monkeypatch.setattr(Scale, "build", build)
    with pytest.raises(error, match=match):
        built(Scale())


def test_arguments_without_names_need_a_get_config():
    class Many(fnn.Layer):
        def __init__(self, *sizes):
            self.sizes = sizes

    with pytest.raises(TypeError, match="get_config"):
        Many(1, 2).get_config()
    assert repr(Many(1, 2)) == "Many(…)"


@pytest.mark.parametrize(
    ("stack", "error", "match"),
    [
        ([], ValueError, "layers is empty"),
        ([fnn.Dense], TypeError, r"layer 0 is the class Dense: make one of it"),
        ([fnn.Dense(2), "relu"], TypeError, "layer 1 is 'relu'"),
        (fnn.Dense(2), TypeError, "expected a list of layers"),
        ([*[fnn.ReLU()] * 2], ValueError, "stands in a model already"),
    ],
)
def test_what_is_not_a_list_of_layers_is_refused(stack, error, match):
    with pytest.raises(error, match=match):
        fnn.Sequential(stack)


def test_a_layer_has_one_place():
    layer = fnn.Dense(2)
    fnn.Sequential([layer])
    with pytest.raises(ValueError, match="stands in a model already"):
        fnn.Sequential([layer])


def test_public_layers_are_documented():
    for layer in KNOWN.values():
        assert inspect.getdoc(layer)
