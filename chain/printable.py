"""What strangers wrote, as a terminal may show it: names of tasks, and whatever a node answers."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text on one line, in which nothing commands a terminal or turns letters round."""
    return "".join(each if each.isprintable() else "?" for each in text)
