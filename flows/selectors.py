"""Selectors of stages, as dbt has them: `rl`, `rl+`, `+rl`, `long2short/*`, `state:modified+`.

Spaces and repeated options join what selectors match; commas leave what all of them match.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence, Set
from fnmatch import fnmatchcase

from infra.errors import LonghaulError

MODIFIED = "state:modified"
"""Stages whose own settings, code, data, seed or packages are not those of an earlier run."""


class SelectionRefused(LonghaulError, ValueError):
    """The options name no stages that can be run; the message says which there are."""


def select(
    selectors: Sequence[str], before: Mapping[str, Set[str]], modified: Callable[[], tuple[Set[str], str]]
) -> set[str]:
    """The stages that selectors match.

    Args:
        before: for each stage of the chain, all that it depends on, directly or not.
        modified: for `state:modified`, the stages and the run that they were compared with.

    Raises SelectionRefused for a selector that matches nothing, with the nearest names.
    """
    words = [word for selector in selectors for word in selector.split()]
    if not words:
        raise SelectionRefused(f"--select names no stage; there are {', '.join(before)}")
    return set[str]().union(*(_all_of(word, before, modified) for word in words))


def _all_of(word: str, before: Mapping[str, Set[str]], modified: Callable[[], tuple[Set[str], str]]) -> set[str]:
    parts = [_one(part, before, modified) for part in word.split(",")]
    matches = parts[0].intersection(*parts[1:])
    if not matches:
        raise SelectionRefused(f"--select {word}: no stage is matched by each of its parts")
    return matches


def _one(text: str, before: Mapping[str, Set[str]], modified: Callable[[], tuple[Set[str], str]]) -> set[str]:
    name = text.removeprefix("+").removesuffix("+")
    if name == MODIFIED:
        stages, run = modified()
        if not stages:
            raise SelectionRefused(f"--select {text} matches no stage: nothing has changed since run {run}")
        matches = set(stages)
    else:
        matches = {stage for stage in before if stage == name or fnmatchcase(stage, name)}
    if not matches:
        near = difflib.get_close_matches(name, [*before, MODIFIED], 3, 0.5)
        hint = f"near it are {', '.join(near)}" if near else f"there are {', '.join(before)}"
        raise SelectionRefused(
            f"--select {text} matches no stage of this recipe; {hint}. A selector is a stage, +STAGE (with all before "
            f"it), STAGE+ (with all that depends on it) or {MODIFIED}"
        )
    earlier = set[str]().union(*(before[stage] for stage in matches)) if text.startswith("+") else set()
    later = {stage for stage in before if before[stage] & matches} if text.endswith("+") else set()
    return matches | earlier | later
