"""Tables of what the benchmarks recorded: as JSON, as Markdown, and one table against another.

Rule: a figure is known by its benchmark, the heading that it stands under and its name; a table has each of them once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from figures import Recorded, Spread

Key = tuple[str, str, str]


class Incomparable(ValueError):
    """Two tables that say nothing about each other."""


@dataclass(frozen=True)
class Ran:
    """One benchmark: how it was called, how it ended, and what it recorded by then."""

    command: str
    ok: bool  # through, or not begun for want of something
    ended: str
    seconds: float
    load: tuple[float, float]  # the machine's, before and after
    figures: tuple[Recorded, ...]


@dataclass(frozen=True)
class Table:
    """All of one run."""

    taken: str  # when it began, ISO 8601 in UTC
    commit: str
    machine: str
    versions: dict[str, str]
    short: bool
    ran: tuple[Ran, ...]

    def figures(self) -> dict[Key, Recorded]:
        """Each figure by what it is known by."""
        return {(ran.command, each.group, each.name): each for ran in self.ran for each in ran.figures}

    def encode(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def decode(cls, text: str) -> Table:
        """What `encode` made."""
        fields: dict[str, Any] = json.loads(text)
        ran = (
            Ran(**{**one, "load": tuple(one["load"]), "figures": tuple(map(recorded, one["figures"]))})
            for one in fields.pop("ran")
        )
        return cls(**fields, ran=tuple(ran))


def recorded(fields: dict[str, Any]) -> Recorded:
    """A figure from its JSON object."""
    cpu = fields["cpu"] and Spread(**fields["cpu"])
    return Recorded(**{**fields, "value": Spread(**fields["value"]), "cpu": cpu})


def read_recorded(path: Path) -> tuple[Recorded, ...]:
    """What a benchmark left, up to the line that it was interrupted in."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return tuple(recorded(json.loads(line)) for line in lines)


def markdown(table: Table) -> str:
    """The table for people."""
    return "\n".join(_lines(table)) + "\n"


def _lines(table: Table) -> Iterator[str]:
    yield f"# Benchmarks of {table.taken}{', short form' if table.short else ''}"
    yield ""
    yield f"Commit {table.commit}; {table.machine}."
    yield ", ".join(f"{name} {version}" for name, version in table.versions.items()) + "."
    yield "Medians, with the least and the most of several samples."
    for ran in table.ran:
        yield ""
        yield f"## {ran.command}"
        yield ""
        load = " to ".join(f"{one:.1f}" for one in ran.load)
        yield f"Ended {ran.ended} after {ran.seconds:.0f} s; load {load}."
        group: str | None = None
        for figure in ran.figures:
            if figure.group != group:
                group = figure.group
                yield ""
                yield f"| {_cell(group or ran.command)} | measured | processor time | goal | beside its peers |"
                yield "|---|---:|---:|---|---|"
            cpu = shown(figure.cpu, figure.unit) if figure.cpu else ""
            cells = (_cell(figure.name), shown(figure.value, figure.unit), cpu, _goal(figure), _peers(figure))
            yield f"| {' | '.join(cells)} |"


def shown(spread: Spread, unit: str) -> str:
    """A median with its spread."""
    around = f" ({number(spread.least)} to {number(spread.most)})" if spread.samples > 1 else ""
    return f"{number(spread.median)} {unit}".strip() + around


def number(value: float) -> str:
    """Four digits at least where there are as many, and all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _goal(figure: Recorded) -> str:
    if figure.goal is None:
        return ""
    most = "at least" if figure.better == "more" else "at most"
    return f"{most} {number(figure.goal)}: {'met' if figure.met else '**missed**'}"


def _peers(figure: Recorded) -> str:
    """How many times a peer's figure this one is, and whether that is good."""
    cells = []
    for name, theirs in figure.peers.items():
        ahead = figure.value.median >= theirs if figure.better == "more" else figure.value.median <= theirs
        cells.append(
            f"{ratio(figure.value.median, theirs)} {name}'s {number(theirs)}, {'ahead' if ahead else 'behind'}"
        )
    return "; ".join(cells)


def ratio(now: float, before: float) -> str:
    """One by the other, in words."""
    return f"{now / before:.2f} x" if before else "–"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def comparison(now: Table, before: Table) -> str:
    """What became of each figure that both tables have, as Markdown; Incomparable where they measured other things."""
    if now.short != before.short:
        raise Incomparable("expected two tables of one form; got a short one and a whole one")
    ours, theirs = now.figures(), before.figures()
    lines = [
        f"# {now.taken} ({now.commit}) against {before.taken} ({before.commit})",
        "",
        "New by old, medians. Marked where several samples of both do not overlap.",
    ]
    if now.machine != before.machine:
        lines.append(f"**Other machines**: {now.machine}; before: {before.machine}.")
    section: tuple[str, str] | None = None
    for key, figure in ours.items():
        old = theirs.get(key)
        if old is None or old.unit != figure.unit:
            continue
        if section != key[:2]:
            section = key[:2]
            title = ": ".join(filter(None, section))
            lines += [
                "",
                f"| {_cell(title)} | before | now | ratio | by processor time | |",
                "|---|---:|---:|---:|---:|---|",
            ]
        cpu = ratio(figure.cpu.median, old.cpu.median) if figure.cpu and old.cpu else ""
        cells = (
            _cell(figure.name),
            shown(old.value, old.unit),
            shown(figure.value, figure.unit),
            ratio(figure.value.median, old.value.median),
            cpu,
            mark(figure, old),
        )
        lines.append(f"| {' | '.join(cells)} |")
    for title, alone in (("Only now", ours.keys() - theirs.keys()), ("Only before", theirs.keys() - ours.keys())):
        if alone:
            lines += ["", f"{title}: {len(alone)}, of {', '.join(sorted({key[0] for key in alone}))}."]
    return "\n".join(lines) + "\n"


def mark(now: Recorded, before: Recorded) -> str:
    """Whether a figure has become better or worse, where its spreads tell."""
    new, old = now.value, before.value
    if min(new.samples, old.samples) < 2 or (new.least <= old.most and old.least <= new.most):
        return ""
    return "**better**" if (new.median > old.median) == (now.better == "more") else "**worse**"
