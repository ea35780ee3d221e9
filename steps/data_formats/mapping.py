"""A mapping in the recipe: which field of a row is which of ours."""

from collections.abc import Mapping
from typing import Any

from steps.data_formats.fields import Row, field
from steps.data_formats.turns import question


def mapped(row: Row, mapping: Mapping[str, str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields: `defaults`, and what stands in the fields that the mapping names. A prompt may be a list of turns.

    Raises ValueError for a field that there is not, and lists those that there are.
    """
    fields = dict(defaults)
    for own, path in mapping.items():
        try:
            value = field(row, path)
        except ValueError as error:
            raise ValueError(f"mapping of {own}: {error}") from error
        if own == "prompt" and isinstance(value, list):
            fields |= question(value, path)
        elif isinstance(value, int | float) and not isinstance(value, bool) and own in ("answer", "id", "problem_id"):
            fields[own] = repr(value)
        elif value is not None:
            fields[own] = value
    return fields
