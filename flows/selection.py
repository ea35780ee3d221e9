"""Which stages of the chain a run is about: --from, --only, --until, --reuse, --force."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from infra.errors import LonghaulError
from infra.store.record_log import NAME


class SelectionRefused(LonghaulError, ValueError):
    """The options name no stages that can be run; the message says which there are."""


@dataclass(frozen=True)
class Selection:
    """A part of the chain. What is not in it is not run: its outputs are reused, or else it is left out."""

    start: str | None = None
    """The first stage; with it come those that depend on it."""
    only: str | None = None
    """The one stage."""
    until: str | None = None
    """The last stage; with it come those that it depends on."""
    reuse: str | None = None
    """The run whose outputs stand in for the stages that are not selected, whatever their keys are now."""
    force: bool = False
    """Run the selected stages also where their outputs could be reused."""

    def __post_init__(self) -> None:
        if self.only and (self.start or self.until):
            raise SelectionRefused("--only cannot go with --from or --until: it is one stage by itself")
        if self.reuse is not None and not NAME.fullmatch(self.reuse):
            raise SelectionRefused(
                f"--reuse {self.reuse!r} is not a run's name (letters, digits and ._=-): `longhaul runs` lists the runs"
            )
        if self.reuse and not (self.only or self.start):
            raise SelectionRefused("--reuse needs --from or --only: it stands in for the stages before that one")

    @property
    def options(self) -> str:
        """The options of the command line that make this selection."""
        named = {"--only": self.only, "--from": self.start, "--until": self.until}
        return " ".join(f"{option} {stage}" for option, stage in named.items() if stage) or "all stages"

    def choose(self, before: Mapping[str, Set[str]], evaluations: Mapping[str, str]) -> set[str]:
        """The stages to run.

        Args:
            before: for each stage of the chain, all that it depends on, directly or not.
            evaluations: by stage, the one that evaluates its model: it is run with the stage.

        Raises SelectionRefused for a stage that the chain does not have, and where none is left.
        """
        for stage in (self.only, self.start, self.until):
            if stage is not None and stage not in before:
                raise SelectionRefused(f"there is no stage {stage!r} in this recipe; there are {', '.join(before)}")
        chosen = {self.only} if self.only else set(before)
        if self.start:
            chosen &= {stage for stage in before if stage == self.start or self.start in before[stage]}
        if self.until:
            made = {self.until, *before[self.until]}
            made |= {evaluations[stage] for stage in made if stage in evaluations}
            chosen &= made.union(*(before[stage] for stage in made))
        if not chosen:
            raise SelectionRefused(f"no stage lies between --from {self.start} and --until {self.until}")
        return chosen | {evaluations[stage] for stage in chosen if stage in evaluations}
