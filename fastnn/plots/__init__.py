"""Pictures of training runs, drawn by matplotlib (the `plot` extra).

Every function returns a `matplotlib.figure.Figure` of its own, which no window and no pyplot state
knows about; `save` writes it to a file. One kind of picture per module.
"""

from fastnn.plots.canvas import save
from fastnn.plots.confusion import confusion_matrix
from fastnn.plots.curves import training_curves
from fastnn.plots.descent import descent_paths, step_losses
from fastnn.plots.gradients import gradient_histograms
from fastnn.plots.histograms import activation_histograms
from fastnn.plots.predictions import predicted_against_true
from fastnn.plots.rates import rate_range
from fastnn.plots.updates import update_ratios
from fastnn.plots.weights import first_layer_weights

__all__ = [
    "activation_histograms",
    "confusion_matrix",
    "descent_paths",
    "first_layer_weights",
    "gradient_histograms",
    "predicted_against_true",
    "rate_range",
    "save",
    "step_losses",
    "training_curves",
    "update_ratios",
]
