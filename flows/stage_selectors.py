"""Selectors of stages, as dbt has them: `rl`, `rl+`, `+rl`, `long2short/*`, `state:modified+`.

Spaces and repeated options join what selectors match; commas leave what all of them match.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from fnmatch import fnmatchcase

from infra.errors import LonghaulError

MODIFIED = "state:modified"
"""Stages whose own settings, code, data, seed or packages are not those of an earlier run."""


class SelectionRefused(LonghaulError, ValueError):
    """The options name no stages that can be run; the message says which there are."""


@dataclass(frozen=True)
class Stages:
    """What selectors choose from."""

    before: Mapping[str, Set[str]]
    """For each stage of the chain, all that it depends on, directly or not."""
    evaluations: Mapping[str, str]
    """By stage, the one that evaluates its model: it is run with the stage."""
    modified: Callable[[], tuple[Set[str], str]]
    """For `state:modified`, the stages and the run that they were compared with."""

    def select(self, selectors: Sequence[str]) -> set[str]:
        """The stages that selectors match. Raises SelectionRefused for one that matches nothing, with the nearest
        names."""
        words = [word for selector in selectors for word in selector.split()]
        if not words:
            raise SelectionRefused(f"--select names no stage; there are {', '.join(self.before)}")
        chosen = set[str]().union(*(self._all_of(word) for word in words))
        return chosen | self.evaluations_of(chosen)

    def evaluations_of(self, stages: Set[str]) -> set[str]:
        """The evaluations of the models that stages make."""
        return {self.evaluations[stage] for stage in stages if stage in self.evaluations}

    def up_to(self, stages: Set[str]) -> set[str]:
        """Stages with all that they depend on, and with what the evaluations of these depend on."""
        made = set(stages).union(*(self.before[stage] for stage in stages))
        made |= self.evaluations_of(made)
        return made.union(*(self.before[stage] for stage in made))

    def _all_of(self, word: str) -> set[str]:
        parts = [self._one(part) for part in word.split(",")]
        matches = parts[0].intersection(*parts[1:])
        if not matches:
            raise SelectionRefused(f"--select {word}: no stage is matched by each of its parts")
        return matches

    def _one(self, text: str) -> set[str]:
        name = text.removeprefix("+").removesuffix("+")
        if name == MODIFIED:
            stages, run = self.modified()
            if not stages:
                raise SelectionRefused(f"--select {text} matches no stage: nothing has changed since run {run}")
            matches = set(stages)
        else:
            matches = {stage for stage in self.before if stage == name or fnmatchcase(stage, name)}
        if not matches:
            near = difflib.get_close_matches(name, [*self.before, MODIFIED], 3, 0.5)
            hint = f"near it are {', '.join(near)}" if near else f"there are {', '.join(self.before)}"
            raise SelectionRefused(
                f"--select {text} matches no stage of this recipe; {hint}. A selector is a stage, +STAGE (with all "
                f"before it), STAGE+ (with all that depends on it) or {MODIFIED}"
            )
        later = {stage for stage in self.before if self.before[stage] & matches} if text.endswith("+") else set()
        return matches | later | (self.up_to(matches) if text.startswith("+") else set())
