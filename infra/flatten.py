"""Nested plain data by the dotted paths of its leaves, as messages name a recipe's keys."""

from typing import Any


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of plain data by their dotted path: {"a": {"b": 1}} as {"a.b": 1}. Lists and empty mappings are
    leaves."""
    if not isinstance(value, dict) or (prefix and not value):
        return {prefix: value}
    leaves: dict[str, Any] = {}
    for name, each in value.items():
        leaves |= flatten(each, f"{prefix}.{name}" if prefix else str(name))
    return leaves
