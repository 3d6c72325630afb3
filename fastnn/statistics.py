"""What the layers of a network put out: `activation_statistics`."""

from __future__ import annotations

import copy
import csv
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from .checks import check_integer
from .files import replacing
from .inputs import as_rows, check_finite
from .layers import Activation, Maxout
from .layers.base import Layer, Views
from .network import Network
from .text import aligned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Values are summed up in blocks that stay in cache.
BLOCK = 1 << 14
#: A value is saturated where the slope of its activation is below this share of the steepest one:
#: beyond ±2.18 for tanh (an output beyond ±0.975), beyond ±4.36 for the sigmoid.
SATURATED_SLOPE = 0.05
#: A unit is dead where its slope is below this for every row: no row moves its weights.
DEAD_SLOPE = 1e-3
#: The steepest slope of the activations that saturate: that have a flat end beside "off".
STEEPEST = {
    "tanh": 1.0,
    "sigmoid": 1 / 4,
    "hard_tanh": 1.0,
    "hard_sigmoid": 1 / 6,
    "elu": 1.0,
    "selu": 1.7581,  # scale · alpha, just left of 0
}
#: Bounded above, and "off" below, where a slope of zero is no saturation.
BOUNDED_ABOVE = {"relu6": 6.0}


@dataclass(frozen=True)
class LayerStatistics:
    """The outputs of one layer for some rows.

    Attributes
    ----------
    name, kind : str
        The position in the model and the class: "2", "ReLU".
    mean, std : float
        Over all rows and units.
    minimum, maximum : float
    saturated : float or None
        The share of values at a flat end of the activation (of tanh, sigmoid, ELU and their likes);
        None for layers that have none.
    dead : float or None
        The share of units (of the pieces of a maxout) that are switched off for every row; None for
        layers that cannot be.
    counts, edges : ndarray (bins,), (bins + 1,)
        A histogram of the finite values.
    """

    name: str
    kind: str
    mean: float
    std: float
    minimum: float
    maximum: float
    saturated: float | None
    dead: float | None
    counts: np.ndarray
    edges: np.ndarray

    @property
    def label(self) -> str:
        """Position and kind, as messages name a layer: ``2 (ReLU)``."""
        return f"{self.name} ({self.kind})"


class ActivationStatistics(Sequence[LayerStatistics]):
    """A sequence of `LayerStatistics`, one for each layer; printed as a table.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> model = fnn.Sequential([fnn.Dense(3, initializer="zeros"), fnn.ReLU()], input_dim=2)
    >>> print(fnn.activation_statistics(model, np.ones((4, 2))))
    layer      mean  std  saturated    dead
    0 (Dense)     0    0          –       –
    1 (ReLU)      0    0          –  100.0%
    """

    def __init__(self, layers: Sequence[LayerStatistics], rows: int) -> None:
        self._layers = tuple(layers)
        #: The rows that were given.
        self.rows = rows

    @overload
    def __getitem__(self, index: int) -> LayerStatistics: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[LayerStatistics]: ...
    def __getitem__(self, index: int | slice) -> LayerStatistics | Sequence[LayerStatistics]:
        return self._layers[index]

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[LayerStatistics]:
        return iter(self._layers)

    def activations(self) -> ActivationStatistics:
        """Only what comes out of activations (and maxouts); all layers where there are none."""
        kept = [s for s in self if s.dead is not None]
        return ActivationStatistics(kept or self._layers, self.rows)

    def __str__(self) -> str:
        rows = [("layer", "mean", "std", "saturated", "dead")]
        for s in self:
            shares = _share(s.saturated), _share(s.dead)
            rows.append((s.label, f"{s.mean:.4g}", f"{s.std:.4g}", *shares))
        return "\n".join(aligned(rows))

    __repr__ = __str__

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the numbers of the table, an empty cell where there is none.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        names = ("name", "kind", "mean", "std", "minimum", "maximum", "saturated", "dead")
        with replacing(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            for s in self:
                writer.writerow("" if (v := getattr(s, n)) is None else v for n in names)

    def plot(
        self, path: str | os.PathLike[str] | None = None, *, title: str | None = None
    ) -> Figure:
        """A histogram per layer; see `fastnn.plots.activation_histograms`.

        Raises
        ------
        ImportError
            matplotlib is not installed (the `plot` extra).
        ValueError, OSError
            `path` does not end in .png, .svg or .pdf, or cannot be written.
        """
        from .plots import activation_histograms, save

        figure = activation_histograms(self, title=title)
        if path is not None:
            save(figure, path)
        return figure


def activation_statistics(
    model: Network, x: Any, *, training: bool = True, bins: int = 60
) -> ActivationStatistics:
    """Mean, spread, saturated and dead units and a histogram of the outputs of every layer.

    The model is left as it is: parameters, running statistics, what its layers have saved for their
    backward, and the masks that dropout will draw.

    Parameters
    ----------
    model : Sequential
        Built by these rows where it is not yet.
    x : array (N, D)
        Rows as `fit` takes them; a few hundred show whether a unit is ever on.
    training : bool
        Batch norm takes the statistics of these rows, as it does in training (before which the running
        ones mean nothing), and dropout drops.
    bins : int
        Of the histograms.

    Returns
    -------
    ActivationStatistics
        One `LayerStatistics` per layer; ``print`` shows a table, ``plot`` draws.

    Raises
    ------
    TypeError, ValueError
        No model; x is empty, not finite, or does not fit; a batch norm gets a single row.

    Notes
    -----
    A value counts as *saturated* where the slope of its activation is below 5% of the steepest (tanh
    beyond ±0.975); a unit as *dead* where its slope is below 0.001 for every row, so that no row moves
    its weights: a ReLU that is never positive, a tanh that is always at ±1. Of a maxout, pieces that
    are never the largest are counted. Values that are not finite make mean and spread NaN or infinite.

    Source of the view by layer: Glorot and Bengio (2010), section 3.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> x = np.random.default_rng(0).standard_normal((500, 100))
    >>> layers = [fnn.Dense(100, initializer=fnn.initializers.Normal(1.0)), fnn.Tanh()]
    >>> statistics = fnn.activation_statistics(fnn.Sequential(layers, seed=0), x)
    >>> [s.label for s in statistics]
    ['0 (Dense)', '1 (Tanh)']
    >>> 0.8 < statistics[1].saturated < 0.85  # beyond 2.18 of a spread of 10
    True
    """
    if not isinstance(model, Network):
        raise TypeError(f"model is {model!r:.60}, expected a fastnn.Sequential")
    bins = check_integer(bins, "bins", 1, 1 << 20)
    rows = as_rows(x, model.dtype, model.input_shape if model.built else None, "x")
    check_finite(rows, x, "x")
    if not model.built:
        model.build(rows.shape[1:])
    found = []
    y = rows
    for layer in map(_bystander, model.layers):
        y = model._checked(layer, "forward", layer.forward(y, training), len(y))
        found.append(_of(layer, y, bins))
    return ActivationStatistics(found, len(rows))


def _bystander(layer: Layer) -> Layer:
    """A twin with the same parameters, whose forward leaves no trace in the model."""
    twin = copy.copy(layer)
    twin.buffers = Views()
    for name, array in layer.buffers.items():
        twin.buffers.attach(name, array.copy())
    return twin


def _of(layer: Layer, y: np.ndarray, bins: int) -> LayerStatistics:
    with np.errstate(invalid="ignore", over="ignore"):
        low, high = float(y.min()), float(y.max())
        mean, std = _moments(y.ravel())
    saturated, dead = _flat_shares(layer, y)
    counts, edges = _histogram(y.ravel(), low, high, bins)
    return LayerStatistics(
        layer.name, type(layer).__name__, mean, std, low, high, saturated, dead, counts, edges
    )


def _moments(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation, block by block in float64 (Chan et al. 1983, equation 2.1)."""
    count, mean, squares = 0, 0.0, 0.0
    for start in range(0, values.size, BLOCK):
        block = values[start : start + BLOCK].astype(np.float64)
        both = count + block.size
        own = float(block.mean())
        block -= own
        gap = own - mean
        squares += float(np.einsum("i,i->", block, block)) + gap * gap * count * block.size / both
        mean += gap * block.size / both
        count = both
    return mean, math.sqrt(squares / count) if squares >= 0 else math.nan


def _flat_shares(layer: Layer, y: np.ndarray) -> tuple[float | None, float | None]:
    """Shares of saturated values and of dead units."""
    if isinstance(layer, Maxout):
        used = np.zeros((layer.units, layer.pieces), bool)
        for piece in range(layer.pieces):
            used[:, piece] = (layer._which == piece).any(axis=0)
        return None, 1.0 - float(used.mean())
    if not isinstance(layer, Activation):
        return None, None
    slope = np.abs(layer.backward(np.ones_like(y)))
    saturated = None
    if layer.operation in STEEPEST:
        steepest = STEEPEST[layer.operation] * max(1.0, layer.options.get("alpha", 1.0))
        saturated = float((slope < SATURATED_SLOPE * steepest).mean())
    elif layer.operation in BOUNDED_ABOVE:
        saturated = float((y >= BOUNDED_ABOVE[layer.operation]).mean())
    return saturated, float((slope < DEAD_SLOPE).all(axis=0).mean())


def _histogram(
    values: np.ndarray, low: float, high: float, bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Counts and edges as `numpy.histogram` gives them, of the finite values, in a third of the time."""
    if not np.isfinite(high - low):
        values = values[np.isfinite(values)].astype(np.float64) / 4  # so that high − low is finite
        if not values.size:
            return np.zeros(bins, np.int64), np.linspace(0.0, 1.0, bins + 1)
        counts, edges = _histogram(values, float(values.min()), float(values.max()), bins)
        return counts, 4 * edges
    if low == high:
        half = max(0.5, abs(low) / 2)
        low, high = low - half, high + half
    counts = np.zeros(bins + 1, np.int64)
    for start in range(0, values.size, BLOCK):
        places = values[start : start + BLOCK].astype(np.float64)
        places -= low
        places *= bins / (high - low)
        counts += np.bincount(places.astype(np.intp), minlength=bins + 1)[: bins + 1]
    counts[-2] += counts[-1]  # the largest value belongs to the last bin
    return counts[:-1], np.linspace(low, high, bins + 1)


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
