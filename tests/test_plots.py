"""Pictures: that they show what they should, and reach their file."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fastnn.history import History

pytest.importorskip("matplotlib")

import fastnn as fnn
from fastnn import plots
from fastnn.gradient_flow import DECADES, GradientStatistics
from fastnn.lr_range_test import RangeTest
from fastnn.plots.confusion import confusion_counts
from fastnn.plots.weights import geary, weight_images


def run(epochs=5, accuracy=True, validation=True, scale=1.0):
    history = History()
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "loss": scale / epoch}
        if accuracy:
            row["accuracy"] = 1 - 0.5 / epoch
        if validation:
            row["val_loss"] = scale * (0.2 + abs(epoch - 3) / 10)
            if accuracy:
                row["val_accuracy"] = 0.9 - 0.5 / epoch
        history.append(**row)
    return history


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_one_run():
    history = run()
    figure = plots.training_curves(history, title="a run", validation="test")
    assert titles(figure) == ["Loss", "Accuracy"] and figure.get_suptitle() == "a run"
    loss, accuracy = figure.axes
    lines = {line.get_label(): line for line in loss.lines}
    np.testing.assert_array_equal(lines["training"].get_ydata(), history["loss"])
    np.testing.assert_array_equal(lines["test"].get_ydata(), history["val_loss"])
    assert lines["lowest test loss"].get_xdata() == [3]
    assert [text.get_text() for text in accuracy.texts] == ["80.0%", "90.0%"]
    assert loss.get_xlabel() == "epoch" and len(figure.legends) == 1


def test_end_labels_do_not_overlap():
    history = History()
    for epoch in (1, 2):
        history.append(epoch=epoch, loss=0.5, val_loss=0.5001)
    figure = plots.training_curves(history)
    figure.canvas.draw()
    low, high = (text.get_window_extent() for text in figure.axes[0].texts)
    assert low.y1 <= high.y0 + 1


def test_regression_has_no_accuracy_and_training_alone_no_legend():
    figure = plots.training_curves(run(accuracy=False, validation=False))
    assert titles(figure) == ["Loss"] and not figure.legends


def test_many_runs():
    figure = plots.training_curves({"fast": run(), "slow": run(8, validation=False)})
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["fast", "slow (training)", "validation", "training"]
    assert figure.axes[0].get_xlim()[1] > 8


def test_losses_over_orders_of_magnitude_get_a_logarithmic_axis():
    history = History()
    for epoch in range(1, 10):
        history.append(epoch=epoch, loss=10.0**-epoch)
    figure = plots.training_curves(history)
    assert figure.axes[0].get_yscale() == "log" and titles(figure) == ["Loss (logarithmic)"]
    assert plots.training_curves(run()).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize(
    "history", [run(1), run(1, validation=False), run(scale=0.0), run(3, accuracy=False)]
)
def test_small_and_odd_runs_can_be_drawn(history, tmp_path):
    with np.errstate(all="raise"):
        plots.save(plots.training_curves(history), tmp_path / "x.png")


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="empty"):
        plots.training_curves(History())
    with pytest.raises(ValueError, match="'b' is empty"):
        plots.training_curves({"a": run(), "b": History()})
    with pytest.raises(ValueError, match="no run"):
        plots.training_curves({})


def test_a_loss_that_was_never_finite_is_no_reason_to_fail(tmp_path):
    history = History()
    for epoch in (1, 2):
        history.append(epoch=epoch, loss=float("inf"), val_loss=float("nan"))
    plots.save(plots.training_curves({"a": history, "b": run()}), tmp_path / "x.png")


def test_more_runs_than_colours_are_told_apart():
    figure = plots.training_curves({f"run {i}": run() for i in range(12)})
    solid = [line for line in figure.axes[0].lines if line.get_linestyle() == "-"][:12]
    assert len({line.get_color() for line in solid}) == 12
    assert not figure.axes[0].texts, "the end values of so many runs would hide each other"


def test_dollars_are_no_formulas(tmp_path):
    name = r"$\frac{$ & <cost>"
    figures = [
        plots.training_curves({name: run(), "b": run()}, title=name),
        plots.confusion_matrix([0, 1], [0, 1], [name, "b"], title=name),
        plots.predicted_against_true([0.0, 1.0], [0.0, 1.0], [name], title=name),
        plots.descent_paths(lambda w: w[:, 0], {name: np.eye(2)}, labels=(name, "$"), title=name),
    ]
    for figure in figures:
        plots.save(figure, tmp_path / "x.png")


# The loss of steps, updates and gradients -----------------------------------------------------------


@pytest.fixture(scope="module")
def recorder():
    x = np.random.default_rng(0).standard_normal((60, 25)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    layers = [fnn.Dense(8), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(2)]
    recorder = fnn.Recorder(every=2, probe=(x, y))
    fnn.Sequential(layers, seed=0).fit(
        x, y, batch_size=10, epochs=3, callbacks=[recorder], verbose=False
    )
    return recorder


def test_update_ratios(recorder, tmp_path):
    figure = plots.update_ratios(recorder)
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    for line, (name, ratios) in zip(axes.lines, recorder.ratios.items(), strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_ydata(), ratios)
        np.testing.assert_allclose(line.get_xdata(), np.array(recorder.steps) / 6)
    plots.save(figure, tmp_path / "x.png")
    with pytest.raises(ValueError, match="has seen no update"):
        plots.update_ratios(fnn.Recorder())


@pytest.mark.parametrize("last", [3.0, 1e30, np.inf, np.nan])
def test_a_range_test_shows_all_losses_until_the_lowest(last, tmp_path):
    rates, losses = np.geomspace(1e-4, 1, 5), np.array([2.5, 2.0, 1.0, 0.9, last])
    smoothed = np.array([2.5, 2.2, 1.5, 1.1, last])
    found = RangeTest(rates, losses, smoothed, 1e-2, 0.1)
    (axes,) = found.plot(tmp_path / "x.png", title="$a").axes
    low, high = axes.get_ylim()
    assert 0.5 < low < 0.9 and 2.5 < high < 3.5
    assert [text.get_text() for text in axes.texts] == ["suggestion 0.01", "lowest 0.1"]
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    never = RangeTest(rates, losses, smoothed, None, None)
    assert not plots.rate_range(never).axes[0].texts and "never fell" in repr(never)


def test_a_rate_of_zero_leaves_a_gap(tmp_path):
    still = fnn.Recorder(every=1)
    still.steps, still.ratios, still.steps_per_epoch = [1, 2], {"0.weight": [0.0, 0.0]}, 2
    plots.save(plots.update_ratios(still), tmp_path / "x.png")


def test_gradient_histograms(recorder, tmp_path):
    figure = plots.gradient_histograms(recorder)
    (axes,) = figure.axes
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["before training", "after epoch 3"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0.weight", "3.weight"]
    plots.save(figure, tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"probe=\(x, y\)"):
        plots.gradient_histograms(fnn.Recorder())
    with pytest.raises(ValueError, match="no weight matrices"):
        plots.gradient_histograms({})


def test_gradients_of_nothing_but_zeros_can_be_drawn(tmp_path):
    nothing = GradientStatistics("0 (Dense)", 0.0, 1.0, np.zeros(len(DECADES) - 1, np.int64))
    figure = plots.gradient_histograms({"0.weight": nothing})
    assert [text.get_text() for text in figure.axes[0].texts] == ["100% zero"]
    plots.save(figure, tmp_path / "x.png")


def test_step_losses(recorder, tmp_path):
    figure = plots.step_losses({"mini": recorder})
    thin, thick = figure.axes[0].lines
    np.testing.assert_array_equal(thin.get_ydata(), recorder.losses)
    assert thick.get_ydata()[0] == pytest.approx(np.mean(recorder.losses[:6]))
    plots.save(figure, tmp_path / "x.png")
    with pytest.raises(ValueError, match="no run"):
        plots.step_losses({})
    with pytest.raises(ValueError, match="'a' has seen no step"):
        plots.step_losses({"a": fnn.Recorder()})


def test_descent_paths(tmp_path):
    path = np.array([[3.0, 1.0], [1.0, 0.5], [0.2, 0.1]])
    figure = plots.descent_paths(lambda w: (w**2).sum(axis=1), {"all": path, "still": path[:1]})
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xydata(), path)
    plots.save(figure, tmp_path / "x.png")
    for bad in (np.ones((3, 3)), np.ones(2), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match=r"expected \(steps, 2\)"):
            plots.descent_paths(lambda w: w[:, 0], {"bad": bad})
    with pytest.raises(ValueError, match="no path"):
        plots.descent_paths(lambda w: w[:, 0], {})


# What a model answers -------------------------------------------------------------------------------


def test_confusion_counts_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 7, (2, 300))
    np.testing.assert_array_equal(
        confusion_counts(truth, predicted), metrics.confusion_matrix(truth, predicted)
    )


def test_confusion_matrix(tmp_path):
    figure = plots.confusion_matrix([0, 0, 0, 2, 2], [0, 0, 2, 2, 0], ["a", "b", "c"])
    (axes,) = figure.axes
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0.5, 0.5): "2", (2.5, 0.5): "1", (0.5, 2.5): "1", (2.5, 2.5): "1"}
    assert axes.get_title(loc="left") == "Confusion matrix: 3 of 5 right (60.0%)"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    plots.save(figure, tmp_path / "x.png")


@pytest.mark.parametrize("classes", [1, 2, 100])
def test_matrices_of_few_and_of_many_classes(classes, tmp_path):
    y = np.arange(300) % classes
    figure = plots.confusion_matrix(y, y)
    assert len(figure.axes[0].texts) == (classes if classes <= 25 else 0)
    assert len(figure.axes[0].get_yticks()) <= 60
    plots.save(figure, tmp_path / "x.png", dpi=60)


def test_no_confusion():
    with pytest.raises(ValueError, match="at least one row"):
        plots.confusion_matrix([], [])
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        plots.confusion_matrix([0, 1, 1], [0, 1])
    with pytest.raises(ValueError, match="from 0 to 2, expected 0 to 1"):
        plots.confusion_matrix([0, 1], [0, 2], ["a", "b"])
    with pytest.raises(TypeError, match="float64"):
        plots.confusion_matrix([0.0, 1.0], [0, 1])


def test_predicted_against_true(tmp_path):
    truth = np.random.default_rng(0).standard_normal((4000, 8))
    figure = plots.predicted_against_true(truth, truth + 0.5)
    assert len(figure.axes) == 6
    assert titles(figure)[0].startswith("output 0: error 0.5, R² 0.7")
    assert len(figure.axes[0].collections[0].get_offsets()) <= 3000
    plots.save(figure, tmp_path / "x.png", dpi=60)
    constant = plots.predicted_against_true([2.0, 2.0], [2.0, 2.0], ["x"])
    assert titles(constant) == ["x: error 0"]
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        plots.predicted_against_true([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="NaN or infinity"):
        plots.predicted_against_true([1, np.nan], [1, 2])
    with pytest.raises(ValueError, match="1 names for 2 outputs"):
        plots.predicted_against_true(np.ones((2, 2)), np.ones((2, 2)), ["a"])


# First-layer weights --------------------------------------------------------------------------------


def test_weights_are_drawn_as_the_images_they_belong_to(tmp_path):
    model = fnn.Sequential([fnn.Dense(3)], input_dim=30, seed=0)
    weight = model.parameters()["0.weight"]
    images = weight_images(model, (5, 6))
    np.testing.assert_array_equal(images[2], weight[:, 2].reshape(5, 6))
    figure = plots.first_layer_weights({"a": model, "b": model}, (5, 6), units=2, title="two")
    assert titles(figure) == ["a", "b"]
    assert "2 of 3 units" in figure.axes[0].get_xlabel()
    sheet = figure.axes[0].images[0].get_array()
    scaled = weight[:, 0].reshape(5, 6) / np.abs(weight[:, 0]).max()
    np.testing.assert_allclose(sheet[:5, :6], scaled, rtol=1e-6)
    plots.save(figure, tmp_path / "x.png")


def test_colour_images_in_both_orders(tmp_path):
    model = fnn.Sequential([fnn.Dense(4)], input_dim=3 * 5 * 6, seed=0)
    column = model.parameters()["0.weight"][:, 1]
    last, first = weight_images(model, (5, 6, 3)), weight_images(model, (3, 5, 6))
    np.testing.assert_array_equal(last[1], column.reshape(5, 6, 3))
    np.testing.assert_array_equal(first[1], column.reshape(3, 5, 6).transpose(1, 2, 0))
    plots.save(plots.first_layer_weights(model, (5, 6, 3)), tmp_path / "x.png")


@pytest.mark.parametrize(
    "layers",
    [
        [fnn.BatchNorm(), fnn.Dropout(0.1), fnn.Dense(4)],
        [fnn.Maxout(4, pieces=2)],
    ],
)
def test_layers_that_leave_pixels_at_their_place(layers, tmp_path):
    model = fnn.Sequential(layers, input_dim=49, seed=0)
    assert weight_images(model).shape[1:] == (7, 7)
    model.parameters()[f"{len(layers) - 1}.weight"][:] = 0  # nothing to scale by
    plots.save(plots.first_layer_weights(model), tmp_path / "x.png")


def test_weights_that_are_no_images():
    def model(inputs, *layers):
        return fnn.Sequential([*layers, fnn.Dense(2)], input_dim=inputs, seed=0)

    for inputs in (50, 16, 3 * 64):
        with pytest.raises(ValueError, match="give image_shape"):
            plots.first_layer_weights(model(inputs))
    for shape in ((5, 9), (50,), (2, 5, 5), (0, 0), (-5, -10)):
        with pytest.raises(ValueError, match="of 50 numbers in all"):
            plots.first_layer_weights(model(50), shape)

    class Halves(fnn.Layer):
        def build(self, input_shape):
            return (input_shape[0] // 2,)

    with pytest.raises(ValueError, match="no dense layer that takes the inputs"):
        plots.first_layer_weights(model(50, Halves()))
    with pytest.raises(ValueError, match="no dense layer"):
        plots.first_layer_weights(fnn.Sequential([fnn.ReLU()], input_dim=49))
    with pytest.raises(ValueError, match="no model"):
        plots.first_layer_weights({})
    with pytest.raises(RuntimeError, match="no parameters yet"):
        plots.first_layer_weights(fnn.Sequential([fnn.Dense(2)]))


def test_geary_of_images_of_one_colour():
    assert np.isnan(geary(np.ones((3, 4, 4))))
    rows = np.tile([1.0, -1.0], (1, 6, 3))
    # Along one axis equal, along the other opposite.
    assert geary(rows) == pytest.approx(1.0, abs=0.2)


# Files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "magic"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.PDF", b"%PDF")]
)
def test_formats(tmp_path, name, magic):
    figure = run().plot(tmp_path / name, title="x")
    assert (tmp_path / name).read_bytes().startswith(magic)
    assert titles(figure) == ["Loss", "Accuracy"]


def test_a_wrong_ending_leaves_the_old_file(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(ValueError, match=r"ends in .txt, expected one of .png"):
        run().plot(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old"


def test_the_picture_is_not_blank_and_of_the_promised_size(tmp_path):
    from matplotlib.image import imread

    run().plot(tmp_path / "a.png")
    pixels = imread(tmp_path / "a.png")
    assert pixels.shape[:2] == (600, 1620)
    assert 0.005 < (pixels[..., :3].min(axis=2) < 0.9).mean() < 0.3


def test_pyplot_is_left_alone():
    import subprocess

    code = (
        "import sys; from fastnn.history import History; from fastnn import plots\n"
        "h = History(); h.append(epoch=1, loss=1.0); plots.training_curves(h)\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    for name in list(sys.modules):
        if name.split(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'fastnn\[plot\]'"):
        plots.training_curves(run())
