"""Pictures of what was measured, drawn from the JSON that a run leaves, by matplotlib.

`overview` has the ratios to the peers as bars and the kernels under their roof; `growth_curves` how
the cost of a step grows; `cold_start_bars` what it takes from an empty process to a trained model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.bench.roofline import FAMILIES
from fastnn.bench.workloads import WORKLOADS
from fastnn.plots.canvas import COLOURS, FAINT, GRID, INK, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = Mapping[str, Any]

# Each contender has a colour of its own, in every picture.
CONTENDER_COLOURS = {
    "fastnn": COLOURS[0],
    "torch": COLOURS[1],
    "jax": COLOURS[2],
    "torch-compile": COLOURS[3],
    "sklearn": COLOURS[4],
    "jax-scan": COLOURS[5],
    "numpy": COLOURS[6],
    "reference": "#9a9a9a",
}
LABELS = {
    "numpy": "NumPy",
    "torch": "PyTorch",
    "torch-compile": "torch.compile",
    "jax": "JAX jit",
    "jax-scan": "JAX scan",
    "sklearn": "scikit-learn",
}
LINE = 0.17  # inches that a bar with its number needs


def overview(document: Record) -> Figure:
    """The ratios to the peers as bars and every kernel as a dot under the roof, as far as the
    document has them.

    Parameters
    ----------
    document : mapping
        As `fastnn.bench.report.document` makes it.

    Raises
    ------
    ValueError
        It has neither ratios of training steps nor dots.
    """
    steps = [r for r in document["results"] if "network" in r and _speedups(r)]
    dots = document["figures"].get("roofline", [])
    if not steps and not dots:
        raise ValueError("there is nothing to draw: neither ratios to peers nor kernels")
    bars = sum(len(_speedups(record)) + 1 for record in steps)
    height = max(4.8, LINE * bars + 1.2)
    figure = new_figure(7.0 * (bool(steps) + bool(dots)), height)
    _below(figure, document)
    panels = iter(np.ravel(figure.subplots(1, bool(steps) + bool(dots), squeeze=False)))
    if steps:
        _ratios(next(panels), steps)
    if dots:
        _roofline(figure, next(panels), dots, document["ceilings"])
    return figure


def _below(figure: Figure, document: Record) -> None:
    """Under what conditions, in small print. Before labels are placed: it takes room."""
    figure.supxlabel(conditions(document), fontsize=7.5, color=FAINT, x=0.01, ha="left")


def conditions(document: Record) -> str:
    """Machine, versions and date in one or two lines."""
    machine, threads = document["machine"], document["settings"]["threads"]
    versions = ", ".join(
        f"{name} {' '.join(dict.fromkeys(found.values()))}"
        for name, found in document["versions"].items()
        if name != "jax-scan" and name != "torch-compile"
    )
    pinned = ", not pinned" if document["settings"].get("unpinned") else ""
    up_to = "up to " * any(record.get("axis") == "threads" for record in document["results"])
    return (
        f"{machine['cpu']}, {up_to}{threads} thread{'s' * (threads > 1)}{pinned}, "
        f"Python {machine['python']}, "
        f"{machine['date']}\n{versions}"
    )


# -- bars --------------------------------------------------------------------------------------


def _speedups(record: Record) -> dict[str, Any]:
    return {name: p["speedup"] for name, p in record["peers"].items() if "speedup" in p}


def _ratios(axes: Axes, steps: Sequence[Record]) -> None:
    """How many times as long each peer takes, on a logarithmic axis from 1."""
    style(axes, "Time of a training step, in steps of fastnn", "times as long as fastnn")
    axes.set_xscale("log")
    places, names, y = [], [], 0.0
    high = 1.0
    for record in steps:
        speedups = _speedups(record)
        middle = y + (len(speedups) - 1) / 2
        for name, s in speedups.items():
            colour = CONTENDER_COLOURS.get(name, FAINT)
            left, right = min(1.0, s["median"]), max(1.0, s["median"])
            axes.barh(y, right - left, left=left, height=0.78, color=colour, linewidth=0)
            axes.plot([s["low"], s["high"]], [y, y], color=INK, lw=1.0, solid_capstyle="butt")
            end = max(right, s["high"])
            times = f"{s['median']:.2f}×" if s["median"] < 10 else f"{s['median']:.1f}×"
            axes.annotate(
                f"{times}  {LABELS.get(name, name)}", (end, y), (4, 0), va="center",
                textcoords="offset points", fontsize=7.5, color=INK, in_layout=False,
            )  # fmt: skip
            high = max(high, end)
            y += 1
        places.append(middle)
        names.append(f"{record['name']}\n{_network(record)}" if _named(record) else record["name"])
        y += 1
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", labelsize=8, labelcolor=INK)
    axes.set_ylim(y - 0.6, -0.8)
    low = min(0.95, *(s["low"] for r in steps for s in _speedups(r).values()))
    axes.set_xlim(low, high * max(1.6, (high / low) ** 0.32))  # room for the words
    axes.axvline(1.0, color=CONTENDER_COLOURS["fastnn"], lw=1.6)
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    _plain_numbers(axes, "x")


def _named(record: Record) -> bool:
    return record["name"] in WORKLOADS


def _network(record: Record) -> str:
    """The sizes of a network without saying the same one ten times."""
    batch, sizes, extras = record["network"].split(":")
    parts: list[list[Any]] = []
    for size in sizes.split("-"):
        if parts and parts[-1][0] == size:
            parts[-1][1] += 1
        else:
            parts.append([size, 1])
    short = "-".join(f"{size}×{count}" if count > 3 else "-".join([size] * count)
                     for size, count in parts)  # fmt: skip
    return f"{batch}: {short}, {extras}"


# -- the roof ----------------------------------------------------------------------------------

FAMILY_COLOURS = dict(zip(FAMILIES, (COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[3], COLOURS[4],
                                     COLOURS[5], COLOURS[6]), strict=True))  # fmt: skip


def _roofline(figure: Figure, axes: Axes, dots: Sequence[Record], ceilings: Record) -> None:
    """GF/s over flop per byte, the roofs of the caches, and a dot for each kernel."""
    style(axes, "Every kernel under the roof of the machine", "flop per byte")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(axis="both", color=GRID, linewidth=0.8)
    x = np.array([dot["flops"] / dot["bytes"] for dot in dots])
    y = np.array([dot["flops"] / dot["seconds"] / 1e9 for dot in dots])
    peak = ceilings["fma"].get(dots[0]["dtype"], 0.0) / 1e9
    left, right = x.min() / 2, max(4 * x.max(), 10.0)
    bottom = y.min() / 2
    for place, bandwidth in ceilings["bandwidth"].items():
        speed = bandwidth / 1e9
        ridge = peak / speed if peak else right
        axes.plot([left, min(ridge, right)], [left * speed, min(ridge, right) * speed],
                  color="#b9b9b9", lw=1.2, zorder=1)  # fmt: skip
        start = max(left, bottom / speed) * 1.12
        axes.annotate(
            f"{place} {speed:.0f} GB/s", (start, start * speed), (0, 3),
            textcoords="offset points", fontsize=7.5, color=FAINT, rotation=45,
            rotation_mode="anchor", transform_rotates_text=True, ha="left", va="bottom",
        )  # fmt: skip
    if peak:
        fastest = max(ceilings["bandwidth"].values()) / 1e9
        axes.plot([peak / fastest, right], [peak, peak], color="#b9b9b9", lw=1.6, zorder=1)
        axes.annotate(
            f"FMA peak {peak:.0f} GF/s", (right, peak), (-4, 4), textcoords="offset points",
            ha="right", fontsize=7.5, color=FAINT,
        )  # fmt: skip
    for family, colour in FAMILY_COLOURS.items():
        chosen = np.array([dot["family"] == family for dot in dots])
        if chosen.any():
            axes.plot(x[chosen], y[chosen], "o", ms=5.5, mec="white", mew=0.6, color=colour,
                      label=family, zorder=3)  # fmt: skip
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, max(peak, y.max()) * 2)
    axes.set_ylabel("GF/s", color=FAINT)
    _plain_numbers(axes, "x")
    _plain_numbers(axes, "y")
    axes.legend(frameon=False, fontsize=8, loc="lower right", labelcolor=INK, handletextpad=0.1)
    _label_dots(figure, axes, dots, x, y)


def _label_dots(figure: Figure, axes: Axes, dots: Sequence[Record], x: Any, y: Any) -> None:
    """Names beside the dots where there is room, first those of single dots and of extremes."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    pixels = axes.transData.transform(np.column_stack([x, y]))
    frame = axes.get_window_extent(renderer)
    legend = axes.get_legend()
    taken = [text.get_window_extent(renderer) for text in axes.texts]
    if legend is not None:
        taken.append(legend.get_window_extent(renderer))
    distance = np.hypot(*(pixels[:, None] - pixels[None]).transpose(2, 0, 1))
    np.fill_diagonal(distance, np.inf)
    for i in np.argsort(-distance.min(axis=1)):
        for dx, dy, ha, va in ((6, 0, "left", "center"), (-6, 0, "right", "center"),
                               (0, 5, "center", "bottom"), (0, -5, "center", "top")):  # fmt: skip
            text = axes.annotate(
                _short(dots[i]), (x[i], y[i]), (dx, dy), textcoords="offset points", fontsize=6.5,
                color=FAMILY_COLOURS[dots[i]["family"]], ha=ha, va=va,
                in_layout=False,
            )  # fmt: skip
            box = text.get_window_extent(renderer)
            free = frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 < frame.y1
            others = np.delete(pixels, i, axis=0)
            inside = (
                (others[:, 0] > box.x0 - 4) & (others[:, 0] < box.x1 + 4)
                & (others[:, 1] > box.y0 - 4) & (others[:, 1] < box.y1 + 4)
            )  # fmt: skip
            if free and not inside.any() and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def _short(dot: Record) -> str:
    """The name without the size that all but the products share."""
    name: str = dot["name"]
    return name if dot["family"] == "products" else name.split()[0]


def _plain_numbers(axes: Axes, which: str) -> None:
    """1, 2, 5, 10 in place of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    wide = high / max(low, 1e-300) > 300
    axis.set_major_locator(LogLocator(10, subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


# -- growth ------------------------------------------------------------------------------------


def growth_curves(document: Record) -> Figure:
    """Steps per second and peak memory along one axis, a curve for each contender.

    Parameters
    ----------
    document : mapping
        Of ``fastnn bench --growth AXIS``.

    Raises
    ------
    ValueError
        It has no points.
    """
    from fastnn.bench.growth import TITLES, curves

    records = [record for record in document["results"] if "axis" in record]
    if not records:
        raise ValueError("there is nothing to draw: no point of a growth curve")
    label, network = TITLES[records[0]["axis"]]
    figure = new_figure(11.0, 4.9)
    _below(figure, document)
    speed, memory = figure.subplots(1, 2)
    style(speed, f"Steps per second: {network}", label)
    style(memory, "Most memory held by the process, MB", label)
    found = curves(records)
    for axes, column in ((speed, "steps_per_second"), (memory, "megabytes")):
        linear = records[0]["axis"] == "threads"  # of a few threads
        if not linear:
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
        ends = []
        for name, curve in reversed(found.items()):  # ours is drawn last, above the others
            chosen = [(x, y) for x, y in zip(curve["value"], curve[column], strict=True) if y]
            if not chosen:
                continue
            x, y = map(list, zip(*chosen, strict=True))
            ours = name == records[0]["ours"]
            colour = CONTENDER_COLOURS.get(name, FAINT)
            axes.plot(x, y, "o-", ms=4 if ours else 3, lw=2.4 if ours else 1.4, color=colour)
            ends.append((x[-1], y[-1], LABELS.get(name, name), colour))
        values = [record["value"] for record in records]
        _ticks_at(axes, values)
        axes.grid(axis="both", color=GRID, linewidth=0.8)
        if linear:
            axes.set_ylim(bottom=0)
        else:
            _plain_numbers(axes, "y")
        _name_ends(figure, axes, ends)
    return figure


def _ticks_at(axes: Axes, values: Sequence[int]) -> None:
    """At the values measured, as many as have room."""
    from matplotlib.ticker import NullLocator

    shown = list(values)[:: -(-len(values) // 9)]
    axes.set_xticks(shown, [f"{value:,}" for value in shown])
    axes.xaxis.set_minor_locator(NullLocator())


def _name_ends(figure: Figure, axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """The name of each curve beside its last point, moved apart where they would overlap."""
    figure.draw_without_rendering()
    to_pixels, to_data = axes.transData.transform, axes.transData.inverted().transform
    gap, height = 11.0 * figure.dpi / 72, -np.inf
    furthest = max((x for x, *_ in ends), default=1.0)
    for x, y, name, colour in sorted(ends, key=lambda end: end[1]):
        height = max(float(to_pixels((x, y))[1]), height + gap)
        axes.annotate(
            name, (furthest, float(to_data((0.0, height))[1])), (8, 0), va="center",
            textcoords="offset points", fontsize=8.5, color=colour, annotation_clip=False,
        )  # fmt: skip


# -- from nothing to a model -------------------------------------------------------------------


def cold_start_bars(document: Record) -> Figure:
    """Seconds from `python -c` to a trained model, in their phases, beside memory and size.

    Parameters
    ----------
    document : mapping
        Of ``fastnn bench --cold-start``.

    Raises
    ------
    ValueError
        It has no cold start.
    """
    record = next((r for r in document["results"] if "phases" in r), None)
    if record is None:
        raise ValueError("there is nothing to draw: no cold start was measured")
    names = [name for name in (record["ours"], *record["peers"]) if name in record["phases"]]
    names.sort(key=lambda name: float(record["phases"][name]["trained"]))
    figure = new_figure(11.0, 0.42 * len(names) + 2.2)
    _below(figure, document)
    time, memory, size = figure.subplots(1, 3, width_ratios=(2.2, 1, 1), sharey=True)
    places = [float(i) for i in range(len(names))]
    colours = [CONTENDER_COLOURS.get(name, FAINT) for name in names]
    style(
        time, "Seconds to a trained digits model", "s, the paler part until everything is imported"
    )
    imported = np.array([record["phases"][name]["imported"] for name in names])
    trained = np.array([record["phases"][name]["trained"] for name in names])
    time.barh(places, imported, 0.62, color=colours, alpha=0.45, linewidth=0)
    time.barh(places, trained - imported, 0.62, left=imported, color=colours, linewidth=0)
    for place, name, end in zip(places, names, trained, strict=True):
        times = record["peers"].get(name, {}).get("speedup")
        text = f"{end:.2f} s" + (f"  ({times['median']:.1f}× fastnn)" if times else "")
        _beside(time, end, place, text)
    style(memory, "Peak memory", "MB")
    held = np.array([record["memory"][name] / 1e6 for name in names])
    memory.barh(places, held, 0.62, color=colours, linewidth=0)
    style(size, "On the disk", "MB with requirements, logarithmic")
    found = document["figures"]["footprint"]  # of who is not installed properly there is none
    sizes = np.array([found.get(n, {}).get("with_requirements", np.nan) / 1e6 for n in names])
    size.set_xscale("log")
    size.barh(places, sizes, 0.62, color=colours, linewidth=0)
    size.set_xlim(min(10.0, np.nanmin(sizes) / 2), np.nanmax(sizes) * 6)
    for axes, values in ((memory, held), (size, sizes)):
        for place, value in zip(places, values, strict=True):
            if np.isfinite(value):
                _beside(axes, value, place, f"{value:,.0f}")
    time.set_xlim(0, trained.max() * 1.25)
    memory.set_xlim(0, held.max() * 1.25)
    labels = {**LABELS, "jax": "JAX"}  # it compiles a scan here
    time.set_yticks(places, [labels.get(name, name) for name in names])
    time.invert_yaxis()
    for axes in (time, memory, size):
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.tick_params(axis="y", labelsize=9.5, labelcolor=INK)
    _plain_numbers(size, "x")
    return figure


def _beside(axes: Axes, x: float, y: float, text: str) -> None:
    axes.annotate(
        text, (x, y), (4, 0), textcoords="offset points", va="center", fontsize=8, color=INK
    )
