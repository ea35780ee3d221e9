"""Changing single keys of a configuration from the command line: `--set rl.tau=0.2`."""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from steps.recipe import ConfigRefused, Recipe, check_recipe, load_recipe
from steps.recipe_text import UnreadableText, load_value

QUOTED = 80
"""Characters of a value that a message quotes."""


def load_with_overrides(path: str, settings: Iterable[str]) -> Recipe:
    """The recipe in a file, with single keys changed. Raises ConfigRefused."""
    return check_recipe(apply_overrides(load_recipe(Path(path)).model_dump(mode="json"), settings), path)


def apply_overrides(raw: dict[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """A copy of a configuration in which each KEY=VALUE is set; values are read as YAML.

    Raises ConfigRefused for a setting without '=', for a key whose section does not exist, and for a value that is not
    YAML. Whether the key itself exists is for the recipe's own check to say.
    """
    changed = copy.deepcopy(raw)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise ConfigRefused(f"--set {setting}: expected KEY=VALUE, as in rl.tau=0.2")
        *sections, last = key.split(".")
        place: Any = changed
        for section in sections:
            place = _inside(place, section, key)
        value = _parse(key, text)
        if isinstance(place, list):
            place[_index(place, last, key)] = value
        elif isinstance(place, dict):
            place[last] = value
        else:
            raise ConfigRefused(f"--set {key}: {'.'.join(sections)} is a single value, not a section")
    return changed


def _parse(key: str, text: str) -> Any:
    try:
        return load_value(text)
    except UnreadableText as error:
        quoted = text if len(text) <= QUOTED else f"{text[:QUOTED]}…"
        raise ConfigRefused(f"--set {key}={quoted} {' '.join(str(error).split())}") from error


def _inside(place: Any, section: str, key: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, section, key)]
    if not isinstance(place, dict) or place.get(section) is None:
        raise ConfigRefused(f"--set {key}: there is no section {section!r}")
    return place[section]


def _index(place: list[Any], text: str, key: str) -> int:
    # int() takes digits of other scripts too, which isascii keeps out, and refuses thousands of them.
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) >= len(place):
        raise ConfigRefused(f"--set {key}: {text!r} is not an index of a list of {len(place)}, counted from 0")
    return int(text)
