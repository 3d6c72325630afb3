"""The pieces of a page. Every text that comes in is escaped; what these functions return is HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from fastnn.plots.canvas import to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastnn.diagnosis import Finding


def page(
    title: str, subtitle: str, numbers: Mapping[str, str], sections: Sequence[str], version: str
) -> str:
    """The whole page: a title, a few numbers to see first, and the sections."""
    template = Template(files("fastnn.report").joinpath("page.html").read_text(encoding="utf-8"))
    tiles = (f"<li><b>{escape(v)}</b><span>{escape(k)}</span></li>" for k, v in numbers.items())
    return template.substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        numbers=f'<ul class="numbers">{"".join(tiles)}</ul>' if numbers else "",
        sections="\n".join(sections),
        version=escape(version),
    )


def section(heading: str, *parts: str) -> str:
    """A section with a heading; its parts are HTML."""
    body = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(heading)}</h2>\n{body}\n</section>"


def paragraph(text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{escape(text)}</p>"


def picture(figure: Figure, description: str) -> str:
    """A matplotlib figure; the description is for those who do not see it."""
    svg = to_svg(figure).replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1)
    return f"<figure>{svg}</figure>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], summary: str = "") -> str:
    """A table of numbers; with a `summary` it is folded away under that line."""
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = ("".join(f"<td>{escape(number(cell))}</td>" for cell in row) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    text = (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )
    if summary:
        return f"<details><summary>{escape(summary)}</summary>{text}</details>"
    return text


def settings(values: Mapping[str, object]) -> str:
    """A table of names and what they are set to."""
    rows = (
        f"<tr><td>{escape(name)}</td><td>{escape(number(value))}</td></tr>"
        for name, value in values.items()
    )
    return f'<table class="words"><tbody>{"".join(rows)}</tbody></table>'


def finding(found: Finding) -> str:
    """A finding of the diagnosis, as a box."""
    kind = found.severity if found.severity in ("error", "warning", "hint") else "warning"
    rows = (("evidence", found.evidence), ("cause", found.cause), ("try", found.advice))
    words = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    return (
        f'<div class="finding {kind}"><h3><span class="severity">{kind}:</span> '
        f"{escape(found.title)}</h3><dl>{words}</dl></div>"
    )


def number(value: object) -> str:
    """A cell: a float with four digits, nothing for NaN, texts as they are."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
