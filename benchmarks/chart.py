"""A picture of figures that `benchmarks.peers` or `benchmarks.whole` kept with `--json`.

`python -m benchmarks.chart FIGURES.json CHART.svg [--only TEXT ...] [--unit UNIT]`

One group of bars for each figure whose name has one of the texts and that is in the unit. A bar is
the median, the thin line over it goes from the lowest to the highest. Each group has its own scale,
which begins at 0.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path

from benchmarks.figures import Figure, Figures

WIDTH, LABEL, BARS, ROW = 860, 205, 570, 26
# Letters of a small line that fit.
LINE = 128
# Legible on light and on dark, where a viewer does not tell which it is.
STYLE = """
text { font: 14px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #6e7781 }
.name { font-weight: 600; font-size: 15px } .title { font-weight: 600; font-size: 18px }
.small { font-size: 12px } .end { text-anchor: end }
.bar { fill: #8c959f } .ours { fill: #2f81f7 }
.spread { stroke: #57606a; stroke-width: 1.5; fill: none }
@media (prefers-color-scheme: light) { text { fill: #1f2328 } .small { fill: #59636e } }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .bar { fill: #6e7681 } .spread { stroke: #e6edf3 }
}
"""


def digits(value: float) -> str:
    """A number as people read it: three digits, or whole."""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"


def bar(figure: Figure, y: float, scale: float, kind: str) -> list[str]:
    """A label, a bar with its spread, and the median in digits after both."""
    low, high = (LABEL + edge * scale for edge in (min(figure.values), max(figure.values)))
    middle, length = y + ROW / 2, figure.median * scale
    parts = [
        text(LABEL - 10, middle + 5, figure.series, "end"),
        f'<rect class="{kind}" x="{LABEL}" y="{y + 4}" width="{length:.1f}" height="{ROW - 8}"/>',
        text(high + 8, middle + 5, digits(figure.median)),
    ]
    if high - low > 1:
        ends = "".join(f"M{x:.1f} {middle - 4}v8" for x in (low, high))
        parts.append(f'<path class="spread" d="{ends}M{low:.1f} {middle}H{high:.1f}"/>')
    return parts


def text(x: float, y: float, content: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(content)}</text>'


def footer(figures: Figures, rounds: int) -> list[str]:
    """Where the figures are from and how sure they are."""
    said = [
        f"{figures.day}, {figures.machine}, {figures.versions}.",
        f"Bars: medians of {rounds} rounds taken in turns; thin lines: the lowest to the highest.",
        *(f"{series}: {note}" for series, note in figures.notes.items()),
    ]
    return [line for each in said for line in textwrap.wrap(each, LINE, subsequent_indent="  ")]


def chart(figures: Figures, shown: Sequence[str], ours: Sequence[str]) -> str:
    """The picture of the figures with these names, as SVG."""
    parts, y, rounds = [text(10, 26, figures.title, "title")], 46.0, sys.maxsize
    groups = figures.by_name()
    for name in shown:
        series = groups[name]
        parts.append(text(10, y + 14, f"{name}: {next(iter(series.values())).unit}", "name"))
        y += 22
        scale = BARS / max(max(figure.values) for figure in series.values())
        for figure in series.values():
            parts += bar(figure, y, scale, "ours" if figure.series in ours else "bar")
            rounds = min(rounds, len(figure.values))
            y += ROW
        y += ROW / 2
    for line in footer(figures, rounds):
        y += 18
        parts.append(text(10, y, line, "small"))
    size = f'viewBox="0 0 {WIDTH} {y + 14:.0f}" width="{WIDTH}" height="{y + 14:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>\n<style>{STYLE}</style>'
    return "\n".join([head, *parts, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path)
    parser.add_argument("chart", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="names of figures, or parts of them")
    parser.add_argument("--unit", help="only figures in this unit")
    parser.add_argument("--ours", nargs="*", default=["belugawf", "after"], help="coloured series")
    options = parser.parse_args()
    figures = Figures.read(options.figures)
    shown = {
        figure.name: None
        for figure in figures
        if any(text in figure.name for text in options.only or [""])
        and options.unit in (None, figure.unit)
    }
    options.chart.write_text(chart(figures, list(shown), options.ours))


if __name__ == "__main__":
    main()
