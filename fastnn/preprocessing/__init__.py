"""Turning data into the numbers a network learns from, and its outputs back into answers.

Every preprocessor is fitted on the training rows, applied to all rows, and travels inside the model
file (`model.preprocessing`), so that a prediction sees its input exactly as the training did:

- `Center`: the mean image (or the mean of each channel) taken off, the choice for images;
- `Standardize`: z-scores of the columns, or channels, of an array;
- `MinMax`: columns, or channels, brought into a range;
- `PCA`: principal components, also whitened;
- `ZCA`: whitened, and as close to the data as that can be;
- `TableEncoder`: the columns of a table, numeric ones standardised, text ones one-hot;
- `TargetEncoder`: what is predicted, class names or numbers;
- `Preparation`: a preprocessor of the inputs together with the encoder of the target.

The compiled kernels are imported where they are called: the command line imports this package before it
can say that a machine cannot run them.
"""

from fastnn.preprocessing.base import Preprocessor, from_state
from fastnn.preprocessing.components import PCA, ZCA
from fastnn.preprocessing.preparation import Preparation
from fastnn.preprocessing.scaling import Center, MinMax, Standardize
from fastnn.preprocessing.table import TableEncoder
from fastnn.preprocessing.target import TargetEncoder

__all__ = [
    "PCA",
    "ZCA",
    "Center",
    "MinMax",
    "Preparation",
    "Preprocessor",
    "Standardize",
    "TableEncoder",
    "TargetEncoder",
    "from_state",
]
