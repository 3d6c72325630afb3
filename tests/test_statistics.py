"""Statistics of the activations: the numbers, and that the model is left as it is."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import fastnn as fnn
from fastnn.statistics import activation_statistics

X = np.random.default_rng(0).standard_normal((300, 20))


def build(*layers, dtype="float64", seed=0):
    return fnn.Sequential(list(layers), input_dim=20, dtype=dtype, seed=seed)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_are_those_of_the_outputs(dtype):
    model = build(fnn.Dense(200), fnn.BatchNorm(), fnn.Tanh(), fnn.Dense(3), dtype=dtype)
    statistics = activation_statistics(model, X + 5)
    outputs = model.forward_all((X + 5).astype(dtype), training=True)
    assert len(statistics) == 4 and statistics.rows == 300
    for s, y in zip(statistics, outputs, strict=True):
        wide = y.astype(np.float64)
        assert s.mean == pytest.approx(wide.mean(), rel=1e-12, abs=1e-15)
        assert s.std == pytest.approx(wide.std(), rel=1e-12)
        assert (s.minimum, s.maximum) == (y.min(), y.max())
        counts, edges = np.histogram(wide, 60)
        np.testing.assert_allclose(s.edges, edges, rtol=1e-12, atol=1e-15)
        assert s.counts.sum() == y.size
        assert np.abs(s.counts - counts).sum() <= 4  # values on an edge
    assert [s.label for s in statistics] == ["0 (Dense)", "1 (BatchNorm)", "2 (Tanh)", "3 (Dense)"]


def test_nothing_of_the_model_changes():
    model = build(fnn.Dense(9), fnn.BatchNorm(), fnn.Dropout(0.5), fnn.ReLU(), fnn.Maxout(4))
    out = model.forward(X)
    dx = model.backward(np.ones_like(out))
    model.forward(X)
    state = {name: array.copy() for name, array in model.state().items()}
    passes = model.layers[2].training_passes
    activation_statistics(model, 3 * X[:50])
    assert model.layers[2].training_passes == passes
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, state[name])
    model.backward(np.ones_like(out))  # of the pass before the statistics
    model.layers[2].training_passes = 0
    model.forward(X)
    np.testing.assert_array_equal(model.backward(np.ones_like(out)), dx)


def test_batch_norm_by_these_rows_or_as_it_predicts():
    model = build(fnn.BatchNorm())
    assert activation_statistics(model, 7 * X + 3)[0].std == pytest.approx(1, rel=1e-3)
    assert activation_statistics(model, 7 * X + 3, training=False)[0].std == pytest.approx(
        7, rel=0.1
    )


@pytest.mark.parametrize(
    ("layer", "saturated"),
    [
        (fnn.Tanh(), lambda z: np.abs(np.tanh(z)) > np.sqrt(0.95)),
        (fnn.Sigmoid(), lambda z: np.abs(np.tanh(z / 2)) > np.sqrt(0.95)),
        (fnn.HardTanh(), lambda z: np.abs(z) >= 1),
        (fnn.HardSigmoid(), lambda z: np.abs(z) >= 3),
        (fnn.ReLU6(), lambda z: z >= 6),
        (fnn.ELU(), lambda z: np.exp(z) < 0.05),
        (fnn.ELU(0.5), lambda z: 0.5 * np.exp(z) < 0.05),
        (fnn.ELU(2.0), lambda z: np.exp(z) < 0.05),
        (fnn.SELU(), lambda z: np.exp(z) < 0.05),
    ],
    ids=lambda value: repr(value) if isinstance(value, fnn.Layer) else "",
)
def test_saturated_values(layer, saturated):
    z = 4 * X
    (s,) = activation_statistics(build(layer), z)
    assert s.saturated == pytest.approx(saturated(z).mean(), abs=0.002)
    assert s.saturated > 0.02 and s.dead == 0.0


@pytest.mark.parametrize(
    "layer", [fnn.ReLU(), fnn.LeakyReLU(), fnn.GELU(), fnn.Softplus()], ids=repr
)
def test_rectifiers_do_not_saturate(layer):
    assert activation_statistics(build(layer), X)[0].saturated is None


@pytest.mark.parametrize(
    ("layer", "shift", "dead"),
    [
        (fnn.ReLU(), -10, 0.25),
        (fnn.ReLU(), 10, 0.0),
        (fnn.LeakyReLU(), -10, 0.0),
        (fnn.Tanh(), 20, 0.25),
        (fnn.Tanh(), -20, 0.25),
        (fnn.HardTanh(), -10, 0.25),
        (fnn.ELU(), -30, 0.25),
    ],
    ids=repr,
)
def test_dead_units(layer, shift, dead):
    z = X.copy()
    z[:, :5] += shift  # a quarter of the units
    assert activation_statistics(build(layer), z)[0].dead == dead


def test_dead_pieces_of_a_maxout():
    model = build(fnn.Maxout(4, pieces=2))
    model.parameters()["0.bias"][[0, 2]] = 1000.0  # the other pieces of two units never win
    (s,) = activation_statistics(model, X)
    assert s.dead == 2 / 8 and s.saturated is None


def test_a_small_positive_bias_keeps_relus_alive():
    def dead(bias_init):
        layers = [fnn.Dense(50, "zeros", bias_init=bias_init), fnn.ReLU()]
        return activation_statistics(build(*layers), X)[1].dead

    assert dead(0.0) == 1.0 and dead(0.01) == 0.0


def test_layers_without_either():
    for s in activation_statistics(build(fnn.Dense(4), fnn.BatchNorm(), fnn.Softmax()), X):
        assert s.saturated is None and s.dead is None


def test_a_layer_of_a_users_own():
    class Twice(fnn.Layer):
        def build(self, input_shape):
            self.add_buffer("seen", (1,))
            return input_shape

        def forward(self, x, training=True):
            self.buffers["seen"][...] += len(x)
            return (2 * x).astype(np.float32).T.copy().T

    model = build(Twice())
    (s,) = activation_statistics(model, X)
    assert s.label == "0 (Twice)" and s.std == pytest.approx(2 * X.std(), rel=1e-5)
    assert model.state()["0.seen"] == 0


def test_printed_as_a_table():
    text = str(activation_statistics(build(fnn.Dense(30), fnn.ReLU()), X))
    heading, dense, relu = text.splitlines()
    assert heading.split() == ["layer", "mean", "std", "saturated", "dead"]
    assert dense.split()[:2] == ["0", "(Dense)"] and dense.split()[4:] == ["–", "–"]
    assert relu.split()[:2] == ["1", "(ReLU)"] and relu.endswith("0.0%")
    assert len({len(line) for line in (heading, relu)}) == 1


def test_only_the_activations():
    statistics = activation_statistics(build(fnn.Dense(3), fnn.ReLU(), fnn.Maxout(2)), X)
    assert [s.kind for s in statistics.activations()] == ["ReLU", "Maxout"]
    assert [s.kind for s in statistics[1:]] == ["ReLU", "Maxout"]
    assert len(activation_statistics(build(fnn.Dense(3)), X).activations()) == 1


def test_csv(tmp_path):
    activation_statistics(build(fnn.Dense(3), fnn.Tanh()), X).to_csv(tmp_path / "a.csv")
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == ["Dense", "Tanh"]
    assert rows[0]["dead"] == "" and float(rows[1]["dead"]) == 0.0


@pytest.mark.parametrize("value", [0.0, 3.0, 1e300, -1e300])
def test_histogram_of_equal_values(value):
    (s,) = activation_statistics(build(fnn.BatchNorm()), np.full((5, 20), value), training=False)
    assert s.counts.sum() == 100 and np.isfinite(s.edges).all() and (np.diff(s.edges) > 0).all()


def test_values_that_are_not_finite_are_left_out_of_the_histogram():
    model = build(fnn.Dense(4, initializer=1e308), fnn.Dense(2, "zeros"))
    with np.errstate(all="ignore"):
        first, second = activation_statistics(model, X)
    assert not np.isfinite(first.mean) and np.isfinite(first.edges).all()
    assert first.counts.sum() < 4 * 300 and np.isnan(second.mean) and second.counts.sum() < 600


def test_the_largest_range_of_float64():
    x = np.array([[-1.7e308] * 20, [1.7e308] * 20])
    (s,) = activation_statistics(build(fnn.Dropout(0.0)), x)
    assert s.counts[0] == s.counts[-1] == 20 and np.isfinite(s.edges).all()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: activation_statistics(None, X), TypeError, "expected a fastnn.Sequential"),
        (lambda: activation_statistics(build(fnn.ReLU()), X[:0]), ValueError, "x is empty"),
        (
            lambda: activation_statistics(build(fnn.ReLU()), X[:, :3]),
            ValueError,
            "3 values per row",
        ),
        (lambda: activation_statistics(build(fnn.ReLU()), X * np.inf), ValueError, "x holds"),
        (lambda: activation_statistics(build(fnn.ReLU()), X, bins=0), ValueError, "bins"),
        (lambda: activation_statistics(build(fnn.BatchNorm()), X[:1]), ValueError, "no variance"),
    ],
)
def test_what_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


# --- pictures ------------------------------------------------------------------------------------


def test_picture(tmp_path):
    pytest.importorskip("matplotlib")
    from fastnn import plots

    statistics = activation_statistics(build(fnn.Dense(30), fnn.ReLU(), fnn.Dense(3)), X)
    figure = statistics.plot(tmp_path / "a.png", title="a network")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert figure.get_suptitle() == "a network"
    assert [axes.get_xlabel() for axes in figure.axes] == [s.label for s in statistics]
    limits = {axes.get_xlim() for axes in figure.axes}
    assert len(limits) == 1  # so that a shrinking spread shows
    both = {"one": statistics, "two": statistics}
    rows = plots.activation_histograms(both, names=["a", "b", "c"])
    assert len(rows.axes) == 6
    assert [a.get_title(loc="left") for a in rows.axes if a.get_title(loc="left")] == ["one", "two"]
    with pytest.raises(ValueError, match="2 names for 3 layers"):
        plots.activation_histograms(statistics, names=["a", "b"])
    with pytest.raises(ValueError, match="no layers"):
        plots.activation_histograms({})


def test_a_deep_network_goes_on_in_the_next_row():
    pytest.importorskip("matplotlib")
    statistics = activation_statistics(build(*[fnn.ReLU() for _ in range(12)]), X)
    figure = statistics.plot()
    assert len(figure.axes) == 12
    assert len({round(axes.get_subplotspec().rowspan.start) for axes in figure.axes}) == 2


def test_a_source_is_no_array():
    model = fnn.Sequential([fnn.Dense(3)], input_dim=4)
    with pytest.raises(TypeError, match="x is a source of batches, expected an array"):
        activation_statistics(model, lambda: iter([X]))
