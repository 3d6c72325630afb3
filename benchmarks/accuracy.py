"""The table of worst errors: every elementwise function, float type and instruction set, in ulp.

    python benchmarks/accuracy.py                        # a sample: a minute or two
    python benchmarks/accuracy.py --full --write docs/accuracy.md
    python benchmarks/accuracy.py --isa avx2 --function gelu sigmoid --dtype float32

`--full` takes all 2^32 float32 (two to five minutes a function) and 10^8 float64 numbers (one or two);
`--write` puts the rows into a file, beside the rows of other functions that it holds already.

The error of y is |y - true| in units of the last place that a number of the size of the true value
has in that float type; the best rounding has at most 0.5. The true value of a float32 is computed in
float64, that of a float64 in `numpy.longdouble` (64 bits of significand on x86, 113 on Arm), and what
exp magnifies is kept in two parts. Before anything is measured, these references are themselves
compared with mpmath, with 60 digits, on numbers of the sample.

Needs mpmath, beside what fastnn needs.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import mpmath
import numpy as np
from numpy.polynomial import chebyshev

import fastnn
from fastnn import functional
from fastnn._kernels import machine

Array = np.ndarray[Any, Any]
Real = Callable[[Any], Any]
WIDER = {np.float32: np.float64, np.float64: np.longdouble}
CHUNK = 1 << 13  # numbers at a time: what is made of them stays in the cache
DIGITS = 60


# --- true values: of float64 or longdouble arrays ----------------------------------------------


def total(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b rounded, and what that lost (Knuth's TwoSum)."""
    s = a + b
    part = s - a
    return s, (a - (s - part)) + (b - part)


def product(a: Array, b: Array) -> tuple[Array, Array]:
    """a * b rounded, and what that lost (Dekker)."""
    splitter = a.dtype.type(2 ** ((np.finfo(a.dtype).nmant + 2) // 2) + 1)

    def halves(x: Array) -> tuple[Array, Array]:
        scaled = x * splitter
        high = scaled - (scaled - x)
        return high, x - high

    p = a * b
    (a1, a2), (b1, b2) = halves(a), halves(b)
    return p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2


def expm1_below(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def logistic(x: Array, low: Array | float = 0.0) -> Array:
    """1 / (1 + exp(-x - low)) for a low that is tiny beside x."""
    e = np.exp(-np.abs(x))
    e = e - e * np.copysign(1, x) * low
    return np.where(x >= 0, 1, e) / (1 + e)


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@cache
def _tail_series(dtype: Any) -> Array:
    """exp(a^2 / 2) P(X > a) (1 + a) as a Chebyshev series in (a - 4) / (a + 4), a from 0 to infinity."""
    with mpmath.workdps(DIGITS):
        nodes = [mpmath.cos(mpmath.pi * (2 * i + 1) / 240) for i in range(120)]
        values = []
        for t in nodes:
            a = 4 * (1 + t) / (1 - t)
            mills = mpmath.exp(a * a / 2) * mpmath.erfc(a / mpmath.sqrt(2)) / 2
            values.append(mills * (1 + a))
        terms = [
            sum(v * mpmath.cos(mpmath.pi * k * (2 * i + 1) / 240) for i, v in enumerate(values))
            / 60
            for k in range(44)
        ]
        terms[0] /= 2
        return np.array([dtype(mpmath.nstr(term, 30)) for term in terms], dtype)


def gelu(x: Array) -> Array:
    """x P(X < x), by the tail of the normal distribution where it is neither 0 nor a half."""
    near = np.abs(x) < 2.0**-20  # x / 2 + x^2 / sqrt(2 pi) - x^4 / 15 + ...
    y = np.where(near, x * (0.5 + x * 0.3989422804014327), np.where(x < 0, x * 0, x))
    between = ~near & (np.abs(x) <= 60)
    if between.any():
        y[between] = _gelu_between(x[between])
    return y


def _gelu_between(x: Array) -> Array:
    a = np.abs(x)
    terms = _tail_series(x.dtype.type)[
        : 24 if x.dtype == np.float64 else None
    ]  # for a float32: 1e-11
    series = chebyshev.chebval((a - 4) / (a + 4), terms) / (1 + a)
    square, low = (a * a, 0.0) if x.dtype == np.float64 else product(a, a)  # exact for a float32
    tail = np.exp(square / -2) * (1 - low / 2) * series
    return np.where(x < 0, x * tail, x - x * tail)


def gelu_tanh(x: Array) -> Array:
    """x sigmoid(2u), 2u = x (T + C x^2): the constants in two parts, the sums and products too.

    Where float64 is to tell the truth about a float32, one part of each is enough.
    """
    wide = x.dtype.type
    if wide is np.float64:
        (root, _), (cubic, _) = _tanh_form()
        c = np.clip(x, -100, 100)
        return np.where(x < -100, x * 0, x) * logistic(c * (root + cubic * (c * c)))
    (root, root_low), (cubic, cubic_low) = (map(wide, pair) for pair in _tanh_form())
    c = np.clip(x, -100, 100)
    square, square_low = product(c, c)
    term, term_low = product(square, np.full_like(square, cubic))
    factor, factor_low = total(np.full_like(c, root), term)
    factor_low = factor_low + term_low + cubic * square_low + cubic_low * square + root_low
    twice_u, low = product(c, factor)
    y = np.where(x < -100, x * 0, x)
    return y * logistic(twice_u, low + c * factor_low)


@cache
def _tanh_form() -> list[tuple[float, float]]:
    """2 sqrt(2 / pi), and 0.044715 times it, as sums of two float64."""
    with mpmath.workdps(DIGITS):
        root = 2 * mpmath.sqrt(2 / mpmath.pi)
        both = root, root * mpmath.mpf("0.044715")
        return [(float(v), float(v - mpmath.mpf(float(v)))) for v in both]


# --- the functions -----------------------------------------------------------------------------


def exponential(x: Array, out: Array) -> Array:
    """The exp of the kernels, which has no name in functional: -total exp(y) is in log-softmax's gradient."""
    row, dy = np.append(x, x.dtype.type(0)), np.zeros(x.size + 1, x.dtype)
    dy[-1] = -1
    out[...] = functional.log_softmax_backward(dy, row)[:-1]
    return out


def _mp_softplus(x: Any) -> Any:
    return mpmath.log1p(mpmath.exp(x))


def _mp_logistic(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def _mp_gelu_tanh(x: Any) -> Any:
    root = 2 * mpmath.sqrt(2 / mpmath.pi)
    return x * _mp_logistic(root * (x + mpmath.mpf("0.044715") * x**3))


SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772  # SELU's, taken as these float64 numbers


@dataclass(frozen=True)
class Function:
    """A function, how it is called, its true value on wide arrays and in mpmath, and its bounds in ulp."""

    name: str
    call: Callable[..., Any]
    true: Callable[[Array], Array]
    exact: Real
    float32: float
    float64: float = 2.0
    settings: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return self.name

    def bound(self, dtype: Any) -> float:
        return self.float32 if dtype is np.float32 else self.float64


def _clip(low: float, high: float) -> tuple[Callable[[Array], Array], Real]:
    return lambda x: np.clip(x, low, high), lambda x: min(max(x, low), high)


ONCE = 0.50001  # rounded once; a tie may go either way
FUNCTIONS = {
    f.name: f
    for f in (
        Function("exp", exponential, np.exp, mpmath.exp, 1.0),
        Function("sigmoid", functional.sigmoid, logistic, _mp_logistic, 1.5),
        Function("tanh", functional.tanh, np.tanh, mpmath.tanh, 1.5),
        Function(
            "elu", functional.elu, expm1_below, lambda x: x if x > 0 else mpmath.expm1(x), 1.5
        ),
        Function(
            "selu",
            functional.selu,
            lambda x: (
                x.dtype.type(SCALE) * np.where(x > 0, x, x.dtype.type(ALPHA) * expm1_below(x))
            ),
            lambda x: SCALE * (x if x > 0 else ALPHA * mpmath.expm1(x)),
            2.0,
        ),
        Function("softplus", functional.softplus, softplus, _mp_softplus, 1.5),
        Function(
            "silu", functional.silu, lambda x: x * logistic(x), lambda x: x * _mp_logistic(x), 3.0
        ),
        Function(
            "gelu",
            functional.gelu,
            gelu,
            lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
            3.0,
        ),
        Function(
            "gelu (tanh form)",
            functional.gelu,
            gelu_tanh,
            _mp_gelu_tanh,
            3.0,
            settings=(("approximate", "tanh"),),
        ),
        Function("relu", functional.relu, *_clip(0, np.inf), 0.0, 0.0),
        Function(
            "leaky_relu",
            functional.leaky_relu,
            lambda x: np.where(x > 0, x, x / 4),
            lambda x: x if x > 0 else x / 4,
            ONCE,
            ONCE,
            settings=(("negative_slope", 0.25),),
        ),
        Function("relu6", functional.relu6, *_clip(0, 6), 0.0, 0.0),
        Function("hard_tanh", functional.hard_tanh, *_clip(-1, 1), 0.0, 0.0),
        Function(
            "hard_sigmoid",
            functional.hard_sigmoid,
            lambda x: (np.clip(x, -3, 3) + 3) / 6,
            lambda x: (min(max(x, -3), 3) + 3) / 6,
            ONCE,
            0.51,
        ),
        Function(
            "hard_swish",
            functional.hard_swish,
            lambda x: x * ((np.clip(x, -3, 3) + 3) / 6),
            lambda x: x * (min(max(x, -3), 3) + 3) / 6,
            ONCE,
            0.51,
        ),
    )
}


# --- the numbers they are tried on -------------------------------------------------------------


def float32_numbers(stride: int) -> Iterator[Array]:
    """Every stride-th bit pattern, NaN and infinities among them, in chunks."""
    for start in range(0, 1 << 32, CHUNK * stride):
        stop = min(start + CHUNK * stride, 1 << 32)
        yield np.arange(start, stop, stride, dtype=np.uint32).view(np.float32)


#: Where methods change or results do: switches between formulas, kinks, the ends of ranges.
HARD_PLACES = (0.65, 1.0, 3.0, 6.0, 15.0, 20.0, 30.0, 39.0, 50.0, 80.0, 100.0, 710.0, 745.0, 760.0)


def float64_numbers(count: int) -> Iterator[Array]:
    """About `count` numbers: the same ones every time, half of them near hard places."""
    rng = np.random.default_rng(0)
    for start in range(0, count, CHUNK):
        part = max(1, min(CHUNK, count - start) // 8)
        sign = rng.choice([-1.0, 1.0], part)
        # exp's reduction is worst half way between the multiples of ln 2
        half_way = (rng.integers(-1080, 1080, part) + 0.5) * np.log(2) / rng.choice([1, 2], part)
        yield np.concatenate(
            [
                rng.integers(0, 1 << 64, part, dtype=np.uint64).view(np.float64),
                sign * np.exp2(rng.uniform(-60, 10, part)),
                rng.uniform(-1, 1, part),
                rng.uniform(-10, 10, part),
                rng.uniform(-40, 40, part),
                rng.uniform(-800, 800, part),
                half_way * (1 + rng.normal(0, 1e-3, part)),
                sign * rng.choice(HARD_PLACES, part) * (1 + rng.normal(0, 1e-3, part)),
            ]
        )


# --- errors ------------------------------------------------------------------------------------


def unit(true: Array, dtype: Any) -> Array:
    """The last place of a number of the size of `true`, in units of the wide type."""
    info, wide = np.finfo(dtype), true.dtype.type
    if (
        wide is np.float64
    ):  # all but the exponent cut off: much faster than frexp, and there are many
        power = (true.view(np.uint64) & np.uint64(0x7FF << 52)).view(np.float64)
    else:
        exponent = np.frexp(np.where(np.isfinite(true), true, 1))[1] - 1
        power = np.where(true == 0, 0, np.ldexp(wide(1), exponent))
    highest = np.ldexp(wide(1), info.maxexp - 1)
    return np.clip(power, wide(info.smallest_normal), highest) * wide(info.eps)


def errors(y: Array, true: Array) -> Array:
    """|y - true| in ulp; 0 where both are NaN or the same infinity, infinite where only one is NaN.

    An infinite y counts as the number that would follow the largest.
    """
    wide = y.astype(true.dtype)
    size = unit(true, y.dtype.type)
    off = np.abs(wide - true) / size
    odd = ~np.isfinite(off) | (np.abs(true) > np.finfo(y.dtype).max)
    if odd.any():
        off[odd] = _odd_errors(wide[odd], true[odd], size[odd], np.finfo(y.dtype))
    return off.astype(np.float64, copy=False)


def _odd_errors(wide: Array, true: Array, size: Array, info: Any) -> Array:
    kind = true.dtype.type
    beyond = np.abs(true) >= kind(info.max) + size / 2  # rounds to infinity
    true = np.where(beyond, np.copysign(kind(np.inf), true), true)
    same = (wide == true) | (np.isnan(wide) & np.isnan(true))
    next_one = np.copysign(np.ldexp(kind(1), info.maxexp), wide)
    off = np.abs(np.where(np.isinf(wide) & np.isfinite(true), next_one, wide) - true) / size
    return np.where(same, 0, np.where(np.isnan(off), np.inf, off))


class Worst(NamedTuple):
    """The largest error that was seen, in ulp, and where."""

    error: float = -1.0
    x: float = 0.0

    def __str__(self) -> str:
        return f"{self.error:.3f} at {self.x!r}"


def sweep(function: Function, numbers: Iterable[Array], isas: Iterable[str]) -> dict[str, Worst]:
    """The worst error on each instruction set; the one in use comes back."""
    worst = {isa: Worst() for isa in isas}
    before = machine.isa()
    try:
        for x in numbers:
            out = np.empty_like(x)
            with np.errstate(all="ignore"):
                true = function.true(x.astype(WIDER[x.dtype.type]))
                per = 1 / unit(true, x.dtype.type)
                finite = bool(np.abs(true).max() <= np.finfo(x.dtype).max)
                for isa in worst:
                    machine.use_isa(isa)
                    y = function.call(x, out=out, **dict(function.settings))
                    off = np.subtract(y, true, dtype=true.dtype)
                    np.abs(off, out=off)
                    off *= per
                    if finite and off.max() <= worst[isa].error:  # false if any is NaN
                        continue
                    off = errors(y, true)
                    at = int(np.argmax(off))
                    if off[at] > worst[isa].error:
                        worst[isa] = Worst(float(off[at]), float(x[at]))
    finally:
        machine.use_isa(before)
    return worst


def reference_error(function: Function, dtype: Any, count: int = 400) -> Worst:
    """How far the reference for `dtype` is from mpmath, in ulp of `dtype`, on numbers of its sample."""
    if dtype is np.float32:
        numbers = np.concatenate(list(float32_numbers((1 << 32) // (4 * count))))
    else:
        numbers = np.concatenate(list(float64_numbers(4 * count)))
    x = numbers[np.isfinite(numbers) & (np.abs(numbers) < 1e6)][:: max(1, numbers.size // count)]
    worst = Worst()
    with np.errstate(all="ignore"), mpmath.workdps(DIGITS):
        true = function.true(x.astype(WIDER[dtype]))
        places = unit(true, dtype)
        for value, got, place in zip(x, true, places, strict=True):
            exact = function.exact(mpmath.mpf(float(value)))
            off = abs(_to_mpmath(got) - exact) / _to_mpmath(place) if np.isfinite(got) else 0
            if mpmath.log(abs(exact) + mpmath.mpf("1e-9999"), 2) > np.finfo(dtype).maxexp:
                off = 0  # infinity in this type, and in the wide one perhaps
            if off > worst.error:
                worst = Worst(float(off), float(value))
    return worst


def _to_mpmath(value: Any) -> Any:
    """A float of any width, exactly: its significand as a sum of two float64."""
    significand, exponent = np.frexp(value)
    head = float(significand)
    rest = float(significand - type(value)(head))
    return mpmath.ldexp(mpmath.mpf(head) + mpmath.mpf(rest), int(exponent))


# --- the table ---------------------------------------------------------------------------------

HEAD = "| function | type | instruction set | worst, ulp | at x = | asked for | numbers tried | measured |"
Row = tuple[str, str, str]


def measure(
    function: Function, dtype: Any, isas: list[str], stride: int, count: int
) -> Iterator[tuple[Row, str, bool]]:
    """Rows of the table by function, type and instruction set, and whether they are good enough."""
    single = dtype is np.float32
    found = sweep(function, float32_numbers(stride) if single else float64_numbers(count), isas)
    tried = -(-(1 << 32) // stride) if single else count
    numbers = "all" if tried == 1 << 32 else f"{tried:,}"
    bound = function.bound(dtype)
    asked = "0, exact" if bound == 0 else "0.5, rounded once" if bound < 0.6 else f"{bound:g}"
    for isa, worst in found.items():
        good = worst.error <= bound
        at = "" if worst.error == 0 else repr(worst.x)
        error = f"{worst.error:.3f}" if good else f"**{worst.error:.3f}**"
        key = function.name, dtype.__name__, isa
        cells = [*key, error, at, asked, numbers, str(date.today())]
        yield key, f"| {' | '.join(cells)} |", good


def write(path: Path, rows: dict[Row, str]) -> None:
    """Put the rows into the file, in the order of FUNCTIONS, beside those it has of others."""
    kept = {}
    if path.exists():
        for line in path.read_text().splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) == HEAD.count("|") - 1 and cells[0] in FUNCTIONS:
                kept[cells[0], cells[1], cells[2]] = line
    rows = {**kept, **rows}
    types, isas = [d.__name__ for d in WIDER], ["avx512", "avx2", "baseline", "neon"]
    order = sorted(
        rows, key=lambda r: (list(FUNCTIONS).index(r[0]), types.index(r[1]), isas.index(r[2]))
    )
    rule = "| --- | --- | --- | ---: | --- | --- | ---: | --- |"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([_preface(), HEAD, rule, *(rows[key] for key in order)]) + "\n")


def _preface() -> str:
    return f"""# Worst errors of the elementwise functions

Written by `python benchmarks/accuracy.py --full --write docs/accuracy.md`, last on {date.today()} on
{cpu()}, fastnn {fastnn.__version__} ({machine.compiler()}); each row says when it was
measured, which may have been on another machine and before the last change of the function.

An error of 0.5 ulp (units in the last place of the true value) is the best that rounding can do. "all"
are the 4,294,967,296 numbers of float32, NaN, infinities and subnormals among them; the float64 numbers
lie, for the larger part, close to where methods change or results do. The derivatives are products of
these values. exp has no name in `fastnn.functional`: it is measured as the gradient of log-softmax takes it.

Nor has erf, and no kernel computes it: 1 + erf(x / sqrt(2)) cancels where x is negative, so GELU is made
of the tail of the normal distribution, P(X > |x|) = erfc(|x| / sqrt(2)) / 2, which keeps its digits until
it underflows. For a negative x, gelu(x) is -|x| times that tail: its rows are what stands for the error
of erf.
"""


def cpu() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Worst errors of the elementwise functions, in ulp."
    )
    parser.add_argument("--full", action="store_true", help="all float32, 10^8 float64 numbers")
    parser.add_argument("--isa", nargs="+", choices=fastnn.available_isas(), metavar="ISA")
    parser.add_argument("--function", nargs="+", choices=FUNCTIONS, metavar="NAME")
    parser.add_argument("--dtype", choices=[d.__name__ for d in WIDER])
    parser.add_argument(
        "--stride", type=int, default=257, help="of the float32 sample (%(default)s)"
    )
    parser.add_argument("--count", type=int, default=2_000_000, help="of float64 (%(default)s)")
    parser.add_argument("--write", type=Path, help="put the rows into this file as well")
    given = parser.parse_args(arguments)
    if np.finfo(np.longdouble).nmant < 63:
        print(
            "numpy.longdouble is no wider than float64 here: no reference for it", file=sys.stderr
        )
        return 2
    stride, count = (1, 100_000_000) if given.full else (given.stride, given.count)
    isas = given.isa or fastnn.available_isas()
    print(HEAD, flush=True)
    all_good = True
    for name in given.function or FUNCTIONS:
        for dtype in WIDER:
            if given.dtype not in (None, dtype.__name__):
                continue
            off = reference_error(FUNCTIONS[name], dtype)
            if off.error > 0.02:
                print(f"the reference of {name} for {dtype.__name__} is off by {off} ulp")
                return 1
            rows = {}
            for key, row, good in measure(FUNCTIONS[name], dtype, isas, stride, count):
                rows[key] = row
                all_good = all_good and good
                print(row, flush=True)
            if given.write:
                write(given.write, rows)
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main())
