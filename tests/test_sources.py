"""Rows that are not in memory: the same training, bounded memory, clear errors."""

from __future__ import annotations

import gc
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from processes import inherited

import fastnn as fnn
from fastnn.inputs import evenly
from fastnn.preprocessing import Standardize
from fastnn.sources import ArraySource, BatchSource, Source, as_source, is_batches, is_mapped
from fastnn.windows import plan_epoch

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "out_of_core.py"


@pytest.fixture
def mapped(tmp_path):
    """A function that puts an array into a file and maps it."""

    def put(array, name="array.npy"):
        np.save(tmp_path / name, array)
        return np.load(tmp_path / name, mmap_mode="r")

    return put


def rows(n, dtype=np.float32, columns=4):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 200, (n, columns)).astype(dtype)
    return X, (X[:, 0] > X[:, 1]).astype(np.int64)


def network(dtype="float32", normalised=True):
    layers = [fnn.Dense(5), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(2)]
    return fnn.Sequential(layers if normalised else layers[::2], dtype=dtype, seed=0)


def trained(X, y=None, **options):
    """The parameters and the history after some epochs."""
    model = network()
    options = {"optimizer": fnn.SGD(1e-3), "batch_size": 7, "epochs": 3, **options}
    history = model.fit(X, y, **options)
    return model.state(), history, model


def assert_same(a, b):
    for name, array in a[0].items():
        np.testing.assert_array_equal(array, b[0][name])
    assert a[1]["loss"] == b[1]["loss"]
    assert a[1]["accuracy"] == b[1]["accuracy"]


class Spy(fnn.Layer):
    """Notes which rows (their first number) each training batch held."""

    def __init__(self):
        self.batches = []

    def forward(self, x, training=True):
        if training:
            self.batches.append(x[:, 0].astype(int).tolist())
        return x

    def backward(self, dy):
        return dy


def batches_of(source, batch_size=4, epochs=1, normalised=False, **options):
    """The row numbers of each mini-batch of a fit; the source's first column holds them."""
    spy = Spy()
    layers = [spy, fnn.Dense(2, initializer="zeros")]
    model = fnn.Sequential([*layers, fnn.BatchNorm()] if normalised else layers, seed=0)
    model.fit(source, optimizer=fnn.SGD(1e-6), batch_size=batch_size, epochs=epochs, **options)
    return spy.batches


def numbered(n, **options):
    X = np.zeros((n, 2), np.float32)
    X[:, 0] = np.arange(n)
    return ArraySource(X, np.zeros(n, np.int64), **options)


# --- the same training ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
@pytest.mark.parametrize("window", [7, 20, 1000])
def test_in_order_it_is_the_training_in_memory(dtype, window, mapped):
    X, y = rows(100, dtype)
    expected = trained(X, y, shuffle=False)
    assert_same(
        trained(ArraySource(X, y, block_rows=9, window_rows=window), shuffle=False), expected
    )
    assert_same(trained(mapped(X), y, shuffle=False), expected)
    made = BatchSource(lambda: iter([(X[:60], y[:60]), (X[60:61], y[60:61]), (X[61:], y[61:])]))
    assert_same(trained(made, shuffle=False), expected)


def test_shuffled_as_in_memory_where_one_window_holds_all(mapped):
    X, y = rows(100)
    assert_same(trained(mapped(X), mapped(y, "y.npy")), trained(X, y))


def test_a_regression_with_several_outputs(mapped):
    X, y = rows(60)
    model, other = (fnn.Sequential([fnn.Dense(3)], seed=0) for _ in range(2))
    options = dict(loss="mean_squared_error", optimizer=fnn.SGD(1e-6), shuffle=False, epochs=2)
    targets = np.stack([y, 1 - y, 2 * y], axis=1).astype(np.float64)
    model.fit(X, targets, **options)
    options["optimizer"] = fnn.SGD(1e-6)
    other.fit(ArraySource(X, targets, 7, 20), **{**options, "batch_size": 128})
    np.testing.assert_array_equal(model.state()["0.weight"], other.state()["0.weight"])


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_evaluate_predict_and_validation(dtype, mapped):
    X, y = rows(3000, dtype)
    _, history, model = trained(X, y, epochs=2, validation_data=(X[:500], y[:500]))
    file = mapped(X)
    for source in (file, ArraySource(X, block_rows=77), lambda: iter([X[:1500], X[1500:]])):
        np.testing.assert_array_equal(model.predict(source), model.predict(X))
        np.testing.assert_array_equal(model.predict_proba(source), model.predict_proba(X))
    expected = model.evaluate(X, y)
    assert model.evaluate(file, y) == expected
    assert model.evaluate(iter([(X[:11], y[:11]), (X[11:], y[11:])])) == expected
    for validation in ((file[:500], y[:500]), ArraySource(X[:500], y[:500])):
        again = trained(X, y, epochs=2, validation_data=validation)[1]
        assert again["val_loss"] == history["val_loss"]


def test_a_source_through_a_preprocessor(mapped):
    X, y = rows(500, "float64")
    X = X * [1, 100, 1e-3, 1] + 1e4
    scaler = Standardize().fit(mapped(X))
    source = ArraySource(mapped(X), y).transformed(scaler)
    assert_same(trained(source), trained(scaler.transform(X), y))
    assert source.rows == 500 and source.window_rows is None
    # and while the steps of the window before run, on more threads than one
    with fnn.threads(2):
        source = ArraySource(mapped(X), y, block_rows=20, window_rows=50).transformed(scaler)
        expected = trained(scaler.transform(X), y, shuffle=False)
        assert_same(trained(source, shuffle=False), expected)


def test_the_outputs_of_predict_are_its_own():
    """The arrays of a window are written again."""

    class Same(fnn.Layer):
        def forward(self, x, training=True):
            return x

    model = fnn.Sequential([Same()], input_dim=2)
    model.compile(loss="mean_squared_error")
    X = np.arange(40000, dtype=np.float32).reshape(-1, 2)
    np.testing.assert_array_equal(model.predict(ArraySource(X, block_rows=100)), X)


# --- the order ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [40, 41, 43, 44, 45, 61])
def test_every_row_once_in_mini_batches_of_the_same_plan(n):
    source = numbered(n, block_rows=5, window_rows=20)
    for normalised, least in ((False, 1), (True, 2)):
        batches = batches_of(source, 4, epochs=2, normalised=normalised)
        sizes = [s.rows for s in plan_epoch(n, 4, least) for _ in range(s.steps)]
        assert [len(batch) for batch in batches] == sizes * 2
        first, second = batches[: len(sizes)], batches[len(sizes) :]
        for epoch in (first, second):
            assert sorted(sum(epoch, [])) == list(range(n))
        assert first != second


def test_blocks_are_shuffled_and_the_rows_of_a_window():
    batches = batches_of(numbered(4000, block_rows=50, window_rows=1000), 100)
    window = sorted(sum(batches[:10], []))
    blocks = {row // 50 for row in window}
    assert (
        len(blocks) <= 22
    )  # whole blocks, but for those that the last rows of the window are from
    assert max(blocks) - min(blocks) > 40  # from everywhere
    assert all(len({row // 50 for row in batch}) > 10 for batch in batches)


def test_the_same_seed_gives_the_same_order_and_a_stop_does_not_change_the_next():
    source = numbered(300, block_rows=10, window_rows=40)
    assert batches_of(source, epochs=2) == batches_of(source, epochs=2)

    class Stop:
        def on_batch_end(self, training):
            if training.step == 3:
                training.stop()

    def after_a_stop():
        spy = Spy()
        model = fnn.Sequential([spy, fnn.Dense(2)], seed=0)
        options = dict(batch_size=4, epochs=1, optimizer=fnn.SGD(1e-6))
        model.fit(source, callbacks=[Stop()], **options)
        assert len(spy.batches) == 3
        model.fit(source, **options)
        return spy.batches

    assert after_a_stop() == after_a_stop()


def test_what_training_tells_its_callbacks():
    seen = []

    class Look:
        def on_epoch_begin(self, training):
            seen.append((training.samples, training.steps_per_epoch, training.batch_size))

    X, y = rows(52)
    for source in (ArraySource(X, y), BatchSource([(X, y)], rows=52), BatchSource([(X, y)])):
        trained(source, epochs=2, callbacks=[Look()], verbose=True)
    assert seen == [(52, 8, 7)] * 4 + [(0, 0, 7), (52, 8, 7)]


def test_a_look_takes_its_rows_from_as_many_blocks_as_it_needs():
    X, y = rows(300)

    def one_by_one():
        return ((X[i : i + 1], y[i : i + 1]) for i in range(300))

    doctor = fnn.Doctor(show=None)  # the network has a batch norm, which wants two rows at least
    for batches in (one_by_one(), BatchSource(one_by_one), ArraySource(X, y, block_rows=1)):
        history = network().fit(batches, batch_size=30, epochs=1, callbacks=[doctor])
        assert doctor.probes[0].rows == 256 and history.epochs == 1
        np.testing.assert_array_equal(doctor._x, X[evenly(256, 256)])


# The iterator gives one window and then blocks. Ctrl-C comes while the next one is waited for, or in a step.
BLOCKED = """
    import sys, time
    import numpy as np
    import fastnn as fnn

    def batches():
        rng = np.random.default_rng(0)
        for _ in range(8):
            yield rng.standard_normal((10, 3)), rng.integers(0, 2, 10)
        print("blocked", flush=True)
        time.sleep(600)
        raise AssertionError("asked for more")

    class Busy(fnn.Layer):
        def forward(self, x, training=True):
            time.sleep(pause)
            return x

        def backward(self, dy):
            return dy

    pause = 600 if sys.argv[1] == "step" else 0
    model = fnn.Sequential([Busy(), fnn.Dense(2)], seed=0)
    source = fnn.sources.BatchSource(batches, window_rows=40)
    try:
        model.fit(source, batch_size=10, epochs=1, verbose=False)
    except KeyboardInterrupt:
        print(time.monotonic(), flush=True)
    pause = 0
    model.fit(np.eye(3), [0, 1, 1], epochs=1, verbose=False)
    print("usable", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process there")
@pytest.mark.parametrize("where", ["read", "step"])
def test_ctrl_c_does_not_wait_for_an_iterator_that_blocks(where):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BLOCKED), where], stdout=subprocess.PIPE, text=True,
        env=inherited(),
    )  # fmt: skip
    killer = threading.Timer(30, process.kill)  # then the lines that are waited for are empty
    killer.start()
    try:
        assert process.stdout.readline() == "blocked\n"
        time.sleep(0.2)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert float(process.stdout.readline()) - sent < 5  # of 600
        assert process.communicate()[0] == "usable\n" and process.returncode == 0
    finally:
        killer.cancel()
        process.kill()


def test_no_thread_stays_behind():
    source = numbered(300, block_rows=10, window_rows=40)
    before = set(threading.enumerate())
    batches_of(source)

    def broken():
        yield from ((block.x, block.y) for block in numbered(100, block_rows=10).blocks())
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        batches_of(BatchSource(broken, window_rows=20))
    with pytest.raises(fnn.NonFiniteError) as kept:  # with all that its traceback refers to
        mixed = ArraySource(source.X, np.arange(300) % 2, block_rows=10, window_rows=40)
        fnn.Sequential([fnn.Dense(2)]).fit(mixed, optimizer=fnn.SGD(1e38), batch_size=4)
    deadline = time.monotonic() + 20  # a busy machine may take longer than the epoch waits
    while kept and set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


def test_nothing_stays_behind_of_an_epoch_that_is_left_early():
    closed = []

    def rows():
        try:
            for _ in range(100):
                yield np.ones((10, 3), np.float32), np.zeros(10, int)
        finally:
            closed.append(True)

    stop = fnn.callbacks.LambdaCallback(on_batch_end=lambda training: training.stop())
    gc.disable()  # in no cycle that would wait for the collector
    try:
        fnn.Sequential([fnn.Dense(2)]).fit(
            BatchSource(rows, window_rows=40), batch_size=10, callbacks=[stop]
        )
    finally:
        gc.enable()
    assert closed


# --- batches of any origin ------------------------------------------------------------------------


def test_what_counts_as_batches(mapped):
    X, y = rows(10)

    class Loader:
        def __iter__(self):
            return iter([(X, y)])

        def __len__(self):
            return 1

    for data in (Loader(), iter([]), list, ArraySource(X), (x for x in X)):
        assert is_batches(data) and isinstance(as_source(data), Source)
    for data in (X, X.tolist(), (X, y), [[1.0]]):
        assert not is_batches(data) and as_source(data) is None
    file = mapped(X)
    assert is_mapped(file) and is_mapped(np.asarray(file)[2:, ::2]) and not is_mapped(X)
    assert isinstance(as_source(file, y), ArraySource)
    assert np.isfinite(trained(Loader(), epochs=2)[1]["loss"]).all()


def test_an_iterator_is_read_once():
    X, y = rows(50)
    make = lambda: iter([(X[:20], y[:20]), (X[20:], y[20:])])  # noqa: E731
    assert_same(trained(make(), epochs=1, shuffle=False), trained(X, y, epochs=1, shuffle=False))
    with pytest.raises(ValueError, match="needed 2 times.*pass a function"):
        trained(make(), epochs=2)
    with pytest.raises(ValueError, match="needed 2 times"):
        trained(X, y, epochs=2, validation_data=make())
    source = BatchSource(make())
    trained(source, epochs=1)
    with pytest.raises(ValueError, match="read already"):
        trained(source, epochs=1)


def test_empty_batches_are_passed_over():
    X, y = rows(30)
    parts = [(X[:0], y[:0]), (X[:20], y[:20]), (X[:0], y[:0]), (X[20:], y[20:])]
    assert_same(
        trained(iter(parts), epochs=1, shuffle=False), trained(X, y, epochs=1, shuffle=False)
    )


def test_full_batch_descent_on_a_file_reads_it_as_an_array(mapped):
    X, y = rows(30)
    assert_same(trained(mapped(X), y, batch_size=None), trained(X, y, batch_size=None))


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bad_value_is_named_by_its_row_and_the_model_can_be_used(value):
    X, y = rows(300)
    X[211, 2] = value
    model = network()
    with pytest.raises(ValueError, match=f"X holds {value} at row 211, column 2"):
        model.fit(ArraySource(X, y, 10, 40), batch_size=10, shuffle=False)
    assert all(np.isfinite(array).all() for array in model.state().values())
    assert np.isfinite(model.predict_proba(X[:200])).all()


def test_a_bad_label_is_named_by_its_block():
    X, y = rows(300)
    y[211] = 7
    with pytest.raises(ValueError, match=r"y\[210:220\] holds the label 7 in row 1"):
        network().fit(ArraySource(X, y, 10, 40), batch_size=10, shuffle=False)


def pairs(*shapes):
    return iter([(np.ones(x, np.float32), np.zeros(y, np.int64)) for x, y in shapes])


X_AND_Y = rows(40)


def built(model):
    model.build((4,))
    return model


def same_again():
    once = iter([X_AND_Y])
    return lambda: once


def miscounted(**options):
    return BatchSource(lambda: iter([X_AND_Y]), rows=50, **options)


def spoiled():
    X, y = rows(40)
    X[3, 2] = np.nan
    return X, y


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (
            lambda m: m.fit(pairs(((9, 4), 9), ((9, 5), 9)), epochs=1),
            ValueError,
            "5 values per row",
        ),
        (lambda m: m.fit(pairs(((9, 4), 8)), epochs=1), ValueError, "9 rows but its y has 8"),
        (lambda m: m.fit(pairs((9, 9)), epochs=1), ValueError, r"shape \(9,\), expected \(n, D\)"),
        (lambda m: m.fit(iter([np.ones((9, 4))]), epochs=1), ValueError, "no targets.*pairs"),
        (lambda m: m.fit(iter([]), epochs=1), ValueError, "no rows"),
        (lambda m: built(m).fit(lambda: iter([]), epochs=1), ValueError, "no rows"),
        (lambda m: m.fit(same_again(), epochs=3), ValueError, "the same iterator again"),
        (lambda m: m.fit(lambda: iter([(*X_AND_Y, None, 1)])), TypeError, "a tuple of 4"),
        (
            lambda m: m.fit(BatchSource(lambda: iter([X_AND_Y]), rows=30), epochs=1, batch_size=7),
            ValueError,
            "said to have 30 rows and gives more",
        ),
        *(
            (call, ValueError, "said to have 50 rows and gives only 40")
            for call in (
                lambda m: m.fit(miscounted(), epochs=2, batch_size=7),
                lambda m: m.fit(miscounted(window_rows=14), epochs=2, batch_size=7),
                lambda m: m.fit(*X_AND_Y, epochs=1, validation_data=miscounted()),
                lambda m: built(m).predict(miscounted()),
                lambda m: Standardize().fit(miscounted()),
            )
        ),
        (
            lambda m: m.fit(*X_AND_Y, epochs=1, validation_data=lambda: iter([spoiled()])),
            ValueError,
            "nan at row 3",
        ),
        (lambda m: m.fit(lambda: 3, epochs=1), TypeError, "returned a int, expected an iterable"),
        (lambda m: m.fit(pairs(((9, 4), 9)), np.zeros(9)), TypeError, "leave y out"),
        (lambda m: m.fit(pairs(((9, 4), 9)), epochs=1, batch_size=None), ValueError, "full-batch"),
        (lambda m: m.fit(np.ones((9, 4))), TypeError, "y is None, expected one target"),
        (lambda m: m.fit(ArraySource(np.ones((9, 4)))), ValueError, "no targets"),
        (lambda m: m.evaluate(iter([])), ValueError, "no rows"),
        (lambda m: m.predict(iter([])), ValueError, "no rows"),
        (lambda m: ArraySource([[1.0]]), TypeError, "expected an array that can be sliced"),
        (lambda m: ArraySource(np.ones((0, 3))), ValueError, "not empty"),
        (lambda m: ArraySource(np.ones(3)), ValueError, "one row per sample"),
        (lambda m: ArraySource(np.ones((3, 2)), [1, 2]), ValueError, "X has 3 rows but y has 2"),
        (lambda m: ArraySource(np.ones((3, 2)), block_rows=0), ValueError, "block_rows"),
        (lambda m: BatchSource(3), TypeError, "batches is a int"),
    ],
)
def test_what_is_refused(call, kind, words):
    model = network()
    model.compile("softmax_cross_entropy")
    with pytest.raises(kind, match=words):
        call(model)


def test_the_targets_of_all_batches_are_of_one_kind():
    X, y = rows(20)
    shares = np.eye(2, dtype=np.float32)[y]
    with pytest.raises(ValueError, match="the same kind of targets"):
        trained(iter([(X, y), (X, shares)]), epochs=1)


# --- memory and speed -----------------------------------------------------------------------------


def run_script(*arguments):
    if not SCRIPT.exists():
        pytest.skip("benchmarks/ is not here: not a checkout")
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        check=True, capture_output=True, text=True, env={**os.environ},
    ).stdout  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="RssAnon is Linux's")
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_twice_the_rows_need_no_more_memory(dtype):
    """In memory, 60,000 rows more would be 24 MB more, and even their order and labels 1 MB."""
    options = ("--peak", "--window", 5000, "--threads", 1, "--dtype", dtype, "--rows", 120_000)
    half, whole = json.loads(run_script(*options)).values()
    assert whole - half < 1e6


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RssAnon is Linux's")
def test_five_million_rows():
    output = run_script()
    assert "5,000,000 rows" in output
    half, whole = (float(line.split()[-2]) for line in output.splitlines()[:2])
    assert math.isclose(half, whole, rel_tol=0.05)
    ratio = next(line for line in output.splitlines() if line.startswith("file:"))
    assert float(ratio.split()[1]) >= 0.85, output


def test_one_row_is_too_little_for_a_batch_norm():
    model = fnn.Sequential([fnn.Dense(3), fnn.BatchNorm(), fnn.Dense(2)], input_dim=4, seed=0)
    with pytest.raises(ValueError, match="cannot train on a batch of 1 row"):
        model.fit(lambda: iter([(X_AND_Y[0][:1], X_AND_Y[1][:1])]), epochs=1, batch_size=7)
