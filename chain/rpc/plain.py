"""What a task's owner chose, as JSON: in answers, in genesis files, and to whoever computes with it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from runtime.modules.training_policy import is_variant, json_name
from runtime.storage import camel_case


def plain(value: Any) -> Any:
    """A record in the JSON of genesis files: a variant is an object with its name as its field."""
    if not is_dataclass(value):
        return value
    found = {camel_case(field.name): plain(getattr(value, field.name)) for field in fields(value)}
    return {json_name(type(value)): found} if is_variant(type(value)) else found
