"""`gradcheck`: of a model, or of a function and its gradient."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_overloads, overload

import numpy as np

from fastnn import losses
from fastnn.checks import check_integer, check_positive
from fastnn.gradient_check.differences import Array, Point, check
from fastnn.gradient_check.functions import FunctionPoint
from fastnn.gradient_check.report import GradientReport
from fastnn.network import Network
from fastnn.progress import on_terminal

if TYPE_CHECKING:
    from fastnn.losses import Loss

#: Up to so many parameters all are checked, of more a sample of `SAMPLE`.
ALL_UP_TO = 200_000
SAMPLE = 10_000
#: Elements of the input that are checked beside the parameters, and of each parameter in a sample.
INPUT_ELEMENTS = 200
LEAST_OF_EACH = 20

Samples = int | Literal["all"] | None


@overload
def gradcheck(
    model: Network,
    x: Any,
    y: Any,
    loss: str | Loss | None = None,
    *,
    samples: Samples = None,
    seed: int = 0,
    step: float | None = None,
    tolerance: float = 1e-7,
    training: bool = True,
    inputs: bool = True,
    verbose: bool | Literal["auto"] = "auto",
) -> GradientReport: ...


@overload
def gradcheck(
    f: Callable[[Any], Any],
    df: Any,
    theta: Any,
    *,
    samples: Samples = None,
    seed: int = 0,
    step: float | None = None,
    tolerance: float = 1e-7,
    verbose: bool | Literal["auto"] = "auto",
) -> GradientReport: ...


def gradcheck(*args: Any, **options: Any) -> GradientReport:
    """Check a gradient against centred differences in float64.

    ``gradcheck(model, x, y, loss=…)`` checks what `backward` of all layers, a user's own included,
    says about every parameter of a model; ``gradcheck(f, df, theta)`` what `df` says about `f`.

    All parameters together are one long vector theta. For each of its elements the derivative is
    approximated by (f(theta + h) − f(theta − h)) / 2h, and the verdict is whether

        ‖approx − grad‖₂ / ((‖approx‖₂ + ‖grad‖₂) / 2)  <  tolerance

    and no single element differs by more than rounding explains: in a large model an error in one
    element hardly shows in the norm. Elements that differ are computed again with smaller steps, which
    tells a kink (of ReLU, maxout, hinge, …) from a wrong gradient.

    A model is copied, in float64; its parameters, running statistics and dtype stay as they are.

    Parameters
    ----------
    model : Sequential
        Of either dtype.
    x, y : array
        A batch of rows and their targets, as `fit` takes them; 10 to 50 rows are enough.
    loss : str or Loss, optional
        By default the model's, or softmax cross-entropy.
    f : callable
        From theta to a number.
    df : callable, or array
        From theta to the gradient, in the shape of theta; or the gradient itself.
    theta : array, or mapping of names to arrays
        Where to check; copied. `f` and `df` get it in this form, in float64.
    samples : int, "all", optional
        So many elements, drawn with `seed` and some of every parameter. By default all up to 200,000
        and 10,000 of more.
    seed : int
        Of the sample.
    step : float, optional
        h, for theta above 1 in size times \\|theta\\|. By default 1e-5, or more where the gradient is
        so short that the rounding of the loss would hide it.
    tolerance : float
    training : bool
        Check the network as it trains, batch norm with the statistics of the batch, or as it predicts.
    inputs : bool
        Check also dL/dx, which no parameter depends on in the first layer: at 200 elements, element by
        element, not as part of the norm.
    verbose : bool or "auto"
        A progress bar; "auto" shows it on a terminal.

    Returns
    -------
    GradientReport
        True where the check passed. Printing it names the elements that differ, worst first, with
        both values.

    Raises
    ------
    ValueError
        Active dropout, or anything else that makes the loss another one at each call; a loss that is
        not finite; data or options that do not fit.
    TypeError
        Neither a model nor a function; a function that does not return a number.

    Notes
    -----
    The loss is that of the data: L2 penalties and weight decay, which the update adds, are not part of it.

    Sources: Bishop, Pattern Recognition and Machine Learning (2006), section 5.3.3; on the relative
    error and on kinks, the notes of Stanford's CS231n on gradient checks.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> rng = np.random.default_rng(0)
    >>> model = fnn.Sequential([fnn.Dense(5), fnn.BatchNorm(), fnn.Tanh(), fnn.Dense(3)], seed=0)
    >>> report = fnn.gradcheck(model, rng.standard_normal((10, 4)), rng.integers(0, 3, 10))
    >>> bool(report), report.error < 1e-7
    (True, True)

    A gradient that forgets the factor 2 in one place:

    >>> def df(theta):
    ...     return np.array([2 * theta[0], theta[1]])
    >>> report = fnn.gradcheck(lambda theta: (theta**2).sum(), df, np.array([3.0, 5.0]))
    >>> bool(report)
    False
    >>> [(worst.name, worst.index, worst.gradient) for worst in report.worst]
    [('theta', (1,), 5.0)]
    """
    first = args[0] if args else options.get("model", options.get("f"))
    of_model, of_function = get_overloads(gradcheck)
    if isinstance(first, Network):
        _must_fit("gradcheck(model, x, y)", of_model, args, options)
        return _check_model(*args, **options)
    if callable(first):
        _must_fit("gradcheck(f, df, theta)", of_function, args, options)
        return _check_function(*args, **options)
    raise TypeError(
        f"gradcheck got {first!r:.60}, expected a model, as in gradcheck(model, x, y), or a function, "
        "as in gradcheck(f, df, theta)"
    )


def _must_fit(
    form: str, signature: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    try:
        inspect.signature(signature).bind(*args, **options)
    except TypeError as error:
        raise TypeError(f"{form}: {error}; help(fastnn.gradcheck) has all arguments") from None


def _check_model(
    model: Network,
    x: Any,
    y: Any,
    loss: str | Loss | None = None,
    *,
    training: bool = True,
    inputs: bool = True,
    **options: Any,
) -> GradientReport:
    from fastnn.gradient_check.networks import NetworkPoint

    chosen = loss if loss is not None else getattr(model, "loss", None)
    point = NetworkPoint(
        model, x, y, losses.get(chosen or "softmax_cross_entropy"), bool(training), bool(inputs)
    )
    return _check(point, **options)


def _check_function(f: Callable[[Any], Any], df: Any, theta: Any, **options: Any) -> GradientReport:
    return _check(FunctionPoint(f, df, theta), **options)


def _check(
    point: Point,
    *,
    samples: Samples = None,
    seed: int = 0,
    step: float | None = None,
    tolerance: float = 1e-7,
    verbose: bool | Literal["auto"] = "auto",
) -> GradientReport:
    seed = check_integer(seed, "seed", 0, 2**63 - 1)
    tolerance = check_positive(tolerance, "tolerance")
    step = None if step is None else check_positive(step, "step")
    if samples == "all":
        count = point.parameters
    elif samples is None:
        count = point.parameters if point.parameters <= ALL_UP_TO else SAMPLE
    else:
        count = check_integer(samples, "samples", 1, 2**63 - 1)
    indices = sample(point.arrays, point.parameters, count, seed)
    shown = on_terminal() if verbose == "auto" else bool(verbose)
    if not shown:
        return check(point, indices, step=step, tolerance=tolerance, seed=seed)
    from tqdm import tqdm

    with tqdm(
        total=len(indices), desc="gradient check", unit="element", leave=False, delay=1.0
    ) as bar:
        return check(point, indices, step=step, tolerance=tolerance, seed=seed, advance=bar.update)


def sample(arrays: Any, parameters: int, count: int, seed: int) -> np.ndarray:
    """Sorted indices into theta: `count` parameters, some of each array, and some of the input."""
    rng = np.random.default_rng(seed)
    drawn = []
    start = 0
    entries: list[Array] = list(arrays)
    for array in entries:
        if start < parameters:
            share = -(-count * array.size // parameters)
            wanted = min(array.size, max(share, LEAST_OF_EACH if count > LEAST_OF_EACH else 1))
        else:
            wanted = min(array.size, INPUT_ELEMENTS)
        within = np.arange(array.size)
        if wanted < array.size:
            within = np.sort(rng.choice(array.size, wanted, replace=False))
        drawn.append(start + within)
        start += array.size
    return np.concatenate(drawn)
