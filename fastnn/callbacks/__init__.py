"""Callbacks: what to do between the epochs of a `fit`.

A callback is any object with some of the methods on_fit_begin, on_epoch_begin, on_batch_end,
on_epoch_end and on_fit_end, each called with the running `fastnn.training.Training`; with `next_step` it says
after which step `on_batch_end` is wanted. Those here have no `on_batch_end` (a `LambdaCallback` has, if it
is given one), so that whole stretches of steps stay one call of the compiled step.
"""

from .files import Checkpoint, CSVLog
from .functions import LambdaCallback
from .monitor import Best
from .progress import ProgressBar
from .watching import EarlyStopping, ReduceOnPlateau

__all__ = [
    "Best",
    "CSVLog",
    "Checkpoint",
    "EarlyStopping",
    "LambdaCallback",
    "ProgressBar",
    "ReduceOnPlateau",
]
