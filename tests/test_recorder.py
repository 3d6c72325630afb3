"""What a recorder keeps of a fit, and that neither it nor the statistics change the run."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import fastnn as fnn
from fastnn.gradient_flow import DECADES
from fastnn.recorder import _some_rows

LOSS = "softmax_cross_entropy"


@pytest.fixture
def data():
    x = np.random.default_rng(0).standard_normal((120, 6)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(int)


def network(dtype="float32", **options):
    layers = [fnn.Dense(12), fnn.BatchNorm(), fnn.ReLU(), fnn.Dropout(0.3), fnn.Dense(2)]
    return fnn.Sequential(layers, input_dim=6, dtype=dtype, seed=0, **options)


def test_a_run_is_the_same_with_and_without_a_recorder(data):
    states = []
    for callbacks in ([], [fnn.Recorder(every=3, probe=data)]):
        model = network()
        model.fit(*data, optimizer=fnn.SGD(0.1, momentum=0.9), batch_size=20, epochs=3,
                  callbacks=callbacks, verbose=False)  # fmt: skip
        states.append(model.state())
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name], err_msg=name)


def test_ratios_are_those_of_the_steps(data):
    class Weights:
        def on_fit_begin(self, training):
            self.seen = [training.model.parameters()["0.weight"].copy()]

        def on_batch_end(self, training):
            self.seen.append(training.model.parameters()["0.weight"].copy())

    weights, recorder = Weights(), fnn.Recorder(every=4)
    network().fit(*data, optimizer=fnn.SGD(0.1), batch_size=20, epochs=2,
                  callbacks=[weights, recorder], verbose=False)  # fmt: skip
    assert recorder.steps == [1, 5, 9] and recorder.steps_per_epoch == 6
    assert list(recorder.ratios) == ["0.weight", "4.weight"]
    for step, ratio in zip(recorder.steps, recorder.ratios["0.weight"], strict=True):
        before, after = weights.seen[step - 1 : step + 1]
        assert ratio == pytest.approx(
            np.linalg.norm(after - before) / np.linalg.norm(before), rel=1e-4
        )
    assert len(recorder.losses) == 12


def test_some_rows_stand_for_a_large_matrix():
    w = np.arange(400 * 600, dtype=np.float32).reshape(400, 600)
    rows = _some_rows(w)
    assert np.may_share_memory(rows, w) and rows.shape == (80, 600)
    assert _some_rows(w[:50]).shape == (50, 600) and _some_rows(np.ones((2, 100_000))).shape[0] == 2


@pytest.mark.parametrize(("epochs", "steps"), [(1, 6), (40, 40), (400, 48)])
def test_how_often_it_looks_by_itself(data, epochs, steps):
    recorder = fnn.Recorder()
    network().fit(*data, batch_size=20, epochs=epochs, callbacks=[recorder], verbose=False)
    assert len(recorder.steps) == steps
    assert recorder.steps[0] == 1


def test_a_second_fit_starts_afresh_and_a_stopped_one_keeps_what_it_saw(data):
    class Stop:
        def on_batch_end(self, training):
            if training.step == 3:
                training.stop()

    recorder, model = fnn.Recorder(every=1, probe=data), network()
    model.fit(*data, batch_size=20, epochs=2, callbacks=[recorder], verbose=False)
    assert len(recorder.losses) == 12 and list(recorder.gradients) == [0, 1, 2]
    model.fit(*data, batch_size=20, epochs=2, callbacks=[recorder, Stop()], verbose=False)
    assert len(recorder.losses) == 3 and recorder.steps == [1, 2, 3]
    assert list(recorder.gradients) == [0, 1]


def test_it_leaves_whole_stretches_of_steps_to_the_step(data):
    class Calls(fnn.Recorder):
        def on_batch_end(self, training):
            steps.append(training.step)
            super().on_batch_end(training)

    steps, recorder = [], Calls(every=7)
    history = network().fit(*data, batch_size=10, epochs=2, callbacks=[recorder], verbose=False)
    # copied after 7 and 14, compared after 1, 8 and 15
    assert steps == [1, 7, 8, 14, 15, 21, 22] and recorder.steps == [1, 8, 15, 22]
    assert len(recorder.losses) == 24
    for epoch in range(2):
        mean = np.mean(recorder.losses[12 * epoch : 12 * epoch + 12])
        assert history["loss"][epoch] == pytest.approx(mean, rel=1e-12)


def test_gradients_are_those_of_a_layer_of_ones_own_as_it_is_now(data):
    class Scale(fnn.Layer):
        def __init__(self):
            self.factor = 1.0

        def forward(self, x, training=True):
            return self.factor * x

        def backward(self, dy):
            return self.factor * dy

    scale = Scale()
    model = fnn.Sequential([fnn.Dense(2), scale], input_dim=6, seed=0)
    recorder = fnn.Recorder(probe=data)
    shrink = fnn.callbacks.LambdaCallback(
        on_epoch_begin=lambda training: setattr(scale, "factor", 1e-3)
    )
    model.fit(*data, batch_size=20, epochs=2, loss=LOSS, callbacks=[shrink, recorder])
    seen, now = recorder.gradients[2]["0.weight"], fnn.gradient_statistics(model, *data)["0.weight"]
    assert seen.rms == now.rms < 0.01 * recorder.gradients[0]["0.weight"].rms


def test_a_step_that_fails_is_not_among_the_losses(data):
    recorder, model = fnn.Recorder(every=100), fnn.Sequential([fnn.Dense(1)], seed=0)
    with pytest.raises(fnn.NonFiniteError) as caught:
        model.fit(data[0], data[1], loss="mean_squared_error", optimizer=fnn.SGD(1e6), batch_size=20,
                  epochs=9, callbacks=[recorder], verbose=False)  # fmt: skip
    done = (caught.value.epoch - 1) * 6 + caught.value.step - 1
    assert len(recorder.losses) == done > 1 and np.isfinite(recorder.losses).all()


def test_an_epoch_of_unknown_length(data):
    """As batches from an iterator have it."""
    x, y = data
    batches = fnn.sources.BatchSource([(x[:60], y[:60]), (x[60:], y[60:])])
    recorder = fnn.Recorder()
    network().fit(batches, batch_size=20, epochs=10, callbacks=[recorder], verbose=False)
    assert recorder.steps == [1, 51] and recorder.steps_per_epoch == 6
    assert len(recorder.losses) == 60
    losses = []
    for source in (data, (lambda: iter([data]),)):  # 120 steps an epoch, known and not
        model = fnn.Sequential([fnn.Dense(2)], seed=0)
        model.fit(
            *source, batch_size=1, epochs=2, shuffle=False, callbacks=[recorder], verbose=False
        )
        losses.append(recorder.losses)
    assert losses[0] == losses[1] and len(losses[0]) == 240


def test_weights_of_zero_have_no_ratio(data):
    model = fnn.Sequential([fnn.Dense(2, initializer="zeros")], seed=0)
    recorder = fnn.Recorder(every=1)
    model.fit(*data, batch_size=60, epochs=1, callbacks=[recorder], verbose=False)
    first, second = recorder.ratios["0.weight"]
    assert np.isnan(first) and second > 0


def test_arguments():
    with pytest.raises(ValueError, match="every"):
        fnn.Recorder(every=0)
    with pytest.raises(TypeError, match=r"pair \(x, y\)"):
        fnn.Recorder(probe=np.ones(3))


def test_statistics_are_those_of_the_gradients(data):
    model = network("float64")
    twin = copy.deepcopy(model)
    found = fnn.gradient_statistics(model, *data, loss=LOSS)
    out = twin.forward(data[0])
    twin.backward(fnn.SoftmaxCrossEntropy().forward_backward(out, data[1])[1])
    assert list(found) == ["0.weight", "4.weight"]
    for name, statistics in found.items():
        gradient = twin.gradients()[name]
        assert statistics.rms == pytest.approx(np.sqrt((gradient**2).mean()))
        assert statistics.zeros == pytest.approx((gradient == 0).mean())
        assert statistics.counts.sum() == np.count_nonzero(gradient)
        middle = DECADES[np.argmax(statistics.counts)]
        assert abs(middle - np.log10(np.median(np.abs(gradient)))) < 1.5


def test_statistics_leave_the_model_as_it_is(data):
    model = network()
    model.fit(*data, optimizer=fnn.Adam(0.01), epochs=1, verbose=False)
    before = {name: array.copy() for name, array in model.state().items()}
    passes = [layer.training_passes for layer in model.layers]
    fnn.gradient_statistics(model, *data)
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    assert [layer.training_passes for layer in model.layers] == passes
    with pytest.raises(RuntimeError, match="used up"):
        model.gradients()
    assert model.optimizer.step_count == 1 and model.history is not None


def test_a_large_matrix_is_sampled_and_tiny_gradients_are_counted():
    model = fnn.Sequential([fnn.Dense(300), fnn.Dense(1)], input_dim=300, dtype="float64", seed=0)
    x = np.random.default_rng(0).standard_normal((4, 300)) * 1e-30
    found = fnn.gradient_statistics(model, x, np.ones((4, 1)), "mean_squared_error")["0.weight"]
    assert found.counts[0] == found.counts.sum() and 40_000 < found.counts.sum() <= 50_000


def test_statistics_need_a_built_model_and_a_loss(data):
    with pytest.raises(RuntimeError, match="no parameters yet"):
        fnn.gradient_statistics(fnn.Sequential([fnn.Dense(2)]), *data)
    with pytest.raises(RuntimeError, match="no loss"):
        fnn.gradient_statistics(network(), *data)
    with pytest.raises(ValueError, match="120"):
        fnn.gradient_statistics(network(), data[0], data[1][:5], LOSS)
