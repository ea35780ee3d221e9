"""Changing single keys of a configuration from the command line: `--set rl.tau=0.2`."""

import copy
from collections.abc import Iterable
from typing import Any

import yaml

from steps.recipe import ConfigRefused


def apply_overrides(raw: dict[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """A copy of a configuration in which each KEY=VALUE is set; values are read as YAML.

    Raises ConfigRefused for a setting without '=' or a key whose section does not exist. Whether the key itself exists
    is for the recipe's own check to say.
    """
    changed = copy.deepcopy(raw)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigRefused(f"--set {setting}: expected KEY=VALUE")
        *sections, last = key.split(".")
        place: Any = changed
        for section in sections:
            place = _inside(place, section, key)
        value = yaml.safe_load(text)
        if isinstance(place, list):
            place[_index(place, last, key)] = value
        elif isinstance(place, dict):
            place[last] = value
        else:
            raise ConfigRefused(f"--set {key}: {'.'.join(sections)} is a single value, not a section")
    return changed


def _inside(place: Any, section: str, key: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, section, key)]
    if not isinstance(place, dict) or place.get(section) is None:
        raise ConfigRefused(f"--set {key}: there is no section {section!r}")
    return place[section]


def _index(place: list[Any], text: str, key: str) -> int:
    if not text.isdecimal() or int(text) >= len(place):
        raise ConfigRefused(f"--set {key}: {text!r} is no index of a list of {len(place)}, counted from 0")
    return int(text)
