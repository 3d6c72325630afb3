"""Pictures of training runs, drawn by matplotlib (the `plot` extra).

Every function returns a `matplotlib.figure.Figure` of its own, which no window and no pyplot state
knows about; `save` writes it to a file. One kind of picture per module.
"""

from fastnn.plots.canvas import save
from fastnn.plots.curves import training_curves
from fastnn.plots.histograms import activation_histograms

__all__ = ["activation_histograms", "save", "training_curves"]
