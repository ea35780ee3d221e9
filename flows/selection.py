"""Which stages of the chain a run is about: --select, --from, --only, --until, --reuse, --fork, --force."""

from dataclasses import dataclass

from flows.forks import parse_fork
from flows.stage_selectors import MODIFIED, SelectionRefused, Stages
from infra.store.record_log import NAME


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
    selectors: tuple[str, ...] = ()
    """Of flows/stage_selectors.py, instead of the three above."""
    against: str | None = None
    """The run that `state:modified` compares with; default: the newest."""
    fork: str | None = None
    """The iteration, RUN:STAGE@N, from which a stage continues (flows/forks.py)."""

    def __post_init__(self) -> None:
        named = [option for option, stage in self._named.items() if stage]
        if self.selectors and named:
            raise SelectionRefused(
                f"--select cannot go with {' and '.join(named)}: write STAGE+ for --from, +STAGE for --until, and "
                "STAGE for --only"
            )
        if self.against is not None and not NAME.fullmatch(self.against):
            raise SelectionRefused(f"--against {self.against!r} is not a run's name: `longhaul runs` lists the runs")
        if self.only and (self.start or self.until):
            raise SelectionRefused("--only cannot go with --from or --until: it is one stage by itself")
        if self.reuse is not None and not NAME.fullmatch(self.reuse):
            raise SelectionRefused(
                f"--reuse {self.reuse!r} is not a run's name (letters, digits and ._=-): `longhaul runs` lists the runs"
            )
        if self.reuse and not (self.only or self.start or self.selectors):
            raise SelectionRefused("--reuse needs --from, --only or --select: it stands in for the stages before those")

    @property
    def forked(self) -> str | None:
        """The stage that continues from an iteration of an earlier run. Raises ForkRefused for a name that is none."""
        return parse_fork(self.fork).stage if self.fork else None

    @property
    def _named(self) -> dict[str, str | None]:
        return {"--only": self.only, "--from": self.start, "--until": self.until}

    @property
    def by_state(self) -> bool:
        """Whether it depends on what an earlier run did."""
        return any(MODIFIED in selector for selector in self.selectors)

    @property
    def options(self) -> str:
        """The options of the command line that make this selection."""
        if self.selectors:
            return " ".join(f"--select {selector}" for selector in self.selectors)
        return " ".join(f"{option} {stage}" for option, stage in self._named.items() if stage) or "all stages"

    def choose(self, stages: Stages) -> set[str]:
        """The stages to run.

        Raises SelectionRefused for a stage that the chain does not have, where none is left, and where the one that
        continues from an earlier run is not among them.
        """
        chosen = stages.select(self.selectors) if self.selectors else self._choose_named(stages)
        if self.forked is not None and self.forked not in chosen:
            raise SelectionRefused(
                f"--fork {self.fork}: {self.forked} is not among the stages to run ({self.options}); say --only "
                f"{self.forked}, or --from {self.forked} with what depends on it"
            )
        return chosen

    def _choose_named(self, stages: Stages) -> set[str]:
        """By --only, --from and --until."""
        before = stages.before
        for stage in (self.only, self.start, self.until):
            if stage is not None and stage not in before:
                raise SelectionRefused(f"there is no stage {stage!r} in this recipe; there are {', '.join(before)}")
        chosen = {self.only} if self.only else set(before)
        if self.start:
            chosen &= {stage for stage in before if stage == self.start or self.start in before[stage]}
        if self.until:
            chosen &= stages.up_to({self.until})
        if not chosen:
            raise SelectionRefused(f"no stage lies between --from {self.start} and --until {self.until}")
        return chosen | stages.evaluations_of(chosen)
