"""How large the gradients of a model are, weight by weight: do they vanish or explode on their way?

Read from back to front: the gradient of the last weights is made first, and each layer before it
multiplies by its weights and by the slope of its activation. Where that product is far from one,
the first layers learn nothing (vanishing) or are thrown about (exploding).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import losses
from .inputs import as_rows, check_lengths
from .norms import norm
from .twins import twin_of

if TYPE_CHECKING:
    from .losses import Loss
    from .models import Sequential

#: Edges of the histograms, in powers of ten: fifths of a decade; what lies beyond counts at the ends.
DECADES = np.round(np.arange(-14.0, 6.01, 0.2), 1)

# Of a larger matrix the histogram takes evenly spaced elements: enough for a picture, and quick.
SAMPLED = 50_000


@dataclass(frozen=True)
class GradientStatistics:
    """The gradient of one weight matrix.

    Attributes
    ----------
    layer : str
        The layer as errors call it.
    rms : float
        Root of the mean square over all elements.
    zeros : float
        The share of elements that are exactly zero: of dead units, or of inputs that are.
    counts : int64 array (100,)
        Histogram of log10(abs(gradient)) over the bins between `DECADES`, without the zeros; of
        more than 50,000 elements it counts evenly spaced ones.
    """

    layer: str
    rms: float
    zeros: float
    counts: np.ndarray = field(repr=False, compare=False)


def gradient_statistics(
    model: Sequential, x: Any, y: Any, loss: str | Loss | None = None
) -> dict[str, GradientStatistics]:
    """Gradients of the loss on one batch, in training mode, in numbers for each weight matrix.

    Parameters
    ----------
    model : Sequential
        Built. It is left as it is, running statistics and gradients included: the passes run on a
        copy.
    x, y : array (N, D), targets
        One batch, as in `Sequential.fit`.
    loss : str or Loss, optional
        By default the model's own. Penalties (`l2`) are not part of it.

    Returns
    -------
    dict of str to GradientStatistics
        By the names of `model.parameters()`, in the order of the layers; of parameters with two axes
        or more, so without biases, gamma and beta.

    Raises
    ------
    RuntimeError
        The model is not built, or neither has a loss nor is given one.
    TypeError, ValueError
        As `Sequential.fit` for its data.

    Examples
    --------
    Thirty sigmoids in a row let nearly nothing through:

    >>> import numpy as np, fastnn as fnn
    >>> layers = [layer for _ in range(30) for layer in (fnn.Dense(20), fnn.Sigmoid())]
    >>> model = fnn.Sequential([*layers, fnn.Dense(3)], input_dim=5, seed=0)
    >>> x = np.random.default_rng(0).standard_normal((64, 5))
    >>> statistics = fnn.gradient_statistics(model, x, np.arange(64) % 3, "softmax_cross_entropy")
    >>> statistics["0.weight"].rms < 1e-6 * statistics["60.weight"].rms
    True
    """
    model.flat  # noqa: B018  says what to do where the model is not built
    chosen = losses.get(loss) if loss is not None else model.loss
    if chosen is None:
        raise RuntimeError("the model has no loss yet: give loss=…, or fit the model first")
    return gradients_on(twin_of(model, optimizer=False), x, y, chosen)


def gradients_on(twin: Sequential, x: Any, y: Any, loss: Loss) -> dict[str, GradientStatistics]:
    """`gradient_statistics` by means of a copy, which it may do with as it likes."""
    rows = as_rows(x, twin.dtype, twin.input_shape, "x")
    check_lengths(rows, y, ("x", "y"))
    targets = loss.prepare_targets(y, len(rows), twin.output_shape, twin.dtype)
    out = twin.forward_all(rows, training=True)[-1]
    twin.backward_all(loss.forward_backward(out, targets)[1], need_dx=False)
    return {
        f"{layer.name}.{name}": _describe(layer.label, gradient)
        for layer in twin.layers
        for name, gradient in layer.gradients.items()
        if gradient.ndim > 1
    }


def _describe(layer: str, gradient: np.ndarray) -> GradientStatistics:
    flat = gradient.ravel()
    sample = np.abs(flat[:: -(-flat.size // SAMPLED)])
    sample = sample[(sample > 0) & np.isfinite(sample)]
    places = np.clip(np.log10(sample), DECADES[0], DECADES[-1])
    rms = norm(flat) / flat.size**0.5
    zeros = np.count_nonzero(flat == 0) / flat.size  # of booleans it is quick
    return GradientStatistics(layer, rms, zeros, np.histogram(places, DECADES)[0])
