"""The environment variables of this program: settings for who starts it, and none for the processes that it starts."""

from __future__ import annotations

import os

PREFIX = "POTCHAIN"
CONFIG = f"{PREFIX}_CONFIG"  # names the file of settings


def environment_of_children() -> dict[str, str]:
    """The environment without settings: all that a child is told, its command line says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(f"{PREFIX}_")}
    return {**kept, CONFIG: os.devnull}
