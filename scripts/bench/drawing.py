"""How curves of growth are drawn with matplotlib, as SVG: each cost beside how it should grow.

Rule: equal figures give equal bytes. Both axes are logarithmic, so that a power of the size is a straight line; the
thin line through a cost's last point is how it should have come there.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
from bars import bars_of
from curves import Column, Curve
from figures import Recorded, Spread
from finality import BLS, STUB
from grow_chain import CURVE as CHAIN
from grow_keys import CURVE as KEYS
from grow_parameters import CURVE as PARAMETERS
from grow_workers import CURVE as WORKERS
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator
from shades import COLOURS, INK, STYLE
from tables import Table

CURVES = (STUB, BLS, WORKERS, PARAMETERS, KEYS, CHAIN)
MARKS = "osD^vPX*"
INCHES = (4.6, 3.1)
LEGEND_INCHES = 0.19
# An axis spans this factor at least.
SPAN_MIN = 100

Line = tuple[Column, list[tuple[int, Spread]]]


def drawn(table: Table) -> dict[str, bytes]:
    """The plots of a table, by the names of their files."""
    figures = list(table.figures().values())
    found = bars_of(table)
    for curve in CURVES:
        lines = lines_of(curve, figures)
        if lines:
            found[f"{curve.file}.svg"] = draw(curve, lines)
    return found


def lines_of(curve: Curve, figures: Sequence[Recorded]) -> list[Line]:
    """What can be drawn of a curve: on logarithmic axes nothing is zero."""
    lines = []
    for column in curve.columns:
        points = [(size, value) for size, value in curve.points(figures, column) if value.least > 0]
        if len(points) > 1:
            lines.append((column, points))
    return lines


def draw(curve: Curve, lines: Sequence[Line]) -> bytes:
    """One curve as SVG: an axis for each unit, two in a row, and below each what its lines are."""
    units = list(dict.fromkeys(column.unit for column, _ in lines))
    grouped = [[line for line in lines if line[0].unit == unit] for unit in units]
    rows = [grouped[first : first + 2] for first in range(0, len(grouped), 2)]
    heights = [INCHES[1] + LEGEND_INCHES * max(map(len, row)) for row in rows]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 * INCHES[0], sum(heights)), layout="constrained")
        figure.patch.set_alpha(0)
        figure.suptitle(curve.group, fontsize=10)
        places = figure.subplots(len(rows), 2, squeeze=False, height_ratios=heights)
        for place in places.flat[len(grouped) :]:
            place.set_axis_off()
        for place, group in zip(places.flat, grouped, strict=False):
            _draw_axis(place, curve, group)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _draw_axis(place: Axes, curve: Curve, lines: Sequence[Line]) -> None:
    place.patch.set_alpha(0)
    place.set_xscale("log")
    place.set_yscale("log")
    for number, (column, points) in enumerate(lines):
        sizes, values = [size for size, _ in points], [value.median for _, value in points]
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        label = f"{column.name}: {column.growth.value}"
        place.plot(sizes, values, color=colour, marker=mark, markersize=4, linewidth=1.4, label=label)
        unit_cost = values[-1] / column.growth.of(sizes[-1])
        should = [unit_cost * column.growth.of(size) for size in sizes]
        place.plot(sizes, should, color=colour, linewidth=0.7, linestyle=(0, (4, 3)))
    sizes = sorted({size for _, points in lines for size, _ in points})
    place.set_xticks(sizes, [_short(size) for size in sizes])
    place.xaxis.set_minor_locator(NullLocator())
    least, most = place.get_ylim()
    while most < SPAN_MIN * least:  # What is flat shall look it.
        least, most = least / 2, most * 2
    place.set_ylim(least, most)
    place.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    place.yaxis.set_minor_formatter(NullFormatter())
    place.set_xlabel(curve.noun)
    place.set_ylabel(lines[0][0].unit or "count")
    place.grid(color=INK, alpha=0.25, linewidth=0.5)
    place.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize=8)


def _short(size: int) -> str:
    """A size in few letters."""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if size >= unit and size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)
