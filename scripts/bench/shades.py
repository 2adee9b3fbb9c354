"""Colours and letters of the plots: as far from white as from black, on the page's own background.

Rule: what is drawn depends on nothing but the figures: no date, no random identifiers, letters as outlines.
"""

from __future__ import annotations

from typing import Any

# Of a contrast of four and more to white and to the dark grey of pages at night alike.
INK = "#767676"
COLOURS = ("#2f7ac6", "#c2570c", "#1a8754", "#b0479c", "#8a6d00", "#c0392b", "#4f6bd8", "#0e8388")
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "potchain",
    "svg.fonttype": "path",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
