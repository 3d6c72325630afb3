"""A callback made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..checks import check_integer

if TYPE_CHECKING:
    from ..training import Training

Hook = Callable[["Training"], object]


class LambdaCallback:
    """A callback of functions: for anything that fits into a line.

    Parameters
    ----------
    on_fit_begin, on_epoch_begin, on_batch_end, on_epoch_end, on_fit_end : callable, optional
        Called with the `fastnn.training.Training`.
    every : int
        `on_batch_end` is called after every so many-th step of the fit; the steps in between are one call of
        the compiled step.
    needs_gradients : bool, optional
        Whether they read ``training.model.gradients()``; by default where there is an `on_batch_end`.

    Raises
    ------
    TypeError
        One of them cannot be called, or none is given, or `every` without `on_batch_end`.
    ValueError
        `every` is below 1.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> from fastnn.callbacks import LambdaCallback
    >>> model = fnn.Sequential([fnn.Dense(2)], input_dim=3, seed=0)
    >>> seen = []
    >>> callback = LambdaCallback(on_epoch_end=lambda training: seen.append(training.epoch))
    >>> history = model.fit(np.eye(3), [0, 1, 1], epochs=3, callbacks=[callback])
    >>> seen
    [1, 2, 3]
    >>> callback = LambdaCallback(on_batch_end=lambda training: seen.append(training.step), every=4)
    >>> history = model.fit(np.eye(3), [0, 1, 1], batch_size=1, epochs=3, callbacks=[callback])
    >>> seen[3:]
    [4, 8]
    """

    def __init__(
        self,
        *,
        on_fit_begin: Hook | None = None,
        on_epoch_begin: Hook | None = None,
        on_batch_end: Hook | None = None,
        on_epoch_end: Hook | None = None,
        on_fit_end: Hook | None = None,
        every: int = 1,
        needs_gradients: bool | None = None,
    ) -> None:
        hooks = {
            "on_fit_begin": on_fit_begin,
            "on_epoch_begin": on_epoch_begin,
            "on_batch_end": on_batch_end,
            "on_epoch_end": on_epoch_end,
            "on_fit_end": on_fit_end,
        }
        given = {name: hook for name, hook in hooks.items() if hook is not None}
        if not given:
            raise TypeError(f"no function is given; there are {', '.join(hooks)}")
        for name, hook in given.items():
            if not callable(hook):
                raise TypeError(f"{name} is {hook!r}, expected a function of the training")
            setattr(self, name, hook)  # only these: `fit` calls what is there
        if check_integer(every, "every", 1, 2**31 - 1) > 1:
            if on_batch_end is None:
                raise TypeError("every says how often on_batch_end is called: give one")
            self.next_step: Callable[[Training], int] = lambda training: training.step + every
        if needs_gradients is not None:
            self.needs_gradients = bool(needs_gradients)
