"""The command line: what it prints and writes, and one line with status 2 for all bad input."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import cli, datasets
from fastnn.history import History

SHARED = Path(__file__).parents[2] / "shared" / "data"


def fastnn_process(*arguments, **environment):
    """`python -m fastnn …` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "fastnn", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def run(capsys):
    """Run a command line in this process; returns what it printed."""

    def call(*arguments, status=0):
        capsys.readouterr()
        assert cli.main([str(argument) for argument in arguments]) == status
        return capsys.readouterr()

    return call


@pytest.fixture
def refused(run):
    """Run a command line that must end in one line on standard error; returns the line."""

    def call(*arguments):
        printed = run(*arguments, status=2)
        assert re.fullmatch(r"fastnn[^\n]*: error: [^\n]+\n", printed.err), printed.err
        assert "Traceback" not in printed.err
        return printed.err

    return call


@pytest.fixture
def blobs(tmp_path):
    """Three well separated classes named by text, 300 rows of 4 columns."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    X = rng.standard_normal((300, 4)) + 4 * np.eye(4)[y]
    path = tmp_path / "blobs.npz"
    np.savez(path, X=X, y=np.array(["ape", "bee", "cat"])[y])
    return path


@pytest.fixture
def pets(tmp_path):
    """A table in which weight and colour tell the kind."""
    pytest.importorskip("polars")
    rng = np.random.default_rng(1)
    path = tmp_path / "pets.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "weight", "colour", "age", "kind"])
        for row in range(200):
            dog = rng.random() < 0.5
            writer.writerow(
                [
                    f"pet {row}",
                    round(rng.normal(20 if dog else 4, 1), 3),
                    "brown" if dog else rng.choice(["black", "white"]),
                    rng.integers(1, 15),
                    "dog" if dog else "cat",
                ]
            )
    return path


def rows_of(text):
    return list(csv.reader(io.StringIO(text)))


# Training -----------------------------------------------------------------------------------------


def test_digits(run, tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    printed = run("train", "digits", "--out", tmp_path / "run").out.splitlines()
    assert printed[0] == "digits: 1,438 training and 359 test rows, 64 features, 10 classes"
    assert f"{fastnn.isa()}, {fastnn.get_num_threads()} thread" in printed[1]
    epochs = [line for line in printed if line.startswith("epoch")]
    pattern = (
        r"epoch +(\d+)/(\d+)  loss \d\.\d{4}  accuracy +[\d.]+%  test loss \d\.\d{4}"
        r"  test accuracy +[\d.]+%  [\d,]+ samples/s"
    )
    assert [int(re.fullmatch(pattern, line)[1]) for line in epochs] == [*range(1, len(epochs) + 1)]
    accuracy = float(re.match(r"test accuracy ([\d.]+)% \(\d+ of 359\), training", printed[-2])[1])
    assert accuracy >= 97
    assert printed[-1].endswith("model.safetensors, history.csv, curves.png")
    assert sorted(os.listdir(tmp_path / "run")) == [
        "curves.png",
        "history.csv",
        "model.safetensors",
    ]
    history = History.from_csv(tmp_path / "run" / "history.csv")
    assert history.epochs == len(epochs)
    assert history["val_accuracy"][-1] == pytest.approx(accuracy / 100, abs=1e-4)

    # The model in the file is the one whose accuracy was printed.
    answers = run("predict", tmp_path / "run" / "model.safetensors", "digits").out
    correct = [int(row[0]) for row in rows_of(answers)[1:]] == datasets.digits().y_test
    assert round(100 * correct.mean(), 2) == accuracy


@pytest.mark.parametrize("seed", range(1, 6))
def test_digits_from_other_seeds(run, seed):
    pytest.importorskip("sklearn")
    printed = run("train", "digits", "--quiet", "--seed", seed).out
    assert float(re.match(r"test accuracy ([\d.]+)%", printed)[1]) >= 97


def test_digits_take_less_than_half_a_second_of_one_thread(run):
    pytest.importorskip("sklearn")
    before = fastnn.get_num_threads()
    try:
        # The shortest of a few runs: other work on the machine only ever adds time.
        printed = [run("train", "digits", "--quiet", "--threads", 1).out for _ in range(5)]
    finally:
        fastnn.set_num_threads(before)
    assert min(float(re.search(r"training ([\d.]+) s", text)[1]) for text in printed) < 0.5


def test_a_seed_repeats_itself(run, blobs, tmp_path):
    options = ("train", blobs, "--epochs", 2, "--quiet", "--out")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(*options, tmp_path / name, "--seed", seed)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_class_names_come_back(run, blobs, tmp_path):
    run("train", blobs, "--epochs", 5, "--out", tmp_path, "--quiet")
    arrays = np.load(blobs)
    out = tmp_path / "answers.csv"
    assert run("predict", tmp_path / "model.safetensors", blobs, "--proba", "--out", out).out == ""
    header, *rows = rows_of(out.read_text())
    assert header == ["prediction", "p(ape)", "p(bee)", "p(cat)"]
    assert np.mean([row[0] for row in rows] == arrays["y"]) > 0.97
    shares = np.array([row[1:] for row in rows], float)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert [header[1:][i] for i in shares.argmax(axis=1)] == [f"p({row[0]})" for row in rows]


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "sigmoid", "tanh"])
def test_options_reach_the_network(run, blobs, tmp_path, activation):
    run(
        *("train", blobs, "--out", tmp_path, "--quiet", "--hidden", "7,5", "--no-batchnorm"),
        *(
            "--activation",
            activation,
            "--dtype",
            "float64",
            "--epochs",
            3,
            "--schedule",
            "constant",
        ),
        *("--lr", "0.03125", "--momentum", 0.5, "--batch-size", 16, "--weight-decay", 0),
    )
    model = fastnn.load(tmp_path / "model.safetensors")
    shapes = [a.shape for name, a in model.parameters().items() if name.endswith("weight")]
    assert shapes == [(4, 7), (7, 5), (5, 3)] and model.dtype == np.float64
    assert not any(name.endswith("gamma") for name in model.parameters())
    assert History.from_csv(tmp_path / "history.csv")["lr"] == [0.03125] * 3


SCHEDULES = ["cosine", "step", "exponential", "inverse-time", "one-cycle", "plateau"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules(run, blobs, tmp_path, schedule):
    run(
        *("train", blobs, "--out", tmp_path, "--quiet", "--epochs", 6, "--schedule", schedule),
        *("--warm-up", 0 if schedule == "one-cycle" else 1, "--lr", 0.01),
    )
    rates = History.from_csv(tmp_path / "history.csv")["lr"]
    assert (rates[0] == 0.01) == (schedule != "one-cycle") and max(rates) <= 0.01 + 1e-12
    assert (rates[-1] < 0.005) == (schedule != "plateau")


def test_a_run_is_diagnosed_and_stopped_early(run, blobs, tmp_path):
    options = ("--epochs", 40, "--lr", 1e-9, "--schedule", "constant", "--diagnose")
    printed = run("train", blobs, "--quiet", *options).out
    assert "error: loss not falling (epoch" in printed and "\n  try:      a rate ten" in printed
    lines = run("train", blobs, "--epochs", 200, "--lr", 0.3, "--early-stopping", 2).out
    assert "epoch   1/200" in lines and "epoch 200/200" not in lines


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "rmsprop", "adam", "adamw"])
def test_optimizers(run, blobs, tmp_path, optimizer):
    options = ["--momentum", 0.5] if optimizer in ("sgd", "rmsprop") else []
    options += ["--clip-norm", 1, "--epochs", 5, "--batch-size", 16]
    printed = run("train", blobs, "--optimizer", optimizer, *options).out
    share = float(re.search(r"test accuracy ([\d.]+)%", printed.splitlines()[-2]).group(1))
    assert share > 90, printed


def test_a_momentum_is_not_for_every_optimizer(refused, blobs):
    words = refused("train", blobs, "--optimizer", "adam", "--momentum", 0.9)
    assert "--momentum is for sgd and rmsprop, not for adam" in words


def test_no_hidden_layer_and_no_test_rows(run, blobs, tmp_path):
    printed = run("train", blobs, "--hidden", "none", "--test-fraction", 0, "--out", tmp_path).out
    assert "300 training rows, 4 features" in printed and "network 4-3: 15 parameters" in printed
    assert "test loss" not in printed
    assert float(re.search(r"^training accuracy ([\d.]+)%", printed, re.M)[1]) > 95
    assert not History.from_csv(tmp_path / "history.csv").has("val_loss")


def test_nothing_is_written_without_out(run, blobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir())
    assert "nothing written" in run("train", blobs, "--epochs", 1).out
    assert sorted(os.listdir()) == before


def test_threads(run, blobs):
    before = fastnn.get_num_threads()
    try:
        assert ", 1 thread\n" in run("train", blobs, "--epochs", 1, "--threads", 1).out
    finally:
        fastnn.set_num_threads(before)


def test_bytes_are_centred_and_other_numbers_standardised(run, tmp_path):
    rng = np.random.default_rng(2)
    y = np.arange(100) % 2
    for X, kind in (
        (rng.integers(0, 256, (100, 2, 3)).astype(np.uint8), "center"),
        (rng.random((100, 6)), "center"),
        (rng.standard_normal((100, 6)), "standardize"),
    ):
        np.savez(tmp_path / "a.npz", X=X, y=y)
        run("train", tmp_path / "a.npz", "--epochs", 1, "--quiet", "--out", tmp_path)
        assert fastnn.load(tmp_path / "model.safetensors").preprocessing.inputs.kind == kind
    run(*("train", tmp_path / "a.npz", "--epochs", 1, "--scaling", "center", "--out", tmp_path))
    assert fastnn.load(tmp_path / "model.safetensors").preprocessing.inputs.kind == "center"


@pytest.mark.parametrize("scaling", ["center", "standardize", "minmax", "whiten", "zca"])
def test_each_scaling_learns_and_travels_with_the_model(run, tmp_path, scaling):
    run("train", "digits", "--scaling", scaling, "--epochs", 2, "--hidden", 32, "--out", tmp_path)
    answers = run("predict", tmp_path / "model.safetensors", "digits").out.split()[1:]
    truth = datasets.digits().y_test
    assert np.mean(np.array(answers, int) == truth) > 0.8


def test_pixels_are_centred_only(run, tmp_path):
    """Bytes are taken for pixels: the mean image comes off, and all share one unit."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (60, 12)).astype(np.uint8)
    y = np.arange(60) % 2
    np.savez(tmp_path / "a.npz", X_train=X, y_train=y, X_test=X[:20] // 2, y_test=y[:20])
    run("train", tmp_path / "a.npz", "--epochs", 1, "--out", tmp_path)
    inputs = fastnn.load(tmp_path / "model.safetensors").preprocessing.inputs
    assert type(inputs).__name__ == "Center" and inputs.scale == np.ptp(X)
    np.testing.assert_allclose(inputs.mean, X.mean(axis=0))


def test_missing_values_cannot_be_whitened(refused, tmp_path):
    np.savez(tmp_path / "a.npz", X=np.random.default_rng(0).random((20, 3)), y=np.arange(20) % 2)
    assert "mixes them" in refused("train", tmp_path / "a.npz", "--scaling", "zca", "--impute")


# Tables -------------------------------------------------------------------------------------------


def test_a_table_with_texts(run, pets, tmp_path):
    printed = run(
        *("train", pets, "--target", "kind", "--drop", "name", "--out", tmp_path / "out")
    ).out
    assert "5 features, 2 classes" in printed
    assert float(re.search(r"test accuracy ([\d.]+)% \(", printed)[1]) >= 97
    fresh = tmp_path / "fresh.csv"  # no target, other order, an unknown colour, a new column
    fresh.write_text("colour,more,age,weight\nbrown,x,3,21\nmauve,x,3,4.2\n")
    printed = run("predict", tmp_path / "out" / "model.safetensors", fresh)
    assert rows_of(printed.out) == [["prediction"], ["dog"], ["cat"]]
    assert re.fullmatch(r"fastnn: warning: column 'colour': .*'mauve'[^\n]*\n", printed.err)


def test_parquet_gives_what_csv_gives(run, pets, tmp_path):
    pl = pytest.importorskip("polars")
    pl.read_csv(pets).write_parquet(tmp_path / "pets.parquet")
    options = ("--target", "kind", "--drop", "name", "--epochs", 3, "--quiet", "--out")
    run("train", pets, *options, tmp_path / "a")
    run("train", tmp_path / "pets.parquet", *options, tmp_path / "b")
    a, b = (tmp_path / name / "model.safetensors" for name in "ab")
    assert a.read_bytes() == b.read_bytes()


def test_a_regression_answers_in_the_unit_of_its_target(run, tmp_path):
    pytest.importorskip("polars")
    rng = np.random.default_rng(3)
    size = rng.uniform(20, 200, 400)
    path = tmp_path / "houses.csv"
    rows = (f"{s:.2f},{3000 * s + 50000:.1f}\n" for s in size)
    path.write_text("size,price\n" + "".join(rows))
    printed = run("train", path, "--target", "price", "--out", tmp_path).out
    assert "regression" in printed and "accuracy" not in printed
    assert float(re.search(r"R² ([\d.]+)", printed)[1]) > 0.99
    (tmp_path / "two.csv").write_text("size\n100\n150\n")
    answers = rows_of(run("predict", tmp_path / "model.safetensors", tmp_path / "two.csv").out)
    assert answers[0] == ["prediction"]
    np.testing.assert_allclose([float(row[0]) for row in answers[1:]], [350e3, 500e3], rtol=0.05)


def test_missing_values(run, refused, tmp_path):
    pytest.importorskip("polars")
    path = tmp_path / "holes.csv"
    path.write_text("a,b,y\n" + "1,x,no\n2,y,yes\n" * 30 + ",x,no\n2,,yes\n")
    line = refused("train", path, "--target", "y")
    assert "'a' (1 of 62 rows, first row 61)" in line and "'b'" in line and "--impute" in line
    run("train", path, "--target", "y", "--impute", "--epochs", 5, "--out", tmp_path)
    (tmp_path / "new.csv").write_text("a,b\nNA,y\n1,?\n")
    answers = run("predict", tmp_path / "model.safetensors", tmp_path / "new.csv").out
    assert len(rows_of(answers)) == 3


def test_texts_that_look_like_numbers_in_a_later_file(run, tmp_path):
    pytest.importorskip("polars")
    path = tmp_path / "codes.csv"
    path.write_text("code,y\n" + "007,a\nx1,b\n" * 20)
    run("train", path, "--target", "y", "--epochs", 10, "--out", tmp_path)
    (tmp_path / "new.csv").write_text("code\n007\n")
    printed = run("predict", tmp_path / "model.safetensors", tmp_path / "new.csv")
    assert rows_of(printed.out)[1] == ["a"] and printed.err == ""


# Other commands -----------------------------------------------------------------------------------


def test_info(run):
    printed = run("info").out
    for word in (fastnn.__version__, fastnn.isa(), *fastnn.available_isas(), "compiler"):
        assert word in printed


def test_help_and_version(run):
    assert all(name in run("--help").out for name in cli.COMMANDS)
    for name in cli.COMMANDS:
        assert f"fastnn {name}" in run(name, "--help").out
    assert run("--version").out == f"fastnn {fastnn.__version__}\n"


def test_predict_with_a_model_from_python(run, refused, tmp_path):
    X = np.random.default_rng(4).standard_normal((40, 3))
    model = fastnn.Sequential([fastnn.Dense(2)], seed=0)
    model.fit(X, (X[:, 0] > 0).astype(int), epochs=2, verbose=False)
    model.save(tmp_path / "m.safetensors")
    np.savez(tmp_path / "x.npz", X=X)
    answers = rows_of(run("predict", tmp_path / "m.safetensors", tmp_path / "x.npz").out)
    assert [int(row[0]) for row in answers[1:]] == model.predict(X).tolist()
    np.savez(tmp_path / "x.npz", X=np.where(X == X[5, 1], np.nan, X))
    assert "row 5, column 1" in refused("predict", tmp_path / "m.safetensors", tmp_path / "x.npz")


# Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "which command? one of train, predict, gradcheck"),
        (["trian"], "no command 'trian' (did you mean 'train'?)"),
        (["train"], "DATA"),
        (["train", "digits", "--epochz", "3"], "no option '--epochz' (did you mean '--epochs'"),
        (["train", "digits", "--epochz=3"], "(see fastnn train --help)"),
        (["train", "digits", "again"], "one argument too many: 'again' (see fastnn train --help)"),
        (["experiment", "init", "--sed", "3"], "(see fastnn experiment init --help)"),
        (["train", "digits", "--epochs", "0"], "whole number of at least 1, got '0'"),
        (["train", "digits", "--epochs", "many"], "got 'many'"),
        (["train", "digits", "--lr", "nan"], "number above 0, got 'nan'"),
        (["train", "digits", "--lr", "0"], "number above 0"),
        (["train", "digits", "--momentum", "1"], "at least 0 and below 1"),
        (["train", "digits", "--test-fraction", "1.5"], "below 1, got '1.5'"),
        (["train", "digits", "--hidden", "64,x"], "such as 64,64"),
        (["train", "digits", "--hidden", "0"], "such as 64,64"),
        (["train", "digits", "--activation", "step"], "'step'"),
        (["train", "digits", "--target", "y"], "--target names columns of a table"),
        (["train", "digits", "--drop", "y"], "--drop names columns of a table"),
        (["train", "nowhere.npz"], "nowhere.npz: No such file"),
        (["train", "nowhere.csv", "--target", "y"], "nowhere.csv: No such file"),
        (["train", "data.txt"], "what is 'data.txt'? expected digits, or a file"),
        (["predict", "nowhere.safetensors", "digits"], "nowhere.safetensors: No such file"),
        (["predict", "a"], "FILE"),
    ],
)
def test_bad_arguments(refused, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in refused(*arguments)


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("a,y\n1,x\n", [], "give --target with one of: a, y"),
        ("a,Kind\n1,x\n", ["--target", "kind"], "no column 'kind' (did you mean 'Kind'?)"),
        ("a,y\n1,x\n", ["--target", "y", "--drop", "b"], "no column 'b'"),
        ("a,y\n", ["--target", "y"], "no rows"),
        ("", ["--target", "y"], "is empty"),
        ("y\nx\nz\n", ["--target", "y"], "no column beside the target"),
        ("a,y\n1,x\ninf,z\n2,x\n", ["--target", "y"], "column 'a', row 2: inf"),
        ("a,y\n1,x\n2,\n", ["--target", "y"], "'y' has no usable value in 1 of 2 rows"),
        ("a,y\n1,x\n2,z\n", ["--target", "y", "--task", "regression"], "holds texts such as 'x'"),
        ("a,y\n1,x\n2,x\n", ["--target", "y"], "single class"),
        ("a,y\n1,x\n2,z\n", ["--target", "y"], "too few to keep"),
        ("a,a\n1,x\n", ["--target", "a"], "stands twice"),
    ],
)
def test_bad_tables(refused, tmp_path, content, options, words):
    pytest.importorskip("polars")
    (tmp_path / "t.csv").write_text(content)
    assert words in refused("train", tmp_path / "t.csv", *options)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"X": np.full((20, 2), np.nan), "y": np.arange(20) % 2}, "NaN in row 0, column 0"),
        ({"X": np.full((20, 2), np.inf), "y": np.arange(20) % 2}, "infinity in row 0, column 0"),
        ({"X": np.ones((20, 2)), "y": np.full(20, np.nan)}, "no usable value"),
        ({"X": np.ones((20, 2)), "y": np.arange(19)}, "20 rows and y 19"),
        ({"X": np.ones((20, 2), complex), "y": np.arange(20) % 2}, "expected real numbers"),
        ({"images": np.ones((20, 2))}, "holds images; expected X and y"),
    ],
)
def test_bad_arrays(refused, tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    assert words in refused("train", tmp_path / "a.npz")


def test_a_diverging_run_ends_in_one_line_and_keeps_the_old_files(refused, blobs, tmp_path):
    (tmp_path / "model.safetensors").write_text("old")
    options = ("--lr", 1e30, "--no-batchnorm", "--out", tmp_path)
    assert "learning rate" in refused("train", blobs, *options)
    assert (tmp_path / "model.safetensors").read_text() == "old"


def test_a_folder_that_cannot_be_written_is_refused_before_training(run, refused, blobs, tmp_path):
    (tmp_path / "file").write_text("old")
    started = time.monotonic()
    line = refused("train", blobs, "--epochs", 1_000_000, "--out", tmp_path / "file")
    assert "cannot write in the folder" in line and time.monotonic() - started < 30
    (tmp_path / "out" / "curves.png").mkdir(parents=True)
    assert "is a folder" in refused(
        "train", blobs, "--epochs", 1_000_000, "--out", tmp_path / "out"
    )
    run("train", blobs, "--epochs", 1, "--quiet", "--out", tmp_path)
    for out in (tmp_path / "file" / "a.csv", tmp_path / "no" / "folder.csv"):
        refused("predict", tmp_path / "model.safetensors", blobs, "--out", out)
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(refused, blobs, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "cannot write" in refused("train", blobs, "--out", tmp_path / "closed")


def test_inputs_are_never_overwritten(run, refused, blobs, tmp_path):
    run("train", blobs, "--epochs", 1, "--quiet", "--out", tmp_path)
    model = tmp_path / "model.safetensors"
    before = model.read_bytes(), blobs.read_bytes()
    for out in (model, blobs):
        assert "would be overwritten" in refused("predict", model, blobs, "--out", out)
    assert (model.read_bytes(), blobs.read_bytes()) == before
    pytest.importorskip("polars")
    line = refused("train", tmp_path / "history.csv", "--target", "loss", "--impute", "--drop",
                   "epoch,lr,accuracy", "--test-fraction", 0, "--out", tmp_path)  # fmt: skip
    assert "would be overwritten" in line


def test_model_files_that_are_none(run, refused, blobs, tmp_path):
    run("train", blobs, "--epochs", 1, "--quiet", "--out", tmp_path)
    model = tmp_path / "model.safetensors"
    whole = model.read_bytes()
    for content in (b"", b"nonsense", whole[:-1], whole[: len(whole) // 2], whole[:7]):
        model.write_bytes(content)
        assert "model.safetensors" in refused("predict", model, blobs)
    from safetensors.numpy import save_file

    save_file({"w": np.ones(3)}, model)
    assert "not a model" in refused("predict", model, blobs)
    refused("predict", tmp_path, blobs)  # a folder


def test_inputs_that_do_not_fit_the_model(run, refused, blobs, pets, tmp_path):
    run("train", blobs, "--epochs", 1, "--quiet", "--out", tmp_path / "a")
    run("train", pets, "--target", "kind", "--drop", "name", "--epochs", 1, "--quiet",
        "--out", tmp_path / "t")  # fmt: skip
    arrays, table = (tmp_path / name / "model.safetensors" for name in "at")
    np.savez(tmp_path / "wide.npz", X=np.ones((2, 9)))
    np.savez(tmp_path / "other.npz", Z=np.ones((2, 9)))
    (tmp_path / "few.csv").write_text("Weight,colour\n3,brown\n")
    (tmp_path / "word.csv").write_text("weight,colour,age\nheavy,brown,1\n")
    (tmp_path / "hole.csv").write_text("weight,colour,age\n3,brown,1\n,brown,1\n")
    for model, file, words in (
        (arrays, "wide.npz", "9 columns, expected the 4"),
        (arrays, "other.npz", "holds Z; expected X or X_test"),
        (arrays, "pets.csv", "'name' holds texts"),
        (table, "wide.npz", "trained on a table with the columns weight, colour, age"),
        (table, "few.csv", "no column 'weight' (did you mean 'Weight'?)"),
        (table, "word.csv", "column 'weight', row 1: 'heavy' is not a number"),
        (table, "hole.csv", "'weight' (1 of 2 rows, first row 2): fill them, or train"),
    ):
        assert words in refused("predict", model, tmp_path / file)


def test_proba_of_a_regression(run, refused, tmp_path):
    X = np.random.default_rng(5).standard_normal((50, 2))
    np.savez(tmp_path / "r.npz", X=X, y=X @ [1.0, 2.0])
    run("train", tmp_path / "r.npz", "--epochs", 1, "--quiet", "--out", tmp_path)
    model = tmp_path / "model.safetensors"
    assert "--proba is for classes" in refused("predict", model, tmp_path / "r.npz", "--proba")


def test_missing_extras_are_named(refused, run, blobs, tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("a,y\n1,x\n")
    monkeypatch.setitem(sys.modules, "polars", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert "pip install 'fastnn[table]'" in refused("train", tmp_path / "t.csv", "--target", "y")
    assert "pip install 'fastnn[demo]'" in refused("train", "digits")
    monkeypatch.setattr("fastnn.cli.train.find_spec", lambda name: None)
    printed = run("train", blobs, "--epochs", 1, "--out", tmp_path / "out").out
    assert "pip install 'fastnn[plot]'" in printed
    assert sorted(os.listdir(tmp_path / "out")) == ["history.csv", "model.safetensors"]


def test_a_mistake_in_fastnn_itself_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("fastnn.cli.info.run", lambda arguments: {}["oops"])
    with pytest.raises(KeyError):
        cli.main(["info"])


def test_tracebacks_on_request(monkeypatch):
    monkeypatch.setenv("FASTNN_TRACEBACK", "1")
    with pytest.raises(ValueError, match="no command"):
        cli.main(["trian"])


# In a process of its own --------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["info"], ["train", "BLOBS"]])
def test_an_unknown_instruction_set(command, blobs):
    arguments = [str(blobs) if word == "BLOBS" else word for word in command]
    done = fastnn_process(*arguments, FASTNN_ISA="mmx")
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(r"fastnn \w+: error: [^\n]*FASTNN_ISA[^\n]*'mmx'[^\n]*\n", done.stderr)
    assert fastnn.available_isas()[-1] in done.stderr


def test_a_reader_that_has_seen_enough(blobs, tmp_path):
    assert cli.main(["train", str(blobs), "--epochs", "1", "--quiet", "--out", str(tmp_path)]) == 0
    np.savez(tmp_path / "many.npz", X=np.ones((200_000, 4)))
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnn", "predict", tmp_path / "model.safetensors",
         tmp_path / "many.npz"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == b"prediction\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 0


def test_interrupted(blobs, tmp_path):
    (tmp_path / "model.safetensors").write_text("old")
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnn", "train", blobs, "--epochs", "1000000", "--out", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (line := process.stdout.readline()).startswith("epoch"):
        assert line, process.stderr.read()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(r"fastnn train: interrupted[^\n]*\n", errors), errors
    assert (tmp_path / "model.safetensors").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["blobs.npz", "model.safetensors"]


# The data of the machine this is developed on -----------------------------------------------------

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"{SHARED} is absent: real MNIST and CIFAR-10 are not shipped"
)


@needs_shared
def test_mnist_reaches_96_percent_in_10_epochs(run):
    printed = run("train", SHARED / "mnist10k.npz", "--epochs", 10).out
    assert "epoch 10/10" in printed and "batch norm" in printed
    assert float(re.search(r"^test accuracy ([\d.]+)%", printed, re.M)[1]) >= 96


@needs_shared
@pytest.mark.slow
def test_cifar10_reaches_52_percent(run, tmp_path):
    pytest.importorskip("PIL")
    decoder = [sys.executable, SHARED / "cifar10.py", tmp_path / "cifar10.npz"]
    subprocess.run(decoder, check=True)
    printed = run(
        *("train", tmp_path / "cifar10.npz", "--hidden", "512,256", "--epochs", 5),
        *("--batch-size", 128),
    ).out
    assert "network 3072-512-256-10: batch norm" in printed
    assert float(re.search(r"^test accuracy ([\d.]+)%", printed, re.M)[1]) >= 52
