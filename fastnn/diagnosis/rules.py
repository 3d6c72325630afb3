"""The list of rules, and `diagnose`, which asks them all.

A rule is a function that looks at a `Case` and yields findings; a new one is a function in the file of
its family and a line here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..inputs import as_rows, check_lengths, evenly
from ..losses import Loss
from ..recovery import NonFiniteError
from . import curves, failure, generalisation, inside, sanity, start
from .case import Case, know_targets
from .finding import SEVERITIES, Finding
from .probe import ROWS, take

if TYPE_CHECKING:
    from ..models import Sequential

Rule = Callable[[Case], Iterable[Finding]]

#: In the order in which findings of one severity are listed.
RULES: tuple[Rule, ...] = (
    failure.not_finite,
    curves.exploding,
    start.first_loss,
    curves.loss_not_falling,
    start.bad_start,
    inside.gradient_flow,
    inside.dead_units,
    inside.saturated_units,
    inside.update_ratio,
    generalisation.overfitting,
    generalisation.no_gap,
    curves.plateau,
)


def examine(case: Case) -> list[Finding]:
    """What all rules find, the most severe first."""
    found = [finding for rule in RULES for finding in rule(case)]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def diagnose(
    history: Mapping[str, Sequence[float]] | None = None,
    model: Sequential | None = None,
    x: Any = None,
    y: Any = None,
    *,
    loss: str | Loss | None = None,
    error: NonFiniteError | None = None,
    sanity_checks: bool = True,
) -> list[Finding]:
    """What can be told about a training run and a model, in words.

    Every part is optional: the history tells of the curves, the model with rows x of its units, with
    targets y also of its gradients and updates. An untrained model is compared with what it should be
    before the first step. The model stays as it is: what needs a trial is tried on a copy.

    Parameters
    ----------
    history : History or mapping of columns, optional
        Of a `fit`; by default that of the model. One without a row tells nothing.
    model : Sequential, optional
    x, y : arrays, optional
        Training data, of which 256 rows are looked at, evenly spaced.
    loss : str or Loss, optional
        By default the model's, or softmax cross-entropy.
    error : NonFiniteError, optional
        What ended the fit.
    sanity_checks : bool
        Given model, x and y, also try whether a penalty raises the loss (`penalty_raises_loss`) and whether
        a copy can learn 20 rows by heart (`overfit_small`: up to 600 steps of 20 rows).

    Returns
    -------
    list of Finding
        The most severe first; empty where nothing stands out.

    Raises
    ------
    ValueError
        There is nothing to look at: no argument, or an empty history alone; x without a model, y without
        x; data that the model cannot take.
    TypeError
        An argument of another kind.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> rng = np.random.default_rng(0)
    >>> x, y = 50 * rng.standard_normal((200, 8)), rng.integers(0, 3, 200)
    >>> model = fnn.Sequential([fnn.Dense(16), fnn.ReLU(), fnn.Dense(3)], input_dim=8, seed=0)
    >>> for finding in fnn.diagnose(model=model, x=x, y=y):
    ...     print(finding.severity, finding.title)
    warning first loss (epoch 0)
    """
    if history is not None and not isinstance(history, Mapping):
        raise TypeError(
            f"history is {type(history).__name__}, expected a History (fit returns one) or a mapping "
            "of columns, such as {'loss': [...]}"
        )
    if history is None and model is not None:
        history = model.history
    case = Case(history=history or {}, error=error)
    if model is None:
        if x is not None or y is not None:
            raise ValueError("x and y are looked at with a model: pass model=…, too")
        if error is None and not case.history.get("loss"):
            raise ValueError(
                "there is nothing to diagnose: pass history= with at least one epoch, or model= with x= "
                "(and y=)"
            )
        return examine(case)
    if x is None and y is not None:
        raise ValueError("y is looked at with the rows it belongs to: pass x=…, too")
    if model.optimizer is not None and case.history.get("loss"):
        case.steps = model.optimizer.step_count
    if x is not None:
        _look(case, model, x, y, loss)
    elif error is None and not case.history.get("loss"):
        raise ValueError("the model has no history yet: pass x= (and y=) to look at it")
    found = examine(case)
    broken = any(finding.kind == "not_finite" for finding in found)
    if y is not None and sanity_checks and not broken:
        found += sanity.penalty_raises_loss(model, x, y, loss)
        found += sanity.overfit_small(model, x, y, loss)
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _look(case: Case, model: Sequential, x: Any, y: Any, loss: str | Loss | None) -> None:
    """Add a probe of the model to the case."""
    twin = copy.deepcopy(model)
    rows = as_rows(x, twin.dtype, twin.input_shape if twin.built else None, "x")
    if not twin.built:
        twin.build(rows.shape[1:])
    assert twin.output_shape is not None
    chosen = evenly(len(rows), ROWS)
    targets, chosen_loss = None, sanity._loss_of(model, loss)
    if y is not None:
        check_lengths(rows, y, ("x", "y"))
        targets = chosen_loss.prepare_targets(y, len(rows), twin.output_shape, twin.dtype)[chosen]
        know_targets(case, chosen_loss, targets, twin.output_shape)
    trained = bool(case.history.get("loss")) or (
        model.optimizer is not None and model.optimizer.step_count > 0
    )
    epoch = len(case.history.get("loss", ()))
    case.probes.append(take(twin, rows[chosen], targets, chosen_loss, epoch, fresh=not trained))
