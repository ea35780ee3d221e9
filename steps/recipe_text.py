"""A recipe's text as plain data: YAML read strictly, so that what a reader of the file takes it to say is what runs.

YAML itself takes the last of two equal keys, and Python's reader raises whatever comes up at values that it cannot
make. Here both are refused, with key and line.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

OTHER_BASE = re.compile(r"[-+]?(0[0-9_]+|[0-9_]+(:[0-9]+)+)")
"""Integers of YAML 1.1 that nobody means: 010 is 8, and 1:30 is 90."""


class UnreadableText(ValueError):
    """The text is not a recipe's; the message names what is wrong, by key and line where there is one."""


class _Loader(yaml.SafeLoader):
    """Names the line of a value that cannot be made: a date that does not exist, an integer of thousands of digits."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError, AttributeError, TypeError) as error:
            raise ConstructorError(None, None, str(error), node.start_mark) from error


def load_mapping(text: str) -> dict[str, Any]:
    """The mapping that a YAML or JSON text holds. Raises UnreadableText."""
    raw = load_value(text)
    if not isinstance(raw, dict):
        raise UnreadableText(f"holds {type(raw).__name__}; expected a mapping of sections")
    return raw


def load_value(text: str) -> Any:
    """What a YAML or JSON text holds. Raises UnreadableText."""
    try:
        root = yaml.compose(text, Loader=_Loader)
        faults = list(_faults(root, "", set())) if root is not None else []
        if faults:
            raise UnreadableText("is refused:\n" + "\n".join(f"  {fault}" for fault in faults))
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UnreadableText(f"is not YAML: {error}") from error
    except RecursionError as error:
        raise UnreadableText("is nested too deeply: a recipe has some five levels") from error


def _faults(node: Node, key: str, seen: set[Node]) -> Iterator[str]:
    """Keys that stand twice, numbers that YAML reads in another base, and text that no file and no record can hold."""
    if node in seen:  # an alias
        return
    seen.add(node)
    if isinstance(node, ScalarNode):
        if node.tag == "tag:yaml.org,2002:int" and OTHER_BASE.fullmatch(node.value):
            yield (
                f"{_place(key, node)}: YAML reads {node.value} as an octal or sexagesimal number; write it without "
                "leading zeros and colons, or quote it"
            )
        try:
            node.value.encode()
        except UnicodeEncodeError:
            yield f"{_place(key, node)}: half of a surrogate pair, which is not a character; remove it"
        if "\0" in node.value:
            yield f"{_place(key, node)}: a NUL character; remove it"
    elif isinstance(node, SequenceNode):
        for place, item in enumerate(node.value):
            yield from _faults(item, f"{key}.{place}".lstrip("."), seen)
    elif isinstance(node, MappingNode):
        lines: dict[str, int] = {}
        for name, value in node.value:
            inner = f"{key}.{name.value}".lstrip(".")
            if isinstance(name, ScalarNode) and name.value != "<<":
                if name.value in lines:
                    yield (
                        f"{inner}: stands twice, in lines {lines[name.value]} and {_line(name)}, and only one can "
                        "count; remove the other"
                    )
                lines[name.value] = _line(name)
            yield from _faults(value, inner, seen)


def _place(key: str, node: Node) -> str:
    return f"{key}: line {_line(node)}".lstrip(": ")


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1
