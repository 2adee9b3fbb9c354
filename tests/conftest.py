"""Fast tests first: a mistake shows within seconds, before anything starts a network."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the slow tests behind all others; otherwise the order stays."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
