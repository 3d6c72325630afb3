"""Losses as objects: targets, decisions, probabilities, and means over several batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fnn
from fastnn import functional, losses, reference

LOSSES = [
    fnn.SoftmaxCrossEntropy(),
    fnn.SoftmaxCrossEntropy(0.1, [1.0, 2.0, 0.5]),
    fnn.BinaryCrossEntropy(),
    fnn.MulticlassHinge(2.0),
    fnn.MeanSquaredError(),
    fnn.MeanAbsoluteError(),
    fnn.Huber(0.5),
]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=repr)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def targets_of(loss, rng, rows=7):
    if isinstance(loss, losses.Elementwise):
        return rng.random((rows, 3))
    return rng.integers(0, 3, rows)


@each_loss
def test_a_loss_is_its_operation(loss, rng):
    out = rng.standard_normal((7, 3))
    target = loss.prepare_targets(targets_of(loss, rng), 7, (3,), np.dtype("float64"))
    options = {k: np.array(v) if isinstance(v, list) else v for k, v in loss.get_config().items()}
    expected, slope = getattr(reference, loss.name)(out, target, **options)
    got, dout = loss.forward_backward(out, target)
    assert got == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(dout, slope, rtol=1e-12, atol=1e-15)


@each_loss
def test_a_name_and_the_settings_give_it_back(loss):
    assert losses.get(loss.name, loss.get_config()) == loss
    assert eval(repr(loss), vars(fnn)) == loss


@each_loss
def test_a_model_trains_on_it_and_says_what_it_has_learned(loss, rng):
    X = rng.standard_normal((2500, 4))
    y = X[:, :3].argmax(axis=1)
    if isinstance(loss, losses.Elementwise):
        y = (X[:, :3] > 0).astype(float)
    model = fnn.Sequential([fnn.Dense(16), fnn.Tanh(), fnn.Dense(3)], seed=0, dtype="float64")
    history = model.fit(X, y, loss=loss, optimizer=fnn.SGD(0.05, momentum=0.9), epochs=20)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    result = model.evaluate(X, y)
    # Over several chunks of rows: the mean is that over all of them.
    out = model.forward(X, training=False)
    target = loss.prepare_targets(y, len(X), (3,), model.dtype)
    assert len(list(model.chunks(len(X)))) == 1 or len(X) > 1024
    assert result["loss"] == pytest.approx(loss.forward_backward(out, target)[0], rel=1e-12)
    if loss.kind == "classification":
        right = (model.predict(X) == y).reshape(len(X), -1).all(axis=1)
        assert result["accuracy"] == right.mean() > 0.85
        assert history["accuracy"][-1] > 0.85
    else:
        assert "accuracy" not in result
        np.testing.assert_array_equal(model.predict(X), out)


def test_the_mean_over_chunks_weighs_with_the_classes(rng, monkeypatch):
    monkeypatch.setattr("fastnn.network.CHUNK_ROWS", (64, 64))
    X, y = rng.standard_normal((500, 4)), np.sort(rng.integers(0, 3, 500))
    for targets in (y, np.eye(3)[y]):
        model = fnn.Sequential([fnn.Dense(3)], input_dim=4, seed=0, dtype="float64")
        model.compile(fnn.SoftmaxCrossEntropy(class_weight=[1, 5, 25]))
        out = model.forward(X, training=False)
        weights = np.array([1.0, 5.0, 25.0])
        expected, _ = reference.softmax_cross_entropy(out, targets, class_weight=weights)
        assert model.evaluate(X, targets)["loss"] == pytest.approx(expected, rel=1e-12)


def test_shares_of_classes_are_taken_like_labels(rng):
    X, y = rng.standard_normal((64, 4)), rng.integers(0, 3, 64)
    results = []
    for targets in (y, np.eye(3)[y], np.eye(3, dtype=int)[y]):
        model = fnn.Sequential([fnn.Dense(3)], input_dim=4, seed=0, dtype="float64")
        history = model.fit(X, targets, epochs=3, batch_size=16, validation_data=(X, targets))
        results.append((history["loss"], history["accuracy"], history["val_accuracy"]))
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-12)


def test_one_model_takes_labels_and_shares_in_turn(rng):
    x, y = rng.standard_normal((8, 4)), rng.integers(0, 3, 8)
    model = fnn.Sequential([fnn.Dense(3)], input_dim=4, seed=0, dtype="float64")
    model.compile("softmax_cross_entropy", fnn.SGD(0.0), batch_size=8)
    by_label, by_share = model.train_on_batch(x, y), model.train_on_batch(x, np.eye(3)[y])
    assert by_label == pytest.approx(by_share, rel=1e-12)
    assert model.train_on_batch(x, y) == by_label


def test_one_output_decides_between_two_classes(rng):
    X = rng.standard_normal((300, 2))
    y = X[:, 0] > X[:, 1]
    model = fnn.Sequential([fnn.Dense(1)], seed=0, dtype="float64")
    model.fit(X, y, loss="binary_cross_entropy", optimizer=fnn.SGD(0.5), epochs=30)
    predicted, shares = model.predict(X), model.predict_proba(X)
    assert predicted.shape == (300,) and predicted.dtype == np.int64
    assert (predicted == y).mean() > 0.95
    assert shares.shape == (300, 2)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(shares.argmax(axis=1), predicted)


def test_scores_are_not_taken_for_probabilities(rng):
    model = fnn.Sequential([fnn.Dense(3)], input_dim=4, seed=0)
    model.compile("multiclass_hinge")
    assert model.predict(rng.standard_normal((5, 4))).shape == (5,)
    with pytest.raises(RuntimeError, match="no probabilities: use predict"):
        model.predict_proba(np.ones((5, 4)))


class Absolute:
    """No subclass of `Loss`, and nothing of weights."""

    name, kind = "absolute", "regression"

    def prepare_targets(self, y, n_rows, output_shape, dtype, name="y"):
        return np.asarray(y, dtype)

    def forward_backward(self, out, target):
        return float(np.abs(out - target).mean()), np.sign(out - target) / out.size


def test_a_loss_that_is_no_subclass_is_taken_as_it_is(rng):
    X = rng.standard_normal((64, 4))
    results = []
    for loss in (Absolute(), "mean_absolute_error"):
        model = fnn.Sequential([fnn.Dense(2)], input_dim=4, seed=0, dtype="float64")
        history = model.fit(X, X[:, :2], loss=loss, epochs=3, batch_size=16)
        results.append([*history["loss"], model.evaluate(X, X[:, :2])["loss"]])
        assert model.predict(X).shape == (64, 2)
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: fnn.SoftmaxCrossEntropy(1.5), ValueError, "label_smoothing must be in"),
        (lambda: fnn.SoftmaxCrossEntropy(class_weight=[1, 0]), ValueError, "above 0"),
        (lambda: fnn.SoftmaxCrossEntropy(class_weight=[1, np.nan]), ValueError, "finite"),
        (lambda: fnn.SoftmaxCrossEntropy(class_weight="balanced"), TypeError, "for each class"),
        (lambda: fnn.SoftmaxCrossEntropy(class_weight=[[1]]), TypeError, "for each class"),
        (lambda: fnn.MulticlassHinge(0.0), ValueError, "margin"),
        (lambda: fnn.Huber(-1.0), ValueError, "delta"),
        (lambda: losses.get("hinge"), ValueError, "unknown loss 'hinge'; there are softmax_cross"),
    ],
)
def test_wrong_settings_are_refused_at_once(make, error, match):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize(
    ("loss", "y", "match"),
    [
        (fnn.SoftmaxCrossEntropy(class_weight=[1, 2]), np.zeros(4, int), "2 weights.*3 outputs"),
        (fnn.SoftmaxCrossEntropy(), np.full((4, 3), 0.5), "sum to 1.*binary_cross_entropy"),
        (fnn.SoftmaxCrossEntropy(), np.full((4, 3), np.nan), "y holds nan"),
        (fnn.SoftmaxCrossEntropy(), np.eye(3), "3 rows.*4 samples"),
        (fnn.SoftmaxCrossEntropy(), np.eye(4), "one label per row"),
        (fnn.MulticlassHinge(), np.eye(3)[[0, 1, 2, 0]], r"argmax\(axis=1\)"),
        (fnn.MulticlassHinge(), np.array([0, 1, 2, 3]), "label 3 in row 3"),
        (fnn.BinaryCrossEntropy(), np.eye(4)[:, :3] * 2, r"holds \[2.0, 0.0, 0.0\] in row 0"),
        (fnn.BinaryCrossEntropy(), np.zeros(4), r"y has the shape \(4,\)"),
        (fnn.Huber(), np.full((4, 3), np.inf), "y holds inf"),
    ],
)
def test_wrong_targets_are_refused(loss, y, match):
    with pytest.raises(ValueError, match=match):
        loss.prepare_targets(y, 4, (3,), np.dtype("float64"))


# --- properties ----------------------------------------------------------------------------------

sizes = st.tuples(st.integers(1, 40), st.integers(1, 70))
seeds = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=60)
@given(sizes, seeds, st.sampled_from([1e-3, 1.0, 30.0]), st.floats(-50, 50))
def test_cross_entropy_does_not_see_a_shift(shape, seed, spread, shift):
    """Nor does its gradient, which sums to 0 in every row; and the loss is never negative."""
    rng = np.random.default_rng(seed)
    logits, labels = spread * rng.standard_normal(shape), rng.integers(0, shape[1], shape[0])
    loss, slope = functional.softmax_cross_entropy(logits, labels, label_smoothing=0.1)
    again, same = functional.softmax_cross_entropy(logits + shift, labels, label_smoothing=0.1)
    assert loss >= 0
    assert again == pytest.approx(loss, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(slope, same, atol=1e-12)
    np.testing.assert_allclose(slope.sum(axis=1), 0, atol=1e-13)


@settings(deadline=None, max_examples=60)
@given(sizes, seeds, st.floats(0.01, 10))
def test_hinge_and_huber_at_their_ends(shape, seed, edge):
    rng = np.random.default_rng(seed)
    x, t = 3 * rng.standard_normal((2, *shape))
    labels = rng.integers(0, shape[1], shape[0])
    _, slope = functional.multiclass_hinge(x, labels, margin=edge)
    np.testing.assert_allclose(slope.sum(axis=1), 0, atol=1e-12)
    # Scores apart by more than the margin cost nothing.
    x[np.arange(len(x)), labels] = x.max(axis=1) + 1.01 * edge
    loss, slope = functional.multiclass_hinge(x, labels, margin=edge)
    assert loss == 0 and not slope.any()
    # Huber with a wide edge is half the squared error, with a narrow one edge times the absolute.
    wide, _ = functional.huber(x, t, delta=1e6)
    assert wide == pytest.approx(functional.mean_squared_error(x, t)[0] / 2, rel=1e-12)
    narrow, _ = functional.huber(x, t, delta=1e-9)
    absolute = functional.mean_absolute_error(x, t)[0]
    assert narrow == pytest.approx(1e-9 * absolute, rel=1e-6, abs=1e-17)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3000), seeds, st.integers(0, 2**64 - 1), st.floats(0, 0.999))
def test_a_mask_does_not_depend_on_what_is_beside_it(size, seed, offset, p):
    """The first elements of a long array are those of a short one; the rate is about p."""
    x = np.ones(4 * size, np.float32)
    whole = functional.dropout(x, p, seed, offset)
    np.testing.assert_array_equal(
        functional.dropout(x[:size].copy(), p, seed, offset), whole[:size]
    )
    dropped = np.count_nonzero(whole == 0)  # one more or less is nothing where few are expected
    assert abs(dropped - x.size * p) < 6 * (np.sqrt(x.size * p * (1 - p)) + 1)


@settings(deadline=None, max_examples=60)
@given(sizes, seeds, st.integers(1, 12))
def test_maxout_is_the_maximum_and_puts_back_what_it_took(shape, seed, pieces):
    x = np.random.default_rng(seed).integers(-3, 3, (shape[0], shape[1] * pieces)).astype(float)
    y, which = functional.maxout(x, pieces)
    units = x.reshape(*shape, pieces)
    np.testing.assert_array_equal(y, units.max(axis=2))
    np.testing.assert_array_equal(which, units.argmax(axis=2))
    dx = functional.maxout_backward(y, which, pieces).reshape(units.shape)
    np.testing.assert_array_equal(dx.sum(axis=2), y)
    assert (np.count_nonzero(dx, axis=2) <= 1).all()
