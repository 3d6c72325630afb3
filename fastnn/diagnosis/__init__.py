"""A doctor for the learning process: what a run and a model show, in words.

`diagnose` looks at what there is, `Doctor` looks on during a fit; both ask the same list of rules
(`fastnn.diagnosis.rules`).
"""

from .doctor import Doctor
from .finding import Finding
from .probe import Probe
from .rules import RULES, diagnose
from .sanity import overfit_small, penalty_raises_loss

__all__ = [
    "RULES",
    "Doctor",
    "Finding",
    "Probe",
    "diagnose",
    "overfit_small",
    "penalty_raises_loss",
]
