"""A configuration as YAML that can be folded and searched, and as a file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

_PLAIN = re.compile(r"[A-Za-z_/][\w./-]*")
"""Texts that YAML writes as they are, apart from RESERVED."""

_RESERVED = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


@dataclass(frozen=True)
class ConfigNode:
    """A key, with a value or with keys below it."""

    name: str
    value: str
    """In YAML's flow style; empty where there are keys below."""
    children: Sequence["ConfigNode"] = ()

    @property
    def settings(self) -> int:
        """Values below it."""
        return sum(child.settings for child in self.children) if self.children else 1


def config_tree(config: Mapping[str, Any], search: str = "") -> list[ConfigNode]:
    """The keys of a configuration; only those whose dotted path or value has every word of `search`."""
    return list(_nodes(config, "", search.casefold().split()))


def _nodes(config: Mapping[str, Any], prefix: str, words: Sequence[str]) -> "list[ConfigNode]":
    nodes = []
    for name, value in config.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            if children := _nodes(value, f"{path}.", words):
                nodes.append(ConfigNode(in_flow(str(name)), "", children))
            continue
        text = in_flow(value)
        searched = f"{path} {text}".casefold()
        if all(word in searched for word in words):
            nodes.append(ConfigNode(in_flow(str(name)), text))
    return nodes


def in_flow(value: Any) -> str:
    """A value in YAML's flow style, in one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.casefold() not in _RESERVED:
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True).removesuffix("...\n").strip()


def as_yaml(config: Mapping[str, Any]) -> str:
    """A configuration as a YAML file; characters outside ASCII are escaped."""
    return yaml.safe_dump(dict(config), sort_keys=False, width=120)
