"""What the node logs, changed while it runs: directives such as `potchain.net=debug`, as Substrate has them.

The logs are one for the whole process, and so is what is changed here.
"""

from __future__ import annotations

import logging

ROOT = "potchain"
LEVELS = {
    "off": logging.CRITICAL + 1,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,  # Nothing here is told in more detail than that.
}


def targets() -> list[str]:
    """The names of the logs that there are."""
    return sorted(name for name in logging.root.manager.loggerDict if name == ROOT or name.startswith(f"{ROOT}."))


def parse(directives: str) -> dict[str, int]:
    """Levels by log, from `LOG=LEVEL` or, for all of them, `LEVEL`; ValueError says what was expected."""
    found: dict[str, int] = {}
    for directive in directives.split(","):
        name, equals, level = directive.strip().rpartition("=")
        name = name.strip() if equals else ROOT
        if level.strip() not in LEVELS or name not in targets():
            raise ValueError(
                f"LOG=LEVEL or LEVEL, separated by commas, with a log among {', '.join(targets())} and a level among "
                f"{', '.join(LEVELS)}"
            )
        found[name] = LEVELS[level.strip()]
    return found


def apply(levels: dict[str, int]) -> None:
    """Log at these levels, and as before where nothing is said."""
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def reset() -> None:
    """Log as at the start."""
    for name in targets():
        logging.getLogger(name).setLevel(logging.NOTSET)
