"""The page about a run: what is on it, that it needs nothing else, and that texts stay texts."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import fastnn as fnn
from fastnn import cli
from fastnn.diagnosis import Finding
from fastnn.history import History

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Reads a page: its headings, its texts, whether every element ends where it should."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.attributes, self.words = [], [], [], ""
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if "style" not in self.open:
            self.words += data


def read(path):
    """The page, after checking that it loads and runs nothing."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "data", "srcset"):
            assert value.startswith(("#", "data:image/png;base64,")), (name, value[:60])
    assert "<script" not in text and "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    return page


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 25)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    model = fnn.Sequential([fnn.Dense(8), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(3)], seed=0)
    recorder = fnn.Recorder(probe=(x, y))
    history = model.fit(
        x, y, batch_size=20, epochs=3, validation_data=(x, y), callbacks=[recorder], verbose=False
    )
    return model, history, recorder, x, y


def test_everything_at_once(trained, tmp_path):
    model, history, recorder, x, y = trained
    nasty = '<script>alert("1")</script> & $x$'
    found = [
        Finding("dead_units", nasty, "cause", "advice", layer="2", epoch=3),
        Finding("plateau", "flat", "cause", "advice", severity="hint"),
    ]
    path = fnn.write_report(
        tmp_path / "run.html", history, model=model, x=x, y=y, recorder=recorder, findings=found,
        classes=["a", nasty, "日本語"], image_shape=(5, 5), title=nasty, subtitle=nasty,
        facts={nasty: nasty, "rate": 0.1, "rows": 2000},
    )  # fmt: skip
    page = read(path)
    assert page.headings == [
        "Findings", "Learning curves", "Confusion matrix, test rows", "First-layer weights",
        "Activations", "Updates and gradients", "How it was made",
    ]  # fmt: skip
    for words in (nasty, "dead units (layer 2, epoch 3)", "plateau", "日本語", "2,000", "Dense"):
        assert words in page.words, words
    assert f"{history['val_accuracy'][-1]:.1%}" in page.words
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert len(labels) == 6
    ids = [value for name, value in page.attributes if name == "id" and value.startswith("figure")]
    assert not ids


def test_the_worst_mistake_is_named(trained, tmp_path):
    _, history, _, x, _ = trained

    class Fixed(fnn.Layer):
        def forward(self, x, training=True):
            return x[:, :3].copy()

        def build(self, input_shape):
            return (3,)

    model = fnn.Sequential([Fixed()], input_dim=25)
    model.compile(loss="softmax_cross_entropy")
    x = np.zeros((10, 25), np.float32)
    x[np.arange(10), [0] * 4 + [1] * 5 + [2]] = 1
    y = [0] * 4 + [1] * 2 + [2] * 4
    words = read(
        fnn.write_report(tmp_path / "a.html", history, model=model, x=x, y=y, classes="abc")
    ).words
    assert "c taken for b (3 of 4)" in words
    assert "7 of 10 right (70.0%)" in words
    assert "25.0%" in words and "40.0%" in words  # recall of c, precision of b


def test_a_regression_is_in_the_unit_of_its_data(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 3))
    target = fnn.preprocessing.TargetEncoder(name="price").fit(1000 + 50 * x[:, 0])
    inputs = fnn.preprocessing.Standardize().fit(x)
    model = fnn.Sequential([fnn.Dense(1)], seed=0)
    model.preprocessing = fnn.preprocessing.Preparation(inputs, target)
    rows, y = inputs.transform(x), target.transform(1000 + 50 * x[:, 0])
    history = model.fit(rows, y, loss="mean_squared_error", epochs=2, verbose=False)
    page = read(fnn.write_report(tmp_path / "a.html", history, model=model, x=rows, y=y))
    assert page.headings == [
        "Learning curves",
        "Predicted against true, test rows",
        "Activations",
        "How it was made",
    ]
    error = np.sqrt(((target.decode(model.predict(rows))[:, 0] - 1000 - 50 * x[:, 0]) ** 2).mean())
    assert f"price: error {error:.3g}" in page.words
    assert "1,000" in page.words


def test_several_outputs_and_several_labels(tmp_path):
    x = np.random.default_rng(0).standard_normal((50, 3))
    model = fnn.Sequential([fnn.Dense(2)], seed=0)
    history = model.fit(x, x[:, :2], loss="mean_squared_error", epochs=1, verbose=False)
    page = read(fnn.write_report(tmp_path / "a.html", history, model=model, x=x, y=x[:, :2]))
    assert "output 1: error" in page.words and "The epoch in numbers" in page.words
    y = (x[:, :2] > 0).astype(int)
    model = fnn.Sequential([fnn.Dense(2)], seed=0)
    history = model.fit(x, y, loss="binary_cross_entropy", epochs=1, verbose=False)
    page = read(fnn.write_report(tmp_path / "a.html", history, model=model, x=x, y=y))
    assert not any("Confusion" in heading for heading in page.headings)


def test_a_history_alone(tmp_path):
    history = History()
    history.append(epoch=1, loss=0.5)
    page = read(fnn.write_report(tmp_path / "a.html", history, findings=[]))
    assert page.headings == ["Findings", "Learning curves"]
    assert "found nothing to complain of" in page.words


def test_bad_input(trained, tmp_path):
    model, history, _, x, _ = trained
    path = tmp_path / "a.html"
    path.write_text("old")
    with pytest.raises(ValueError, match="history is empty"):
        fnn.write_report(path, History())
    with pytest.raises(ValueError, match="both, or none"):
        fnn.write_report(path, history, model=model, x=x)
    with pytest.raises(ValueError, match="of 25 numbers in all"):
        fnn.write_report(path, history, model=model, image_shape=(5, 6))
    with pytest.raises(ValueError, match=r"expected to end in .html"):
        fnn.write_report(tmp_path / "a.pdf", history)
    with pytest.raises(OSError, match="nowhere"):
        fnn.write_report(tmp_path / "nowhere" / "a.html", history)
    assert path.read_text() == "old"


# On the command line --------------------------------------------------------------------------------


@pytest.fixture
def run(capsys):
    def call(*arguments, status=0):
        capsys.readouterr()
        assert cli.main([str(argument) for argument in arguments]) == status
        return capsys.readouterr()

    return call


@pytest.fixture
def images(tmp_path):
    """60 grey images of 6×7 in two classes."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (60, 6, 7), np.uint8)
    X[::2, :3] //= 8
    path = tmp_path / "images.npz"
    np.savez(path, X=X, y=np.array(["dark", "<light>"])[np.arange(60) % 2])
    return path


def test_train_with_a_report(run, images, tmp_path):
    printed = run("train", images, "--epochs", 2, "--out", tmp_path / "out", "--report", "--quiet")
    page = read(tmp_path / "out" / "report.html")
    assert f"report: {tmp_path / 'out' / 'report.html'}" in printed.out
    for heading in ("Findings", "Confusion matrix, test rows", "First-layer weights"):
        assert heading in page.headings
    assert "<light>" in page.words and "images.npz: 42-256-128-2" in page.words
    assert "SGD(" in page.words and "<function" not in page.words
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_a_report_alone_of_a_table(run, tmp_path):
    pytest.importorskip("polars")
    rng = np.random.default_rng(0)
    lines = [f"{a:.3f},{b},{3 * a:.3f}" for a, b in zip(rng.random(60), "uv" * 30, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,price", *lines]))
    run("train", tmp_path / "t.csv", "--target", "price", "--epochs", 2, "--test-fraction", 0,
        "--report", tmp_path / "new" / "page.html")  # fmt: skip
    page = read(tmp_path / "new" / "page.html")
    assert "Predicted against true, training rows" in page.headings
    assert "First-layer weights" not in page.headings
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["page.html"]


def test_what_is_taken_for_an_image(tmp_path):
    from fastnn.cli.report import images_of

    def stored(shape, dtype):
        np.savez(tmp_path / "a.npz", X_train=np.zeros((2, *shape), dtype), y_train=[0, 1])
        features = int(np.prod(shape))
        return images_of(None, str(tmp_path / "a.npz"), features, table=False)

    assert stored((28, 28), "float32") == (28, 28)
    assert stored((32, 32, 3), "uint8") == (32, 32, 3)
    assert stored((3, 32, 32), "float64") == (3, 32, 32)
    assert stored((49,), "uint8") == (7, 7)
    assert stored((49,), "float32") is None and stored((50,), "uint8") is None
    assert stored((2, 5, 5), "uint8") is None
    assert images_of(None, "digits", 64, table=False) == (8, 8)
    assert images_of((5, 10), "x.npz", 50, table=False) == (5, 10)


def test_a_run_that_breaks_has_its_page(run, images, tmp_path):
    """Also where not even the first epoch ended."""
    page = tmp_path / "page.html"
    printed = run("train", images, "--lr", 1e30, "--no-batchnorm", "--quiet", "--schedule", "constant",
                  "--epochs", 3, "--report", page, status=2)  # fmt: skip
    assert printed.err.count("\n") == 1
    page = read(page)
    assert "Findings" in page.headings and "How it was made" in page.headings
    assert "error:" in page.words and "First-layer weights" not in page.headings


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--report"], "give --report PAGE.html, or --out DIR"),
        (["--report", "page.pdf"], "expected to end in .html"),
        (["--image-shape", "8,8"], "--image-shape is for the pictures of --report"),
        (["--report", "a.html", "--image-shape", "9,9"], "--image-shape 9,9 is of 81 numbers"),
        (["--report", "a.html", "--image-shape", "9"], "expected height,width"),
        (["--report", "a.html", "--image-shape", "2,5,5"], "expected height,width"),
        (["--report", "/proc/no/a.html"], "cannot write in the folder"),
        (["--report", "FOLDER"], "is a folder"),
    ],
)
def test_refused_before_training(arguments, words, run, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.html").mkdir()
    arguments = ["folder.html" if word == "FOLDER" else word for word in arguments]
    printed = run("train", images, *arguments, status=2)
    assert words in printed.err and printed.err.count("\n") == 1
    assert printed.out == "", "the training had begun"


def test_without_matplotlib(run, images, tmp_path, monkeypatch):
    monkeypatch.setattr("fastnn.cli.report.find_spec", lambda name: None)
    printed = run("train", images, "--report", tmp_path / "a.html", status=2)
    assert "pip install 'fastnn[plot]'" in printed.err
