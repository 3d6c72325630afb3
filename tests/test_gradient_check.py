"""Gradient checks: that they pass what is right, find what is wrong, and tell kinks from errors."""

from __future__ import annotations

import time

import numpy as np
import pytest

import fastnn as fnn
from fastnn import layers
from fastnn.gradient_check import gradcheck
from fastnn.gradient_check.networks import NetworkPoint


def batch(rows=12, inputs=6, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, inputs)), rng.integers(0, classes, rows)


def network(*inner, inputs=6, classes=3, seed=0, **options):
    return fnn.Sequential([*inner, fnn.Dense(classes)], input_dim=inputs, seed=seed, **options)


class Scale(fnn.Layer):
    """A layer of a user's own; `spoil` makes a gradient wrong."""

    def __init__(self, spoil=""):
        self.spoil = spoil

    def build(self, input_shape):
        self.add_parameter("scale", input_shape, "ones")
        return input_shape

    def forward(self, x, training=True):
        self.x = x
        return x * self.parameters["scale"]

    def backward(self, dy):
        gradient = (dy * self.x).sum(axis=0)
        if self.spoil == "one element":
            gradient[3] *= 1 + 1e-5
        elif self.spoil == "mean":
            gradient /= len(dy)
        elif self.spoil == "sign":
            gradient = -gradient
        elif self.spoil == "nan":
            gradient[1] = np.nan
        self.gradients["scale"] = gradient
        return dy * (self.parameters["scale"] if self.spoil != "dx" else 2.0)


# --- what is right -------------------------------------------------------------------------------

RIGHT = [
    [fnn.Dense(9), fnn.BatchNorm(), fnn.ReLU()],
    [fnn.Dense(9), fnn.BatchNorm(), fnn.Tanh(), fnn.Dense(7), fnn.LeakyReLU(0.2)],
    [fnn.Maxout(8, pieces=3), fnn.Dense(5), fnn.ELU(0.7)],
    [fnn.Dense(9), fnn.HardTanh(), fnn.Dense(9), fnn.HardSwish(), fnn.Dense(9), fnn.ReLU6()],
    [fnn.Dense(9), fnn.SELU(), fnn.Dense(9), fnn.HardSigmoid(), fnn.Dense(9), fnn.GELU()],
    [fnn.Dense(9), fnn.Softplus(), fnn.Dense(9), fnn.SiLU(), fnn.LogSoftmax()],
    [Scale(), fnn.Dense(5, bias=False), fnn.Sigmoid(), Scale()],
    [fnn.Dense(9), fnn.Dropout(0.0), fnn.ReLU()],
]


@pytest.mark.parametrize("inner", RIGHT, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_right_gradients_pass(inner, dtype):
    fresh = [type(layer)(**layer.get_config()) for layer in inner]
    report = gradcheck(network(*fresh, dtype=dtype), *batch())
    assert report, report
    assert report.error < 1e-7 and report.checked + len(report.kinks) >= report.total
    assert report.step == 1e-5 and not report.worst
    assert "gradient check passed" in str(report)


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        ("softmax_cross_entropy", "labels"),
        (fnn.SoftmaxCrossEntropy(0.1, [1.0, 2.0, 3.0]), "labels"),
        ("multiclass_hinge", "labels"),
        ("mean_squared_error", "values"),
        ("mean_absolute_error", "values"),
        (fnn.Huber(0.5), "values"),
        ("binary_cross_entropy", "shares"),
    ],
    ids=str,
)
def test_every_loss(loss, targets):
    x, labels = batch()
    values = np.random.default_rng(1).standard_normal((len(x), 3))
    y = {"labels": labels, "values": values, "shares": 1 / (1 + np.exp(-values))}[targets]
    report = gradcheck(network(fnn.Dense(9), fnn.Tanh()), x, y, loss=loss)
    assert report and report.error < 1e-7, report


def test_a_network_as_it_predicts():
    model = network(fnn.Dense(9), fnn.BatchNorm(), fnn.Dropout(0.5), fnn.ReLU())
    x, y = batch()
    model.forward(x)
    assert gradcheck(model, x, y, training=False)


def test_large_inputs_are_curvature_not_an_error():
    # h² f'''/6 is far above rounding here: the third derivative grows with the cube of the input.
    x, y = batch()
    report = gradcheck(network(fnn.Dense(9), fnn.Tanh()), 30 * np.abs(x), y)
    assert report and not report.kinks, report
    assert report.error < 1e-7


def test_a_short_gradient_is_checked_with_longer_steps():
    x, _ = batch()
    model = network(fnn.Dense(9), fnn.Tanh())
    targets = model.forward(x) + 1e-4 * np.random.default_rng(2).standard_normal((len(x), 3))
    report = gradcheck(model, x, targets + 10, loss="mean_squared_error")
    assert report and report.error < 1e-7, report
    # A loss of 1,000 with a slope of 1e-6: rounding hides it at 1e-5.
    report = gradcheck(
        lambda t: 1e3 + 1e-6 * np.sin(t).sum(), lambda t: 1e-6 * np.cos(t), [0.3, 0.4]
    )
    assert report.step == 1e-3 and report, report
    assert "rounding" in str(report)


# --- the model is left as it is ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_of_the_model_changes(dtype):
    model = network(fnn.Dense(9), fnn.BatchNorm(), fnn.ReLU(), dtype=dtype)
    x, y = batch()
    out = model.forward(x)
    model.backward(np.ones_like(out))
    state = {name: array.copy() for name, array in model.state().items()}
    gradients = {name: array.copy() for name, array in model.gradients().items()}
    given = x.copy()
    assert gradcheck(model, x, y)
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)
    for name, array in model.gradients().items():
        np.testing.assert_array_equal(array, gradients[name], err_msg=name)
    np.testing.assert_array_equal(x, given)
    assert model.dtype == dtype and model.loss is None


def test_a_model_that_is_not_built_stays_so():
    model = fnn.Sequential([fnn.Dense(4), fnn.ReLU(), fnn.Dense(3)], seed=0)
    assert gradcheck(model, *batch())
    assert not model.built


# --- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", ["mean", "sign", "nan"])
def test_a_wrong_gradient_is_found_and_named(spoil):
    report = gradcheck(network(fnn.Dense(6), Scale(spoil)), *batch())
    assert not report
    assert {element.name for element in report.worst} == {"1.scale"}
    text = str(report)
    assert "FAILED" in text and "1.scale" in text and "by backward" in text
    worst = report.worst[0]
    assert f"{worst.gradient:.9g}" in text and f"{worst.difference:.9g}" in text


def test_the_worst_element_comes_first_with_both_values():
    x, y = batch()
    right = gradcheck(network(fnn.Dense(6), Scale()), x, y)
    report = gradcheck(network(fnn.Dense(6), Scale("sign")), x, y)
    assert right and report.differ == 6
    for element in report.worst:
        assert element.gradient == pytest.approx(-element.difference, rel=1e-6)
        assert element.error == pytest.approx(2, rel=1e-6)
    sizes = [abs(element.difference) for element in report.worst]
    assert sizes == sorted(sizes, reverse=True)


def test_a_wrong_dx_shows_in_the_parameters_before_it():
    report = gradcheck(network(fnn.Dense(6), Scale("dx"), fnn.Tanh()), *batch())
    assert {element.name for element in report.worst} == {"0.weight", "0.bias", "x"}


def test_a_wrong_dx_of_the_first_layer_shows_at_the_input():
    model = network(Scale("dx"), fnn.Tanh())
    report = gradcheck(model, *batch())
    assert not report and {element.name for element in report.worst} == {"x"}
    assert report.error < 1e-7  # of the parameters
    assert gradcheck(model, *batch(), inputs=False)


def test_a_tiny_error_in_one_element_of_a_large_model():
    model = network(fnn.Dense(120), fnn.BatchNorm(), fnn.Tanh(), Scale("one element"), inputs=60)
    report = gradcheck(model, *batch(inputs=60))
    assert not report and report.error < 1e-6  # the norm hardly sees it
    (worst,) = report.worst
    assert (worst.name, worst.index) == ("3.scale", (3,))
    assert worst.error == pytest.approx(1e-5, rel=0.01)


def test_a_wrong_layer_before_kinks_is_not_taken_for_a_kink():
    report = gradcheck(network(fnn.Dense(6), Scale("mean"), fnn.ReLU(), fnn.Maxout(5)), *batch())
    assert not report and {e.name for e in report.worst} == {"1.scale"} and report.differ == 6


# --- kinks ---------------------------------------------------------------------------------------


def beside_a_kink(activation):
    """A model and a batch where moving the first weight by 1e-5 passes a kink at 3e-6."""
    model = fnn.Sequential(
        [fnn.Dense(1, bias=False), activation, fnn.Dense(2)], input_dim=1, dtype="float64", seed=0
    )
    model.parameters()["0.weight"][:] = 1.0
    return model, np.array([[3e-6], [0.5], [-0.7]]), np.array([0, 1, 0])


@pytest.mark.parametrize(
    ("inner", "where"),
    [([fnn.Dense(40), fnn.ReLU()], "1 (ReLU)"), ([fnn.Maxout(40, 3)], "0 (Maxout)")],
    ids=["relu", "maxout"],
)
def test_kinks_beside_the_parameters_are_told_from_errors(inner, where):
    # With a step of 0.01 many elements pass a kink; all agree with a smaller one.
    report = gradcheck(network(*inner), *batch(), step=0.01)
    beside = [kink for kink in report.kinks if not kink.left_out]
    assert report, report
    assert len(beside) > 10 and {kink.where for kink in beside} == {where}
    assert report.checked == report.total
    assert "met a kink beside them" in str(report) and where in str(report)


def test_kinks_of_losses():
    x, y = batch()
    for loss, targets in (("multiclass_hinge", y), ("mean_absolute_error", np.zeros((len(x), 3)))):
        report = gradcheck(network(), x, targets, loss=loss, step=0.3)
        assert report and {kink.where for kink in report.kinks} == {"loss"}, report


def test_parameters_on_a_kink_are_left_out_and_counted():
    model = network(fnn.Dense(10), fnn.ReLU())  # biases are 0, and so is a row
    x, y = batch()
    x[0] = 0.0
    report = gradcheck(model, x, y)
    assert report, report
    left_out = [kink for kink in report.kinks if kink.left_out and kink.name == "0.bias"]
    assert len(left_out) == 10 and report.checked == report.total - 10
    assert "lie on a kink, where there is no derivative" in str(report)


def test_where_everything_lies_on_a_kink_nothing_is_shown():
    report = gradcheck(lambda t: np.maximum(t, 0).sum(), np.zeros(3), np.zeros(3))
    assert not report and "every element lies on a kink" in str(report)


def test_kinks_of_functions():
    def f(theta):
        return np.maximum(theta, 0).sum()

    theta = np.array([1.0, -2.0, 0.0, 4e-6])
    report = gradcheck(f, lambda t: (t > 0).astype(float), theta)
    assert report, report
    assert {(kink.index, kink.left_out) for kink in report.kinks} == {((2,), True), ((3,), False)}
    wrong = gradcheck(f, lambda t: np.where(t > 0, 1.0, -0.5), theta)
    assert {element.index for element in wrong.worst} == {(1,), (2,)}


# --- functions -----------------------------------------------------------------------------------


def test_a_function_and_its_gradient():
    a = np.random.default_rng(0).standard_normal((5, 5))

    def f(theta):
        return 0.5 * theta @ a @ theta + np.exp(theta).sum()

    def df(theta):
        return 0.5 * (a + a.T) @ theta + np.exp(theta)

    theta = np.linspace(-1, 2, 5)
    report = gradcheck(f, df, theta)
    assert report and report.error < 1e-7 and report.checked == 5
    assert gradcheck(f, df(theta), theta)
    wrong = gradcheck(f, lambda t: 0.5 * a @ t + np.exp(t), theta)
    assert not wrong and wrong.error > 1e-3
    np.testing.assert_array_equal(theta, np.linspace(-1, 2, 5))


def test_the_relative_error_is_the_formula():
    grad = np.array([3.0, 4.0])
    report = gradcheck(lambda t: (t**2).sum() / 2, grad + [0.0, 1.0], grad)
    assert report.error == pytest.approx(1 / ((5 + np.hypot(3, 5)) / 2), rel=1e-6)
    assert report.parameters[0].error == report.error


def test_parameters_by_name():
    theta = {"w": np.ones((2, 3)), "b": np.array(0.5)}

    def f(theta):
        return np.tanh(theta["w"].sum() * theta["b"]) ** 2

    def df(theta, wrong=1.0):
        y = np.tanh(theta["w"].sum() * theta["b"])
        slope = 2 * y * (1 - y**2)
        w = np.full((2, 3), slope * theta["b"])
        w[1, 2] *= wrong
        return {"w": w, "b": slope * theta["w"].sum()}

    assert gradcheck(f, df, theta)
    report = gradcheck(f, lambda t: df(t, 1.001), theta)
    assert [(e.name, e.index) for e in report.worst] == [("w", (1, 2))]


def test_large_and_small_parameters():
    scales = 10.0 ** np.arange(-6, 7)

    def f(theta):
        return np.sin(theta / scales).sum()

    assert gradcheck(f, lambda t: np.cos(t / scales) / scales, 0.7 * scales)
    wrong = np.cos(0.7) / scales
    wrong[-3] *= 1.01
    assert not gradcheck(f, wrong, 0.7 * scales)


def test_a_function_in_float32_is_found_out():
    def f(theta):
        return np.float32(np.exp(np.float32(theta))).sum(dtype=np.float32)

    report = gradcheck(f, np.exp, np.linspace(0, 1, 50))
    assert not report and "float32" in str(report)


def test_a_layer_in_float32_is_found_out():
    class Narrow(fnn.Layer):
        def forward(self, x, training=True):
            self.y = np.tanh(x.astype(np.float32))
            return self.y

        def backward(self, dy):
            return dy * (1 - self.y**2)

    report = gradcheck(network(fnn.Dense(9), Narrow()), *batch())
    assert not report and "float32" in report.trouble, report


# --- samples -------------------------------------------------------------------------------------


def test_a_sample_is_reproducible_and_has_some_of_each():
    model = network(fnn.Dense(100), fnn.BatchNorm(), fnn.ReLU(), inputs=50)
    x, y = batch(inputs=50)
    reports = [gradcheck(model, x, y, samples=300, seed=seed) for seed in (1, 1, 2)]
    assert all(reports) and str(reports[0]) == str(reports[1]) != str(reports[2])
    assert 300 <= reports[0].checked < 500 and reports[0].total == 5603
    assert all(p.checked >= min(20, np.prod(p.shape)) for p in reports[0].parameters)
    assert gradcheck(model, x, y, samples="all").checked == 5603


def test_large_models_are_sampled_by_default(monkeypatch):
    from importlib import import_module

    module = import_module("fastnn.gradient_check.entry")
    monkeypatch.setattr(module, "ALL_UP_TO", 50)
    monkeypatch.setattr(module, "SAMPLE", 40)
    report = gradcheck(network(fnn.Dense(40), fnn.ReLU()), *batch())
    assert report and 40 <= report.checked < report.total


def test_columns_of_a_large_dense_layer_are_moved_as_the_product_would(monkeypatch):
    model = network(fnn.Dense(100), fnn.BatchNorm(), fnn.Tanh(), inputs=200)
    x, y = batch(rows=32, inputs=200)
    point = NetworkPoint(model, x, y, fnn.SoftmaxCrossEntropy(), True, False)
    assert list(point._transposed) == [0]
    places = [(i, point.moved(i, 1e-3)) for i in (0, 7777, 20_000, 20_050)]
    point._transposed.clear()
    for i, (value, step) in places:
        assert point.moved(i, 1e-3) == (pytest.approx(value, rel=1e-14), step)


def test_a_dense_layer_that_does_something_else_is_not_shortened():
    model = network(fnn.Dense(100), inputs=200)
    model.layers[0].forward = lambda x, training=True: np.tanh(
        x @ model.layers[0].parameters["weight"]
    )
    x, y = batch(rows=32, inputs=200)
    point = NetworkPoint(
        network(fnn.Dense(100), inputs=200), x, y, fnn.SoftmaxCrossEntropy(), True, False
    )
    layer = point.model.layers[0]
    layer.forward = lambda x, training=True: np.tanh(x @ layer.parameters["weight"])
    assert not point._columns_agree(0)


@pytest.mark.slow
def test_the_whole_of_mnist_size_in_a_minute():
    model = fnn.Sequential(
        [fnn.Dense(100), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(10)], input_dim=784, seed=0
    )
    x, y = batch(rows=32, inputs=784, classes=10)
    started = time.process_time()
    report = gradcheck(model, x, y)
    assert report and report.checked == report.total == 79_710
    assert time.process_time() - started < 60


# --- what is refused -----------------------------------------------------------------------------


def test_active_dropout_is_refused_with_the_way_out():
    model = network(fnn.Dense(9), fnn.Dropout(0.5), fnn.ReLU())
    x, y = batch()
    with pytest.raises(
        ValueError, match=r"layer 1 \(Dropout\).*model.layers\[1\].p = 0.0.*training=False"
    ):
        gradcheck(model, x, y)
    model.layers[1].p = 0.0
    assert gradcheck(model, x, y)


def test_layers_that_draw_or_write_in_place_are_refused():
    class Noise(fnn.Layer):
        def forward(self, x, training=True):
            return x + np.random.default_rng().standard_normal(x.shape)

        def backward(self, dy):
            return dy

    class InPlace(fnn.Layer):
        def forward(self, x, training=True):
            x *= 2
            return x

        def backward(self, dy):
            return 2 * dy

    with pytest.raises(ValueError, match=r"layer 1 \(Noise\) returned two different outputs"):
        gradcheck(network(fnn.Dense(9), Noise()), *batch())
    with pytest.raises(ValueError, match=r"layer 1 \(InPlace\) changes its input in place"):
        gradcheck(network(fnn.Dense(9), InPlace()), *batch())


X, Y = batch()
MODEL = network(fnn.Dense(4))


def plus(theta):
    theta += 1
    return theta.sum()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: gradcheck(3), TypeError, "expected a model"),
        (lambda: gradcheck(), TypeError, "expected a model"),
        (lambda: gradcheck(MODEL), TypeError, r"^gradcheck\(model, x, y\): missing .* 'x'"),
        (lambda: gradcheck(MODEL, X, Y, sample=3), TypeError, "unexpected .* 'sample'"),
        (lambda: gradcheck(np.sum, np.ones(2)), TypeError, r"^gradcheck\(f, df, theta\): missing"),
        (lambda: gradcheck(np.sum, np.ones(2), X, loss="hinge"), TypeError, "unexpected .* 'loss'"),
        (lambda: gradcheck(MODEL, X, Y[:3]), ValueError, "x has 12 rows but y has 3"),
        (lambda: gradcheck(MODEL, X[:0], Y[:0]), ValueError, "x is empty"),
        (lambda: gradcheck(MODEL, X * np.nan, Y), ValueError, "x holds nan"),
        (lambda: gradcheck(MODEL, X, Y + 7), ValueError, "the label"),
        (lambda: gradcheck(MODEL, X, Y, loss="huberts"), ValueError, "huberts"),
        (lambda: gradcheck(MODEL, X, Y, samples=0), ValueError, "samples"),
        (lambda: gradcheck(MODEL, X, Y, samples="some"), TypeError, "samples"),
        (lambda: gradcheck(MODEL, X, Y, step=0), ValueError, "step"),
        (lambda: gradcheck(MODEL, X, Y, tolerance=-1), ValueError, "tolerance"),
        (
            lambda: gradcheck(lambda t: t, np.ones(2), np.ones(2)),
            TypeError,
            "expected a single number",
        ),
        (lambda: gradcheck(lambda t: np.nan, np.ones(2), np.ones(2)), ValueError, "f returned nan"),
        (lambda: gradcheck(np.sum, np.ones(3), np.ones(2)), ValueError, r"shape \(3,\) for theta"),
        (lambda: gradcheck(np.sum, np.ones(2), ["a", "b"]), TypeError, "theta holds text"),
        (lambda: gradcheck(np.sum, np.ones(0), np.ones(0)), ValueError, "theta is empty"),
        (lambda: gradcheck(np.sum, np.ones(2), np.full(2, np.inf)), ValueError, "theta holds inf"),
        (lambda: gradcheck(plus, np.ones(2), np.ones(2)), ValueError, "changes theta"),
        (
            lambda: gradcheck(lambda t: np.random.default_rng().normal(), np.ones(2), np.ones(2)),
            ValueError,
            "for the same theta",
        ),
    ],
)
def test_what_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_softmax_before_its_loss_still_has_right_gradients():
    model = fnn.Sequential([fnn.Dense(3), layers.Softmax()], input_dim=6, seed=0)
    assert gradcheck(model, *batch())
