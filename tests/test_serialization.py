from __future__ import annotations

import json
import os
import pickle
import struct

import numpy as np
import pytest

import fastnn as fnn
from fastnn.preprocessing import Standardize
from fastnn.serialization import METADATA_KEY, ModelFileError

CE = "softmax_cross_entropy"


class Double(fnn.Layer):
    """A layer that is not fastnn's own, with a parameter, a buffer and an argument."""

    def __init__(self, start=2.0):
        self.start = start

    def build(self, input_shape):
        self.add_parameter("factor", input_shape, self.start)
        self.add_buffer("calls", 1)
        return input_shape

    def forward(self, x, training=True):
        if training:
            self.buffers["calls"] += 1
        self.x = x
        return x * self.parameters["factor"]

    def backward(self, dy):
        self.gradients["factor"] = (dy * self.x).sum(axis=0)
        return dy * self.parameters["factor"]


def data():
    rng = np.random.default_rng(1)
    return rng.standard_normal((60, 5)), rng.integers(0, 3, 60)


def trained(dtype="float32", extra=()):
    model = fnn.Sequential(
        [fnn.Dense(6, fnn.initializers.Normal(0.3), bias_init=0.01), fnn.BatchNorm(0.2, 1e-4)]
        + [*extra, fnn.ReLU(), fnn.Dense(3, bias=False)],
        dtype=dtype,
        seed=4,
    )
    model.fit(*data(), CE, fnn.SGD(0.1, 0.9), batch_size=16, epochs=2)
    return model


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def read(path):
    """(header, tensor bytes) of a safetensors file."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def write(path, header, body):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def change_description(path, change):
    header, body = read(path)
    description = json.loads(header["__metadata__"][METADATA_KEY])
    change(description)
    header["__metadata__"][METADATA_KEY] = json.dumps(description)
    write(path, header, body)


# --- there and back ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_comes_back_bit_for_bit(path, dtype):
    model = trained(dtype)
    model.save(path)
    twin = fnn.load(path)
    assert repr(twin) == repr(model)
    assert twin.dtype == model.dtype and twin.loss == model.loss
    assert twin.state().keys() == model.state().keys()
    for name, array in model.state().items():
        assert np.array_equal(twin.state()[name], array), name
        assert twin.state()[name].ctypes.data % 64 == 0 or "running" not in name
    X, y = data()
    np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
    assert twin.evaluate(X, y) == model.evaluate(X, y)


def test_a_loaded_model_trains_on(path):
    trained().save(path)
    twin = fnn.load(path)
    X, y = data()
    before = twin.evaluate(X, y)["loss"]
    twin.fit(X, y, optimizer=fnn.SGD(0.05), batch_size=20, epochs=10)
    assert twin.evaluate(X, y)["loss"] < before


def test_preprocessing_travels_with_the_model(path):
    model = trained()
    X, _ = data()
    model.preprocessing = Standardize().fit(X * 7 + 3)
    model.save(path)
    twin = fnn.load(path)
    np.testing.assert_array_equal(twin.preprocessing.transform(X), model.preprocessing.transform(X))
    twin.save(path)
    assert fnn.load(path).preprocessing.kind == model.preprocessing.kind


def test_an_own_layer_needs_its_class(path):
    model = trained(extra=[Double(3.0)])
    model.save(path)
    with pytest.raises(ModelFileError, match=r"layer 2 is 'Double'.*layers=\{'Double': Double\}"):
        fnn.load(path)
    twin = fnn.load(path, layers={"Double": Double})
    assert isinstance(twin.layers[2], Double) and twin.layers[2].start == 3.0
    assert twin.state()["2.calls"] == model.state()["2.calls"] > 1
    np.testing.assert_array_equal(twin.predict_proba(data()[0]), model.predict_proba(data()[0]))


def test_an_own_initializer_leaves_its_numbers_only(path):
    model = fnn.Sequential([fnn.Dense(2, initializer=lambda shape, rng: np.ones(shape))], 3)
    model.save(path)
    twin = fnn.load(path)
    assert (twin.parameters()["0.weight"] == 1).all()
    with pytest.raises(ValueError, match="an initializer of the user's own"):
        fnn.Sequential([fnn.Dense(**twin.layers[0].get_config())], input_dim=3)


def test_the_file_is_plain_safetensors(path):
    safetensors = pytest.importorskip("safetensors")
    model = trained()
    model.save(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        names = set(file.keys())
        description = json.loads(file.metadata()[METADATA_KEY])
    assert names == model.state().keys()
    assert description["format_version"] == 1
    assert [layer["type"] for layer in description["layers"]] == [
        "Dense",
        "BatchNorm",
        "ReLU",
        "Dense",
    ]
    assert (description["dtype"], description["input_shape"]) == ("float32", [5])


# --- files that are not models -------------------------------------------------------------------


def test_a_truncated_file_is_refused_wherever_it_was_cut(path):
    trained().save(path)
    whole = path.read_bytes()
    for cut in {0, 1, 7, 8, 9, len(whole) // 4, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:cut])
        with pytest.raises(ModelFileError, match=r"model\.safetensors is "):
            fnn.load(path)


@pytest.mark.parametrize(
    "content",
    [b"not a model\n" * 50, pickle.dumps({"a": 1}), b"\xff" * 400, b"PK\x03\x04" + b"\0" * 99],
)
def test_a_foreign_file_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="expected a model that fastnn saved"):
        fnn.load(path)


def test_safetensors_of_others_are_refused(path):
    numpy = pytest.importorskip("safetensors.numpy")
    for metadata in (None, {"format": "pt"}):
        numpy.save_file({"w": np.zeros(3)}, path, metadata=metadata)
        with pytest.raises(ModelFileError, match="is a safetensors file, but not a model"):
            fnn.load(path)


def test_missing_and_unreadable_files_say_so(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="model.safetensors"):
        fnn.load(path)
    with pytest.raises(IsADirectoryError):
        fnn.load(tmp_path)


def set_first_units(units):
    def change(description):
        description["layers"][0]["config"]["units"] = units

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d.update(format_version=2), "has format 2.*upgrade fastnn"),
        (lambda d: d.pop("format_version"), "damaged description"),
        (lambda d: d.pop("layers"), "damaged model file"),
        (lambda d: d.update(layers=[]), "damaged model file"),
        (lambda d: d.update(layers="Dense"), "damaged model file"),
        (lambda d: d.update(dtype="float64"), "0.bias is float32|is float32, the model float64"),
        (lambda d: d.update(dtype="int8"), "dtype is 'int8'"),
        (lambda d: d.update(input_shape=[6]), r"0.weight: expected the shape \(6, 6\)"),
        (lambda d: d["layers"].pop(), "holds 3.weight"),
        (lambda d: d["layers"][0]["config"].update(surprise=1), "surprise"),
        (lambda d: d.update(seed="x"), "seed is 'x'"),
        # As much memory as there is in the world: refused before a byte of it is asked for.
        (set_first_units(2**31 - 1), r"expected the shape"),
    ],
)
def test_a_damaged_description_is_refused(path, change, match):
    trained().save(path)
    change_description(path, change)
    with pytest.raises(ModelFileError, match=match):
        fnn.load(path)


def test_a_description_that_is_not_json_is_refused(path):
    trained().save(path)
    header, body = read(path)
    header["__metadata__"][METADATA_KEY] = "{"
    write(path, header, body)
    with pytest.raises(ModelFileError, match="damaged description"):
        fnn.load(path)


def test_a_missing_tensor_is_refused(path):
    trained().save(path)
    header, body = read(path)
    header["1.other"] = header.pop("1.gamma")
    write(path, header, body)
    with pytest.raises(ModelFileError, match="lacks 1.gamma"):
        fnn.load(path)


# --- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(path, monkeypatch, failing):
    model = trained()
    model.save(path)
    old = path.read_bytes()

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    other = trained()
    other.parameters()["0.weight"][:] = 0
    with pytest.raises(OSError, match="No space left"):
        other.save(path)
    monkeypatch.undo()
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == [path.name]


def test_the_file_is_synced_before_it_is_renamed_and_its_folder_after(path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def noted(*args, _name=name, _real=real):
            done.append(_name)
            return _real(*args)

        monkeypatch.setattr(os, name, noted)
    trained().save(path)
    assert done[:2] == ["fsync", "replace"]
    assert done[2:] == ["fsync"] or os.name != "posix"


def test_an_old_file_is_replaced_and_a_link_followed(path, tmp_path):
    trained().save(path)
    link = tmp_path / "link"
    link.symlink_to(path)
    model = trained("float64")
    model.save(link)
    assert link.is_symlink() and fnn.load(path).dtype == np.float64


def test_what_cannot_be_saved_says_why(path, tmp_path):
    with pytest.raises(RuntimeError, match="no parameters yet"):
        fnn.Sequential([fnn.Dense(2)]).save(path)
    with pytest.raises(FileNotFoundError):
        trained().save(tmp_path / "nowhere" / "model")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        trained().save(tmp_path)
    model = fnn.Sequential([Double(fnn.initializers.Normal())], input_dim=5)
    with pytest.raises(TypeError, match=r"layer 0 \(Double\) cannot be saved"):
        model.save(path)
    assert not path.exists()


def test_a_later_fit_draws_other_masks_than_the_first(tmp_path):
    """Training in two parts, with a file between them, is training at once."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((48, 5)), rng.integers(0, 3, 48)
    settings = dict(batch_size=16, epochs=1, shuffle=False)
    stack = lambda: [fnn.Dense(8), fnn.ReLU(), fnn.Dropout(0.5), fnn.Dense(3)]  # noqa: E731
    whole, part = (fnn.Sequential(stack(), input_dim=5, seed=0) for _ in range(2))
    whole.fit(X, y, **{**settings, "epochs": 2}, optimizer=fnn.SGD(0.1))
    part.fit(X, y, **settings, optimizer=fnn.SGD(0.1))
    part.save(tmp_path / "part")
    loaded = fnn.load(tmp_path / "part")
    assert loaded.layers[2].training_passes == 3
    loaded.fit(X, y, **settings, optimizer=fnn.SGD(0.1))
    for name, value in whole.state().items():
        np.testing.assert_array_equal(loaded.state()[name], value, err_msg=name)


@pytest.mark.parametrize(
    "loss",
    [
        fnn.SoftmaxCrossEntropy(0.1, [1, 2, 3]),
        fnn.BinaryCrossEntropy(),
        fnn.MulticlassHinge(0.5),
        fnn.MeanAbsoluteError(),
        fnn.Huber(0.3),
    ],
    ids=repr,
)
def test_losses_keep_their_settings(loss, tmp_path):
    model = fnn.Sequential([fnn.Dense(3)], input_dim=5, seed=0)
    model.compile(loss)
    model.save(tmp_path / "model")
    assert fnn.load(tmp_path / "model").loss == loss
