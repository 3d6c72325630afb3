"""Pictures: that they show what they should, and reach their file."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fastnn.history import History

pytest.importorskip("matplotlib")

from fastnn import plots


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
