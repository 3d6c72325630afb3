"""`Sequential`: a network of layers in a row, trained by mini-batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import losses, optimizers, sample_weights
from .checks import check_integer, check_not_negative
from .inputs import as_rows, check_lengths
from .layers.base import Layer, Shape
from .losses import Loss
from .network import Network
from .optimizers import Optimizer
from .sources import Source, as_source

if TYPE_CHECKING:
    from .history import History
    from .plain_step import Step

# Steps are made per number of rows; a fit needs two or three sizes.
CACHED_STEPS = 8

# Of an optimizer, what a step does not have built in.
READ_AT_EVERY_STEP = ("_lr", "step_count")


class Sequential(Network):
    """A network of layers in a row.

    Parameters
    ----------
    layers : sequence of Layer
        At least one. A layer belongs to one model.
    input_dim : int or tuple of int, optional
        The size of a sample; taken from the first data where it is not given.
    dtype : "float32" or "float64"
        Of parameters and computation. Data of other types are converted: float64, integers and
        booleans to this type, lists, tables of numbers and arrays of other libraries too
        (`fastnn.interchange`); complex numbers, text and Python objects are refused.
    seed : int, optional
        Of the initial parameters and of the shuffling: with one seed, data and instruction set, a
        run gives the same bits. Without it, one is drawn; ``model.seed`` tells which.

    Attributes
    ----------
    layers : list of Layer
    loss, optimizer : Loss, Optimizer or None
        Those of the last `compile` or `fit`.
    history : History or None
        The record of the last `fit`, also where it was interrupted.
    preprocessing
        None, or the `fastnn.preprocessing` object whose output the model was trained on; it is
        saved with the model, for whoever prepares the data. `predict` does not apply it.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> X = np.random.default_rng(0).standard_normal((200, 2))
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> model = fnn.Sequential([fnn.Dense(16), fnn.ReLU(), fnn.Dense(2)], seed=0)
    >>> history = model.fit(X, y, optimizer=fnn.SGD(lr=0.5), batch_size=20, epochs=50)
    >>> bool(model.evaluate(X, y)["accuracy"] > 0.95)
    True
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        input_dim: int | Shape | None = None,
        dtype: Any = "float32",
        seed: int | None = None,
    ) -> None:
        super().__init__(layers, input_dim, dtype, seed)
        self.loss: Loss | None = None
        self.optimizer: Optimizer | None = None
        self.l2 = 0.0
        self.keep_gradients = False
        self.history: History | None = None
        self.preprocessing: Any = None
        #: Draws the order of the rows in `fit`; a stream apart from those of the layers.
        self.rng = np.random.default_rng(self.seed)
        self._steps: dict[tuple[int, bool, bool], Step] = {}
        self._compiled_for: list[Any] = []

    # --- training --------------------------------------------------------------------------------

    def compile(
        self,
        loss: str | Loss | None = None,
        optimizer: str | Optimizer | None = None,
        batch_size: int | None = None,
        l2: float | None = None,
        keep_gradients: bool | None = None,
    ) -> None:
        """Choose loss and optimizer for `train_on_batch`; `fit` does it by itself.

        Parameters
        ----------
        loss : str or Loss, optional
            By default the one before, or softmax cross-entropy.
        optimizer : Optimizer, optional
            By default the one before, which goes on with its state, or ``SGD(0.01, momentum=0.9)``.
        batch_size : int, optional
            Prepare the step for this many rows now rather than at its first use.
        l2 : float, optional
            λ of the penalty λ/(2m)·Σ‖W‖² over the weight matrices (m rows in the batch), which is
            part of the reported loss. By default as before, at first 0.
        keep_gradients : bool, optional
            Keep them for `gradients`; a compiled step otherwise updates weights as the products
            finish their gradients, where that is faster. By default as before, at first False.

        Raises
        ------
        TypeError, ValueError
            An unknown loss or optimizer, an optimizer that serves another model.
        """
        new_loss = losses.get(loss) if loss is not None else self.loss
        new_optimizer = optimizers.get(optimizer) if optimizer is not None else self.optimizer
        new_loss = new_loss or losses.SoftmaxCrossEntropy()
        new_optimizer = new_optimizer or optimizers.SGD(0.01, momentum=0.9)
        new_l2 = self.l2 if l2 is None else check_not_negative(l2, "l2")
        keep = self.keep_gradients if keep_gradients is None else bool(keep_gradients)
        if self.built:
            new_optimizer.bind(self.flat)
        if (
            new_loss != self.loss
            or new_optimizer is not self.optimizer
            or (new_l2, keep) != (self.l2, self.keep_gradients)
        ):
            self._steps.clear()
        self.loss, self.optimizer = new_loss, new_optimizer
        self.l2, self.keep_gradients = new_l2, keep
        if batch_size is not None and self.built:
            self.step_for(check_integer(batch_size, "batch_size", 1, 2**31 - 1))

    def _settings(self, loss: Loss, optimizer: Optimizer) -> list[Any]:
        """What a compiled step has built in; the learning rate is read at every step instead."""
        settings: list[Any] = [
            (name, value)  # two settings may change places
            for name, value in vars(optimizer).items()
            if name not in READ_AT_EVERY_STEP and isinstance(value, int | float)
        ]
        for layer in self.layers:
            for name in (*layer.adjustable, "l1", "l2", "max_norm"):
                value = getattr(layer, name)
                is_number = value is None or isinstance(value, int | float)
                settings.append(value if is_number else repr(value))
        settings.append(repr(getattr(loss, "get_config", dict)()))  # any class may be a loss
        return settings

    def step_for(
        self, rows: int, targets: np.ndarray | None = None, weighted: bool = False
    ) -> Step:
        """The training step for mini-batches of this many rows, made once and kept.

        `targets`, as the loss has prepared them, tell probabilities of classes from labels; `weighted`:
        the rows have weights.
        """
        soft = targets is not None and targets.ndim > 1
        soft = soft and isinstance(self.loss, losses.SoftmaxCrossEntropy)
        loss, optimizer = self.configured()
        settings = self._settings(loss, optimizer)
        if settings != self._compiled_for:  # changed on the objects since
            self._steps.clear()
            self._compiled_for = settings
        step = self._steps.get((rows, soft, weighted))
        if step is None:
            from .training import make_step

            optimizer.bind(self.flat)
            while len(self._steps) >= CACHED_STEPS:
                del self._steps[next(iter(self._steps))]
            step = make_step(
                self, loss, optimizer, rows,
                keep_gradients=self.keep_gradients, l2=self.l2, soft=soft, weighted=weighted,
            )  # fmt: skip
            self._steps[rows, soft, weighted] = step
        return step

    def configured(self) -> tuple[Loss, Optimizer]:
        """Loss and optimizer, or RuntimeError where none are chosen yet."""
        if self.loss is None or self.optimizer is None:
            raise RuntimeError(
                "no loss and optimizer chosen yet: call compile(loss=…, optimizer=…) or fit first"
            )
        return self.loss, self.optimizer

    def train_on_batch(self, x: Any, y: Any, sample_weight: Any = None) -> float:
        """One step on one batch, after `compile`; returns its loss (before the update).

        With `sample_weight` (n,) as `fit` says of a mini-batch; where it is zero everywhere, the loss is 0.

        Raises
        ------
        RuntimeError
            `compile` has not been called.
        TypeError, ValueError
            As `fit`.
        NonFiniteError
            The loss is NaN or infinite; nothing was updated.
        """
        from .training import train_on_batch

        return train_on_batch(self, x, y, sample_weight)

    def fit(
        self,
        X: Any,
        y: Any = None,
        loss: str | Loss | None = None,
        optimizer: str | Optimizer | None = None,
        batch_size: int | None = 128,
        epochs: int = 10,
        validation_data: Any = None,
        shuffle: bool = True,
        callbacks: Sequence[Any] = (),
        verbose: bool | int | Literal["auto"] = "auto",
        l2: float | None = None,
        keep_gradients: bool | None = None,
        sample_weight: Any = None,
    ) -> History:
        """Train for some epochs of mini-batches.

        Parameters
        ----------
        X : array (N, D), or source
            Converted once to the model's dtype and C order, without a copy where it is so already.
            A memory-mapped array and a `fastnn.sources.Source` are read, checked and converted block
            by block, in an order that `fastnn.sources` describes; so is an iterable of batches
            (x, y) or (x, y, sample_weight), or a function that returns one.
        y : array
            Integer labels (N,) for a classification, targets (N, H) for a regression; with batches,
            which bring their targets, None.
        loss, optimizer, l2, keep_gradients
            As in `compile`. A second `fit` goes on with the optimizer's state unless another
            optimizer is given.
        batch_size : int or None
            Rows per step; None for all of them (full-batch descent). The last batch may be shorter;
            where a batch norm is present, a single row left over joins the batch before it.
        epochs : int
        validation_data : (X, y), (X, y, sample_weight), or source, optional
            Evaluated after each epoch.
        shuffle : bool
            Draw a new order of the rows for each epoch; of a source, within windows of its blocks.
        callbacks : sequence of objects
            With any of on_fit_begin, on_epoch_begin, on_batch_end, on_epoch_end and on_fit_end,
            each called with a `fastnn.training.Training`, which says how seldom `on_batch_end` may be
            called. Gradients are kept for one that has `on_batch_end`, or an attribute
            ``needs_gradients = True``.
        verbose : bool or "auto"
            A progress bar; "auto" shows it where standard error is a terminal.
        sample_weight : array (N,), optional
            What each row counts: finite numbers from 0 up, not all 0; of a source, which brings its own,
            None. The loss of a mini-batch is the weighted mean over its rows, divided by the sum of
            *its* weights, so that only their proportions within the batch count. The history's loss is
            the mean of those of the batches, each weighed by that sum. Accuracies are weighted too, as in
            scikit-learn's ``score``. Rows that weigh 0 still take part in the statistics of batch norms.
            A mini-batch whose weights add up to 0 has a loss and a gradient of 0; momentum, weight
            decay and penalties go on in its step as in any other.

        Returns
        -------
        History
            One row per epoch; also `model.history`.

        Raises
        ------
        TypeError, ValueError
            Data that cannot be trained on: with what was given, what was expected, what to do.
        NonFiniteError
            The loss became NaN or infinite: the update was not made, and the first layer with such
            a value is named. Where a parameter had already become so, those of the start of the
            epoch are back, with the running statistics and the optimizer's state.
        KeyboardInterrupt
            On Ctrl-C; the model keeps what it has learned so far and can be used.

        Examples
        --------
        >>> import numpy as np, fastnn as fnn
        >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
        >>> model = fnn.Sequential([fnn.Dense(1)], seed=0)
        >>> history = model.fit(x, 3 * x + 1, loss="mean_squared_error",
        ...                     optimizer=fnn.SGD(lr=0.1), batch_size=8, epochs=40)
        >>> history["loss"][-1] < 1e-6
        True

        Rows that were seen twice count twice, those that cannot be trusted not at all:

        >>> weights = np.where(x[:, 0] > 0, 2.0, 1.0)
        >>> y = 3 * x + 1
        >>> y[10], weights[10] = 1000, 0
        >>> history = model.fit(x, y, sample_weight=weights, batch_size=8, epochs=40)
        >>> round(model.evaluate(x, y, sample_weight=weights)["loss"], 6)
        0.0
        """
        from .training import fit

        return fit(
            self,
            X,
            y,
            loss=loss,
            optimizer=optimizer,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=validation_data,
            shuffle=shuffle,
            callbacks=callbacks,
            verbose=verbose,
            l2=l2,
            keep_gradients=keep_gradients,
            sample_weight=sample_weight,
        )

    # --- inference -------------------------------------------------------------------------------

    def predict(self, X: Any) -> np.ndarray:
        """Class indices (N,) int64, or for a regression the outputs (N, H).

        X is an array or a source, as in `fit`; the targets of a source are left unread.

        With several outputs under binary cross-entropy: 0 or 1 for each, (N, H).

        Raises
        ------
        RuntimeError
            No loss chosen yet, so that it is not known which of the two.
        """
        return self._predict(X, "decide")

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities (N, C): the softmax of the outputs.

        Under binary cross-entropy the sigmoid of the outputs; see `losses.BinaryCrossEntropy`.

        Raises
        ------
        RuntimeError
            The model was trained on a regression or on scores, or no loss is chosen yet.
        """
        if self.kind != "classification":
            raise RuntimeError("predict_proba is for classification, this model is a regression")
        return self._predict(X, "probabilities")

    def evaluate(self, X: Any, y: Any = None, sample_weight: Any = None) -> dict[str, float]:
        """``{"loss": …, "accuracy": …}`` in inference mode; no accuracy for a regression.

        X, y and sample_weight as `fit` takes them: with weights, weighted means over all rows. The L2
        penalty is not part of this loss.
        """
        loss = self._chosen_loss()
        if (source := as_source(X, y, sample_weight=sample_weight)) is not None:
            return self._evaluate(self._source_chunks(source, loss))
        rows = self._rows(X)
        check_lengths(rows, y)
        targets = loss.prepare_targets(y, len(rows), self.output_shape, self.dtype)
        weights = sample_weights.prepare_weights(loss, sample_weight, len(rows), self.dtype)
        return self.evaluate_prepared(rows, targets, weights)

    def evaluate_source(self, source: Source) -> dict[str, float]:
        """`evaluate` on what `fit` validates with: numbers are checked as they are read."""
        return self._evaluate(self._source_chunks(source, self.loss, finite=True))

    def evaluate_prepared(
        self, X: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
    ) -> dict[str, float]:
        """`evaluate` for data that are checked and converted already."""
        arrays = (X, targets) if weights is None else (X, targets, weights)
        return self._evaluate(
            tuple(array[rows] for array in arrays) for rows in self.chunks(len(X))
        )

    def _evaluate(self, parts: Iterable[tuple[np.ndarray, ...]]) -> dict[str, float]:
        loss = self._chosen_loss()
        total = weight = correct = counted = 0.0
        empty = True
        for x, target, *weights in parts:
            of_rows = weights[0] if weights else None
            out = self._infer(x)
            share = sample_weights.total_weight(loss, target, of_rows)
            total += sample_weights.weighted_mean(loss, out, target, of_rows)[0] * share
            weight += share
            if loss.kind == "classification":
                correct += sample_weights.correct_weight(loss, out, target, of_rows)
            counted += len(x) if of_rows is None else float(of_rows.sum(dtype=np.float64))
            empty = False
        if empty:
            raise ValueError("the source has no rows")
        if not weight:
            raise ValueError(
                "the weights of all rows add up to nothing: at least one row has to count"
            )
        result = {"loss": total / weight}
        if loss.kind == "classification":
            result["accuracy"] = correct / counted
        return result

    @property
    def kind(self) -> str:
        """Of the loss: "classification" or "regression".

        Raises
        ------
        RuntimeError
            No loss chosen yet.
        """
        return self._chosen_loss().kind

    def _chosen_loss(self) -> Loss:
        if self.loss is None:
            raise RuntimeError(
                "the model has no loss yet, so it is not known whether it predicts classes or "
                "values: fit it, or call compile(loss=…), or use forward(X, training=False)"
            )
        return self.loss

    def _predict(self, X: Any, how: str) -> np.ndarray:
        finish = losses.method(self._chosen_loss(), how)
        if (source := as_source(X)) is not None:
            parts = []
            for (x,) in self._source_chunks(source):
                part = finish(self._infer(x))
                # The chunk is written again, and a user's layer may hand its input on.
                parts.append(part.copy() if np.may_share_memory(part, x) else part)
            if not parts:
                raise ValueError("the source has no rows")
            return np.concatenate(parts)
        X = self._rows(X)
        result = None
        for rows in self.chunks(len(X)):
            part = finish(self._infer(X[rows]))
            if result is None:
                result = np.empty((len(X), *part.shape[1:]), part.dtype)
            result[rows] = part
        assert result is not None  # there is at least one row
        return result

    def _source_chunks(
        self, source: Source, loss: Loss | None = None, finite: bool = False
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Rows, and with a loss their targets, in chunks of the size that `chunks` has for arrays."""
        from .windows import chunks, converter

        if not self.built:
            self.build(as_rows(source.first_block().x, self.dtype).shape[1:])
        assert self.input_shape is not None
        # Looked through for NaN only where `fit` validates, as arrays are: elsewhere it shows in the outputs.
        convert = converter(self.dtype, self.input_shape, loss, self.output_shape, finite=finite)
        size = next(self.chunks(2**62)).stop
        return chunks(source, convert, size)

    def fold_batchnorm(self) -> Sequential:
        """A new model for inference, with each batch norm folded into the dense layer before it.

        It predicts what this one does in inference mode, to rounding (1e-5 in float32, 1e-12 in
        float64, of the largest output), with fewer layers to compute; it can be saved as any other.
        This model is left as it is: train it on, and fold again.

        A batch norm without a dense layer right before it (the first layer, or one after an
        activation) stays in the new model, and a warning says which and why.

        Returns
        -------
        Sequential
            Of the same dtype, loss and preprocessing, without an optimizer. Where anything was
            folded it is not for further training: what the batch norms did there is gone.

        Raises
        ------
        RuntimeError
            The model is not built.

        Warns
        -----
        UserWarning
            A batch norm could not be folded.

        Examples
        --------
        >>> import numpy as np, fastnn as fnn
        >>> layers = [fnn.Dense(8, bias=False), fnn.BatchNorm(), fnn.ReLU(), fnn.Dense(3)]
        >>> model = fnn.Sequential(layers, input_dim=4, dtype="float64", seed=0)
        >>> x = np.random.default_rng(0).standard_normal((100, 4))
        >>> _ = model.forward(x)  # moves the running statistics
        >>> small = model.fold_batchnorm()
        >>> [type(layer).__name__ for layer in small.layers]
        ['Dense', 'ReLU', 'Dense']
        >>> expected = model.forward(x, training=False)
        >>> bool(np.allclose(small.forward(x, training=False), expected, rtol=0, atol=1e-12))
        True
        """
        from .folding import fold_batchnorm

        return fold_batchnorm(self)

    def save(self, path: str | os.PathLike[str], optimizer: bool = False) -> None:
        """Write the model to a file that `fastnn.load` reads; see `fastnn.serialization.save`.

        With ``optimizer=True`` training goes on from the file as if it had not stopped.
        """
        from .serialization import save

        save(self, path, optimizer)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_steps": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._flat is not None and self.optimizer is not None:
            self.optimizer.rebind(self._flat)
