"""Models in files: safetensors with the architecture in the metadata, never pickle.

A model file holds numbers and names, and no code. Reading one builds layers that fastnn knows, or
that the reader hands over in `layers`, and checks every array against them before it is used. The
file is written beside its destination, synced and renamed, so a crash leaves the old one whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import losses, optimizers
from .checks import check_integer
from .files import replacing
from .layers import KNOWN
from .layers.base import Layer

if TYPE_CHECKING:
    from .models import Sequential

FORMAT_VERSION = 1
# The one entry of the file's metadata that is ours; safetensors allows text values only.
METADATA_KEY = "fastnn"
PREPROCESSING_PREFIX = "preprocessing."
OPTIMIZER_PREFIX = "optimizer."


class ModelFileError(ValueError):
    """A file that is not a whole fastnn model, or one that this version cannot read."""


def save(model: Sequential, path: str | os.PathLike[str], optimizer: bool = False) -> None:
    """Write a built model: architecture, parameters, running statistics, loss, preprocessing.

    Parameters
    ----------
    model : Sequential
    path : path
        An existing file is replaced, whole or not at all.
    optimizer : bool
        Write also what training goes on with: the optimizer with its state and number of steps, and
        the random stream that shuffles. A schedule is a function and cannot be written: its next
        rate is, and ``model.optimizer.lr = schedule`` after loading brings it back at its step.

    Raises
    ------
    RuntimeError
        The model is not built, so there is nothing to save.
    TypeError
        A layer's or the optimizer's `get_config` holds something that JSON does not.
    OSError
        The file cannot be written; an old one is untouched.

    Examples
    --------
    >>> import os, tempfile, fastnn as fnn
    >>> model = fnn.Sequential([fnn.Dense(2)], input_dim=3, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(os.path.join(folder, "model.safetensors"))
    ...     twin = fnn.load(os.path.join(folder, "model.safetensors"))
    >>> bool((twin.parameters()["0.weight"] == model.parameters()["0.weight"]).all())
    True
    """
    from safetensors.numpy import save as to_bytes

    tensors = {name: np.ascontiguousarray(array) for name, array in model.state().items()}
    description: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "layers": [_describe(layer) for layer in model.layers],
        "input_shape": model.input_shape,
        "dtype": model.dtype.name,
        "seed": model.seed,
    }
    if model.loss is not None:
        config = model.loss.get_config() if hasattr(model.loss, "get_config") else {}
        description["loss"] = {"name": model.loss.name, "config": config}
    if model.preprocessing is not None:
        preprocessing = model.preprocessing
        description["preprocessing"] = {
            "kind": preprocessing.kind,
            "config": preprocessing.get_config(),
        }
        for name, array in preprocessing.get_arrays().items():
            tensors[PREPROCESSING_PREFIX + name] = np.ascontiguousarray(array)
    if optimizer and model.optimizer is not None:
        description["optimizer"] = _describe_optimizer(model.optimizer)
        description["rng"] = model.rng.bit_generator.state
        for name, array in model.optimizer.state.items():
            tensors[OPTIMIZER_PREFIX + name] = array
    content = to_bytes(tensors, metadata={METADATA_KEY: json.dumps(description)})
    with replacing(path, "wb") as file:
        file.write(content)
    _sync_folder(Path(os.path.realpath(path)).parent)


def load(
    path: str | os.PathLike[str], layers: Mapping[str, type[Layer]] | None = None
) -> Sequential:
    """Read a model that `save` wrote.

    Parameters
    ----------
    path : path
    layers : mapping of str to class, optional
        The classes of layers that are not fastnn's own, by name: ``{"Mine": Mine}``.

    Returns
    -------
    Sequential
        With its parameters, running statistics, loss and preprocessing; with the optimizer and its
        state where `save` was told to write them and it is one of fastnn's own.

    Raises
    ------
    OSError
        The file is not there or cannot be read.
    ModelFileError
        It is truncated, damaged, not a model of fastnn's, of a later format, or has a layer that
        is neither fastnn's own nor in `layers`.
    """
    tensors, description = _read(path)
    try:
        return _rebuild(path, tensors, description, {**KNOWN, **(layers or {})})
    except ModelFileError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelFileError(
            f"{path} is a damaged model file ({type(error).__name__}: {error}); "
            "save the model again"
        ) from error


def _describe(layer: Layer) -> dict[str, Any]:
    config = layer.get_config()
    try:
        json.dumps(config)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"layer {layer.label} cannot be saved: get_config returned {config!r}, "
            f"which JSON cannot hold ({error}); return numbers, text, lists and dicts only"
        ) from None
    description: dict[str, Any] = {"type": type(layer).__name__, "config": config}
    if layer.training_passes:  # a later fit draws on where this one stopped
        description["training_passes"] = layer.training_passes
    return description


def _describe_optimizer(optimizer: optimizers.Optimizer) -> dict[str, Any]:
    config = {**optimizer.get_config(), "lr": float(optimizer.learning_rates(1)[0])}
    try:
        json.dumps(config)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{optimizer!r} cannot be saved: {error}; save without optimizer=True"
        ) from None
    return {
        "type": type(optimizer).__name__,
        "config": config,
        "step_count": optimizer.step_count,
    }


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors (copies) and the description, or one clear error."""
    from safetensors import SafetensorError, safe_open

    with open(path, "rb") as file:  # says "no such file", "permission denied", "is a directory"
        if not file.read(1):
            raise ModelFileError(f"{path} is empty, expected a model that fastnn saved")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if METADATA_KEY not in metadata:
                raise ModelFileError(
                    f"{path} is a safetensors file, but not a model that fastnn saved"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(
            f"{path} is not a whole model file ({error}): it is damaged, was cut off, or is of "
            "another kind; expected a model that fastnn saved"
        ) from None
    try:
        description = json.loads(metadata[METADATA_KEY])
        version = description["format_version"]
    except (ValueError, KeyError, TypeError):
        raise ModelFileError(f"{path} has a damaged description; save the model again") from None
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format {version}, this fastnn reads up to {FORMAT_VERSION}: upgrade fastnn"
        )
    return tensors, description


def _rebuild(
    path: str | os.PathLike[str],
    tensors: dict[str, np.ndarray],
    description: dict[str, Any],
    known: Mapping[str, type[Layer]],
) -> Sequential:
    from .models import Sequential

    layers = []
    for position, entry in enumerate(description["layers"]):
        kind = entry["type"]
        if kind not in known:
            raise ModelFileError(
                f"{path}: layer {position} is {kind!r}, which fastnn does not know: "
                f"pass its class, fastnn.load(path, layers={{{kind!r}: {kind}}})"
            )
        layers.append(known[kind](**entry["config"]))
        layers[-1].training_passes = check_integer(
            entry.get("training_passes", 0), "training_passes", 0, 2**62
        )
    model = Sequential(layers, dtype=description["dtype"], seed=description["seed"])
    prefix = PREPROCESSING_PREFIX
    apart = (prefix, OPTIMIZER_PREFIX)
    state = {name: array for name, array in tensors.items() if not name.startswith(apart)}
    for name, array in state.items():
        if array.dtype != model.dtype:
            raise ValueError(f"{name} is {array.dtype}, the model {model.dtype}")
    model.build_from(tuple(description["input_shape"]), state)
    if (loss := description.get("loss")) is not None:
        try:
            model.loss = losses.get(loss["name"], loss["config"])
        except ValueError:  # the user's own: compile(loss=…) brings it back
            model.loss = None
    if (entry := description.get("optimizer")) is not None and entry["type"] in optimizers.KNOWN:
        _resume(model, entry, description["rng"], tensors)
    if (entry := description.get("preprocessing")) is not None:
        from . import preprocessing

        arrays = {name[len(prefix) :]: a for name, a in tensors.items() if name.startswith(prefix)}
        model.preprocessing = preprocessing.from_state(entry["kind"], entry["config"], arrays)
    return model


def _resume(
    model: Sequential,
    entry: dict[str, Any],
    rng: dict[str, Any],
    tensors: dict[str, np.ndarray],
) -> None:
    """The optimizer and the shuffling as they were."""
    optimizer = optimizers.KNOWN[entry["type"]](**entry["config"])
    optimizer.bind(model.flat)
    for name, array in optimizer.state.items():
        kept = tensors[OPTIMIZER_PREFIX + name]
        if kept.shape != array.shape or kept.dtype != array.dtype:
            raise ValueError(f"{name} of the optimizer is {kept.dtype} {kept.shape}")
        array[:] = kept
    optimizer.step_count = check_integer(entry["step_count"], "step_count", 0, 2**62)
    model.optimizer = optimizer
    model.rng.bit_generator.state = rng


def _sync_folder(folder: Path) -> None:
    """Sync the renaming itself, where the system lets a folder be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
