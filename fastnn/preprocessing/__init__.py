"""Turning data into the numbers a network learns from, and its outputs back into answers.

Every preprocessor is fitted on the training rows, applied to all rows, and travels inside the model
file (`model.preprocessing`), so that a prediction sees its input exactly as the training did:

- `Standardize`: z-scores of the columns of an array;
- `Center`: the mean row taken off, one common scale (the choice for images);
- `TableEncoder`: the columns of a table, numeric ones standardised, text ones one-hot;
- `TargetEncoder`: what is predicted, class names or numbers;
- `Preparation`: a preprocessor of the inputs together with the encoder of the target.
"""

from fastnn.preprocessing.arrays import Center, Standardize
from fastnn.preprocessing.base import Preprocessor, from_state
from fastnn.preprocessing.preparation import Preparation
from fastnn.preprocessing.table import TableEncoder
from fastnn.preprocessing.target import TargetEncoder

__all__ = [
    "Center",
    "Preparation",
    "Preprocessor",
    "Standardize",
    "TableEncoder",
    "TargetEncoder",
    "from_state",
]
