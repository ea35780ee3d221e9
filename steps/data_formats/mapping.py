"""A mapping in the recipe: which field of a row is which of a problem or an example."""

from collections.abc import Mapping
from typing import Any

from steps.data_formats.fields import Row, field
from steps.data_formats.pictures import Pictures
from steps.data_formats.turns import question

IMAGES = "images"
"""What a mapping calls the field with a row's images."""


def _pictures(row: Row, path: str | None) -> Pictures:
    return Pictures({IMAGES: field(row, path)} if path else {})


def mapped(row: Row, mapping: Mapping[str, str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a problem or an example: `defaults`, and those that the mapping names. A prompt may be a list of turns.

    Raises ValueError for a field that a row does not have, and lists those that it has.
    """
    fields = dict(defaults)
    pictures = _pictures(row, mapping.get(IMAGES))
    for own, path in mapping.items():
        if own == IMAGES:
            continue
        try:
            value = field(row, path)
        except ValueError as error:
            raise ValueError(f"mapping of {own}: {error}") from error
        if own == "prompt" and isinstance(value, list):
            fields |= question(value, path, pictures)
        elif own == "prompt" and isinstance(value, str):
            fields[own] = pictures.finish(pictures.split(value))
        elif isinstance(value, int | float) and not isinstance(value, bool) and own in ("answer", "id", "problem_id"):
            fields[own] = repr(value)
        elif value is not None:
            fields[own] = value
    return fields
