"""The weights of the first layer as images: what each unit looks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fastnn.plots.canvas import FAINT, INK, new_figure, plain, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastnn.models import Sequential

# A square of fewer pixels is rather a table with a square number of columns than an image.
SMALLEST_SIDE = 5


def first_layer_weights(
    models: Sequential | Mapping[str, Sequential],
    image_shape: tuple[int, ...] | None = None,
    *,
    units: int = 40,
    title: str | None = None,
) -> Figure:
    """Draw the weights of the units of the first layer as images, of one model or of many.

    Grey images are drawn from blue (negative) over white to red (positive), colour images in their
    colours; each unit is scaled by its own largest weight. Smooth pictures come from a well trained,
    regularised layer, noisy ones from too short a training, too high a learning rate or too little
    regularisation. The number beside it is `geary`: 1 for pure noise, towards 0 the smoother.

    Parameters
    ----------
    models : Sequential, or mapping of labels to models
        Built; their first dense layer takes the pixels as they are.
    image_shape : tuple of int, optional
        (height, width), or of colour images (height, width, 3) or (3, height, width): how a row of
        the data becomes an image. By default the model's input shape, or a square.
    units : int
        So many at most, the first ones.
    title : str, optional
        Above the picture.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        matplotlib is not installed (the `plot` extra).
    RuntimeError
        A model is not built.
    ValueError
        There is no model, no dense layer on the inputs, or the inputs are no image of that shape.

    Examples
    --------
    >>> import fastnn as fnn
    >>> model = fnn.Sequential([fnn.Dense(20), fnn.ReLU(), fnn.Dense(2)], input_dim=64, seed=0)
    >>> figure = first_layer_weights({"before training": model})
    >>> figure.axes[0].get_title(loc="left")
    'before training'
    """
    named = dict(models) if isinstance(models, Mapping) else {"First-layer weights": models}
    if not named:
        raise ValueError("there is no model to draw")
    figure = None
    for place, (name, model) in enumerate(named.items()):
        images = weight_images(model, image_shape)
        sheet = _contact_sheet(images[:units])
        if figure is None:
            height, width = sheet.shape[:2]
            panel = min(6.2, 5.2 * width / height)
            beside = 0.4 + 0.3 * any(named) + 0.4 * bool(title)  # of the height: label and titles
            figure = new_figure(panel * len(named) + 0.3, panel * height / width + beside)
            grid = np.ravel(figure.subplots(1, len(named), squeeze=False))
        axes = grid[place]
        shown, count = min(units, len(images)), len(images)
        which = f"{shown} of {count} units" if shown < count else f"{count} units"
        style(axes, plain(name), f"{which}, roughness {geary(images):.2f} (noise: 1)")
        axes.imshow(sheet, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        axes.grid(False)
        axes.set(xticks=[], yticks=[])
        axes.spines["bottom"].set_visible(False)
        axes.xaxis.label.set(color=FAINT, fontsize=9)
    assert figure is not None
    if title:
        figure.suptitle(plain(title), fontsize=13, color=INK)
    return figure


def weight_images(model: Sequential, image_shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The weights of the first dense layer as (units, height, width) or (units, height, width, 3).

    Parameters, raises: as `first_layer_weights`.

    Examples
    --------
    >>> import fastnn as fnn
    >>> model = fnn.Sequential([fnn.Dense(20)], input_dim=3 * 32 * 32, seed=0)
    >>> weight_images(model, (3, 32, 32)).shape
    (20, 32, 32, 3)
    """
    model.flat  # noqa: B018  says what to do where the model is not built
    assert model.input_shape is not None
    weight = None
    for layer in model.layers:
        weight = layer.parameters.get("weight")
        # Batch norm, dropout and activations leave each pixel at its place.
        if weight is not None or layer.output_shape != model.input_shape:
            break
    pixels = math.prod(model.input_shape)
    if weight is None or weight.ndim != 2 or len(weight) != pixels:
        raise ValueError("the model has no dense layer that takes the inputs: no weights to draw")
    shape = _image_shape(model.input_shape, image_shape)
    images = weight.T.reshape(-1, *shape)
    if len(shape) == 3 and shape[0] == 3 != shape[2]:
        images = images.transpose(0, 2, 3, 1)
    return images


def geary(images: np.ndarray) -> float:
    """How noisy images are: Geary's C over pixels side by side (Geary 1954, eq. for C).

    The mean squared difference of neighbours, halved, over the variance of all pixels: 1 where
    neighbours have nothing to do with each other, near 0 for smooth images.

    Parameters
    ----------
    images : (n, height, width) or (n, height, width, 3) array

    Returns
    -------
    float
        The mean over the images that are not of a single colour; NaN without any.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).standard_normal((50, 16, 16))
    >>> round(geary(noise), 1), geary(noise.cumsum(1).cumsum(2)) < 0.2
    (1.0, True)
    """
    values = np.asarray(images, np.float64)
    axes = tuple(range(1, values.ndim))
    variance = values.var(axis=axes, ddof=1)
    down, across = (np.square(np.diff(values, axis=axis)) for axis in (1, 2))
    pairs = down[0].size + across[0].size
    differences = (down.sum(axis=axes) + across.sum(axis=axes)) / max(1, pairs)
    varied = variance > 0
    return (
        float((differences[varied] / (2 * variance[varied])).mean()) if varied.any() else math.nan
    )


def _image_shape(inputs: tuple[int, ...], wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    pixels = math.prod(inputs)
    if wanted is not None:
        shape = tuple(wanted)
        colours = len(shape) == 3 and 3 in (shape[0], shape[2])
        if (len(shape) != 2 and not colours) or min(shape) < 1 or math.prod(shape) != pixels:
            raise ValueError(
                f"image_shape is {shape}, expected (height, width), (height, width, 3) or "
                f"(3, height, width) of {pixels} numbers in all"
            )
        return shape
    if len(inputs) > 1:
        return _image_shape((pixels,), inputs)
    side = math.isqrt(pixels)
    if side * side != pixels or side < SMALLEST_SIDE:
        raise ValueError(
            f"the {pixels} inputs are not known to be an image: give image_shape, such as "
            "(28, 28), or (32, 32, 3) for colours"
        )
    return side, side


def _contact_sheet(images: np.ndarray) -> np.ndarray:
    """One picture of many, a gap between them; each scaled by its largest weight."""
    count, height, width = images.shape[:3]
    columns = math.ceil(math.sqrt(1.6 * count * height / width))
    rows = math.ceil(count / columns)
    gap = max(1, round(max(height, width) / 12))
    sheet = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, *images.shape[3:]), np.nan
    )
    for place, image in enumerate(images):
        top, left = (height + gap) * (place // columns), (width + gap) * (place % columns)
        scaled = image / (np.abs(image).max() or 1.0)
        sheet[top : top + height, left : left + width] = scaled
    if images.ndim == 4:  # colours from 0 to 1, and transparent between the images
        alpha = ~np.isnan(sheet[..., :1])
        return np.concatenate([np.where(alpha, 0.5 + 0.5 * np.nan_to_num(sheet), 1.0), alpha], -1)
    return sheet
