"""What README and docs tell a reader to type, section by section.

A test that follows a section takes its commands from here, all of them, with page and heading written out:
`commands("docs/keys.md", "Passwords")`. tests/docs/test_every_command.py finds these calls, and fails for a section
that no test takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# What no test runs as it stands, and why; whether there are such commands and options is checked all the same.
NOT_RUN = {
    "git clone <this repository> potchain && cd potchain": "its outcome is the checkout that the tests are in",
    "scripts/test": "runs this very test",
    "scripts/test -m 'not slow'": "runs this very test",
    "scripts/test --sweep": "runs this very test",
    "sudo useradd --system --home-dir /var/lib/potchain --shell /usr/sbin/nologin potchain": "adds a user",
    "sudo git clone <this repository> /opt/potchain && cd /opt/potchain": "clones outside of the test's folder",
    "sudo scripts/setup requirements.txt": "installs packages; scripts/test has just run it with the others",
    "sudo systemctl enable --now potchain": "needs systemd as the machine's init",
    "sudo journalctl -fu potchain": "needs systemd as the machine's init",
    ".venv/bin/potchain task new docs/examples/fashion.py --key //Bob --rounds 12 --local-steps 10"
    " --inner-optimizer sgd --inner-learning-rate 0.03": "needs a package of Debian's, and half an hour",
    ".venv/bin/potchain task new docs/examples/bible.py --key //Bob --rounds 8 --learning-rate 0.003 --clip norm": (
        "needs a package of Debian's, and half an hour"
    ),
    'python3 -m venv FOLDER && FOLDER/bin/pip install "flwr[simulation]"': "installs packages",
}
# What a fence of commands names, and what a command begins with. What a program has printed, in a fence that names
# nothing, begins with a time of day, or is its help.
PROGRAM = re.compile(
    r"(\.venv/bin/\w|scripts/\w|(potchain|python3?|pip|pytest|npm|node|git|curl|openssl|taskset|sudo|mkdir|promtool) )"
)
SHELLS = ("", "sh", "bash", "shell")
PRINTED = re.compile(r"\d\d:\d\d:\d\d |Usage: ")


@dataclass(frozen=True)
class Block:
    """A fenced or an indented block: where it is, what kind its fence names, its lines without their indentation."""

    page: str
    heading: str
    kind: str
    lines: tuple[str, ...]

    @property
    def commands(self) -> list[str]:
        """What is typed, without what is said of it; lines that end in a backslash are put together."""
        if self.kind == "console":
            typed = [line.removeprefix("$ ") for line in self.lines if line.startswith("$ ")]
        elif self.kind not in SHELLS or not self.lines or PRINTED.match(self.lines[0]):
            return []
        else:
            typed = re.sub(r" *\\\n *", " ", "\n".join(self.lines)).splitlines()
        found = [re.sub(r"\s+# .*", "", line).strip() for line in typed if line]
        for command in found:
            assert PROGRAM.match(command), f"{self.page}, {self.heading}: {command!r} is no command that PROGRAM knows"
        return found


def commands(page: str, *headings: str) -> list[str]:
    """The commands of a page below these headings (all without one) that a test can run, in their order."""
    there = {block.heading for block in blocks(page)}
    assert set(headings) <= there, f"{page} has commands below {sorted(there)}"
    found = [
        command for block in blocks(page) if not headings or block.heading in headings for command in block.commands
    ]
    return [command for command in found if command not in NOT_RUN]


def pages() -> list[str]:
    """README and docs, without what is made from the code."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path.relative_to(ROOT).as_posix() for path in found if path.parent.name != "reference"]


@cache
def blocks(page: str) -> list[Block]:
    """The blocks of a page, in their order."""
    return list(_blocks(page, (ROOT / page).read_text().splitlines()))


def _blocks(page: str, text: list[str]) -> Iterator[Block]:
    heading, lines = "", iter(text)
    after_blank = True
    for line in lines:
        if fence := re.match(r"( *)```(\w*)$", line):
            inside = list(iter(lambda: next(lines).removeprefix(fence[1]), "```"))
            yield Block(page, heading, fence[2], tuple(inside))
        elif after_blank and re.match(r" {4}\S", line):
            inside = [line.strip()]
            while (line := next(lines, "")).startswith("    "):
                inside.append(line.strip())
            if PROGRAM.match(inside[0]):  # others are formulas, or go on with a list
                yield Block(page, heading, "", tuple(inside))
        elif line.startswith("#"):
            heading = line.lstrip("# ")
        after_blank = not line.strip()
