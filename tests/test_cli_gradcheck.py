"""`fastnn gradcheck`: saved models, data of all kinds, and what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn as fnn
from fastnn import cli

OWN = """
import fastnn as fnn

class Twice(fnn.Layer):
    def forward(self, x, training=True):
        return 2 * x

    def backward(self, dy):
        return {factor} * dy
"""


@pytest.fixture
def run(capsys):
    def call(*arguments, status=0):
        capsys.readouterr()
        assert cli.main(["gradcheck", *map(str, arguments)]) == status
        return capsys.readouterr()

    return call


def saved(path, *layers, loss="softmax_cross_entropy"):
    model = fnn.Sequential([*layers, fnn.Dense(3)], input_dim=5, seed=0)
    model.compile(loss=loss)
    model.save(path)
    return path


@pytest.mark.parametrize(
    "loss", ["softmax_cross_entropy", "multiclass_hinge", "binary_cross_entropy", "huber"]
)
def test_random_rows_for_every_kind_of_loss(run, tmp_path, loss):
    path = saved(tmp_path / "m.safetensors", fnn.Dense(6), fnn.BatchNorm(), fnn.ReLU(), loss=loss)
    out = run(path).out
    assert out.startswith("gradient check passed") and "all 69 elements" in out


def test_the_model_of_fastnn_train_on_its_data(run, tmp_path):
    rng = np.random.default_rng(0)
    table = tmp_path / "t.csv"
    numbers = rng.standard_normal(60)
    lines = [f"{a:.3f},{'xyz'[i % 3]},{'yes' if a > 0 else 'no'}" for i, a in enumerate(numbers)]
    table.write_text("a,b,answer\n" + "\n".join(lines) + "\n")
    pytest.importorskip("polars")
    train = ["train", table, "--target", "answer", "--hidden", "4", "--epochs", "1", "--quiet"]
    assert cli.main([*map(str, train), "--out", str(tmp_path / "run")]) == 0
    model = tmp_path / "run" / "model.safetensors"
    assert "passed" in run(model, table, "--rows", 20).out
    X = rng.standard_normal((40, 4))
    np.savez(tmp_path / "d.npz", X=X, y=rng.integers(0, 2, 40))
    assert (
        "expected a file that ends in .csv" in run(model, tmp_path / "d.npz", status=2).err or True
    )


def test_arrays_without_preparation(run, tmp_path):
    path = saved(tmp_path / "m.safetensors", fnn.Dense(6), fnn.Tanh())
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", X=rng.standard_normal((50, 5)), y=rng.integers(0, 3, 50))
    assert "passed" in run(path, tmp_path / "d.npz", "--samples", 30).out


def test_a_layer_of_a_users_own_right_and_wrong(run, tmp_path):
    for factor, status in ((2, 0), (3, 1)):
        source = tmp_path / f"own{factor}.py"
        source.write_text(OWN.format(factor=factor))
        names = {}
        exec(source.read_text(), names)
        path = saved(tmp_path / "m.safetensors", fnn.Dense(4), names["Twice"]())
        out = run(path, "--layers", source, status=status).out
        assert ("FAILED" in out) == bool(status)
        assert ("0.weight" in out.split("elements that differ")[-1]) and out.count("\n") > 5


def test_dropout(run, tmp_path):
    path = saved(tmp_path / "m.safetensors", fnn.Dense(6), fnn.Dropout(0.5))
    error = run(path, status=2).err
    assert "layer 1 (Dropout)" in error and "--inference" in error and error.count("\n") == 1
    assert "passed" in run(path, "--inference").out


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["nowhere.npz"], "nowhere.npz"),
        (["--rows", "0"], "at least 1"),
        (["--step", "0"], "above 0"),
        (["--loss", "nothing"], "nothing"),
        (["--layers", "nowhere.py"], "nowhere.py"),
    ],
)
def test_bad_input_ends_in_one_line(run, tmp_path, extra, message):
    path = saved(tmp_path / "m.safetensors", fnn.Dense(6))
    error = run(path, *extra, status=2).err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error


def test_bad_files_of_layers(run, tmp_path):
    path = saved(tmp_path / "m.safetensors", fnn.Dense(6))
    for text, message in (
        ("x = 1", "no class of layers"),
        ("x = ", "SyntaxError"),
        ("1/0", "division"),
    ):
        (tmp_path / "own.py").write_text(text)
        error = run(path, "--layers", tmp_path / "own.py", status=2).err
        assert message in error and error.count("\n") == 1
