"""Fields of a foreign row, with messages that say what was expected of which."""

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]
"""A row as its file has it."""

KINDS = {
    str: "text",
    bool: "a truth value",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "a mapping",
    bytes: "bytes",
    type(None): "null",
}


def field(row: Row, path: str) -> Any:
    """The value at a path: names, and places in lists, with dots between them. A name may have dots of its own.

    Raises ValueError naming the fields that there are.
    """
    if path in row:
        return row[path]
    value: Any = row
    for done, part in enumerate(parts := path.split(".")):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            where = ".".join(parts[:done])
            at = f" in {where}" if where else ""
            raise ValueError(f"there is no field {path!r}; there {_are(value)}{at}")
    return value


def _are(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"are {', '.join(map(str, value)) or 'none'}"
    return f"are {len(value)} values" if isinstance(value, list) else f"is {kind(value)}"


def text(row: Row, path: str) -> str:
    """A text. Raises ValueError for a field that is missing, null or something else."""
    value = field(row, path)
    if not isinstance(value, str):
        raise ValueError(f"field {path!r} is {kind(value)}, and text is expected")
    return value


def answer(row: Row, path: str) -> str:
    """A text or a number, as text. Raises ValueError for anything else, and for an empty one."""
    value = field(row, path)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    if not isinstance(value, str):
        raise ValueError(f"field {path!r} is {kind(value)}, and an answer is expected: text or a number")
    if not value.strip():
        raise ValueError(f"field {path!r} is empty, and an answer is expected")
    return value.strip()


def optional(row: Row, *names: str) -> str | None:
    """The text of the first of these fields that the row has; None where it has none. Raises ValueError."""
    return next((text(row, name) for name in names if row.get(name) is not None), None)


def tags(row: Row) -> dict[str, str]:
    """Source and licence, where the row says them. Raises ValueError for one that is not text."""
    named = {"source": optional(row, "source"), "licence": optional(row, "licence", "license")}
    return {name: value for name, value in named.items() if value}


def kind(value: Any) -> str:
    """What a value is, in words."""
    return KINDS.get(type(value), type(value).__name__)
