"""How the parts of a block and of a round are drawn with matplotlib, as SVG: a bar for each, a scale for each whole.

Rule: as with curves, equal figures give equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from figures import Recorded
from matplotlib.figure import Figure
from shades import COLOURS, INK, STYLE
from tables import Table

BENCHMARK = "breakdown"
PARTS_MAX = 16
INCHES_WIDE = 9.2
INCHES_A_BAR = 0.21
INCHES_BESIDE = 0.8
BLOCK, ROUND = "a block", "a round"
PROCESSOR_TIME = ", processor time"


@dataclass(frozen=True)
class Whole:
    """Something that is made of parts, each in ms of processor time, the largest first."""

    title: str
    parts: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, title: str, parts: Mapping[str, float]) -> Whole:
        """The largest parts, and all others as one."""
        ordered = sorted(parts.items(), key=lambda part: -part[1])
        rest = sum(value for _, value in ordered[PARTS_MAX:])
        others = (("all others", rest),) if rest > 0 else ()
        return cls(title, (*ordered[:PARTS_MAX], *others))


def bars_of(table: Table) -> dict[str, bytes]:
    """The plots of a table's blocks and rounds, by the names of their files."""
    figures = [each for ran in table.ran if ran.command.split()[0] == BENCHMARK for each in ran.figures]
    wholes = {"block.svg": blocks(figures), "round.svg": rounds(figures)}
    return {name: draw(found) for name, found in wholes.items() if found}


def blocks(figures: Sequence[Recorded]) -> list[Whole]:
    """A block without transactions, and one with."""
    parts: dict[str, dict[str, float]] = {}
    for each in figures:
        kind, _, name = each.name.partition(": ")
        if each.group.startswith(BLOCK) and each.cpu is not None:
            parts.setdefault(kind, {})[name] = each.cpu.median
    return [Whole.of(f"{kind} block, one validator", found) for kind, found in parts.items()]


def rounds(figures: Sequence[Recorded]) -> list[Whole]:
    """A round by who works on it."""
    parts: dict[str, dict[str, float]] = {}
    for each in figures:
        who, separator, name = each.name.removesuffix(PROCESSOR_TIME).partition(": ")
        if each.group.startswith(ROUND) and separator and each.name.endswith(PROCESSOR_TIME):
            parts.setdefault(who, {})[name.removeprefix("stage ")] = each.value.median
    return [Whole.of(f"a round, {who}", found) for who, found in parts.items()]


def draw(wholes: Sequence[Whole]) -> bytes:
    """One below the other, each with an axis of its own."""
    heights = [INCHES_BESIDE + INCHES_A_BAR * len(whole.parts) for whole in wholes]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(INCHES_WIDE, sum(heights)), layout="constrained")
        figure.patch.set_alpha(0)
        places = figure.subplots(len(wholes), 1, squeeze=False, height_ratios=heights)
        for place, whole, colour in zip(places.flat, wholes, COLOURS, strict=False):
            names, values = zip(*whole.parts, strict=True)
            place.patch.set_alpha(0)
            place.barh(range(len(names)), values, color=colour)
            place.set_yticks(range(len(names)), names)
            place.invert_yaxis()
            place.set_title(whole.title, fontsize=9)
            place.set_xlabel("ms of processor time")
            place.grid(axis="x", color=INK, alpha=0.25, linewidth=0.5)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()
