"""What the page needs of whoever serves it: all that is above this layer, such as the chain, is handed in here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from infra.lineage.rows import RunDetail


@dataclass(frozen=True)
class StageStatus:
    """Whether a stage of a run is what today's code, configuration and data would make."""

    state: Literal["current", "stale", "unknown"]
    """`unknown`: there is no plan, or it does not have the stage."""
    reason: str
    """Why, as a plan says it."""
    command: str | None = None
    """What brings the stage up to date, to be copied into a shell."""


@dataclass(frozen=True)
class ChainStatus:
    """A run's stages beside a plan of its recipe as it is now."""

    stages: Mapping[str, StageStatus]
    command: str
    """What brings all of it up to date, to be copied into a shell; empty where there is none."""
    computed: str
    """When (UTC, ISO 8601)."""
    problem: str = ""
    """Why there is no comparison; the stages are empty then."""

    @property
    def stale(self) -> Sequence[str]:
        """The stages that are stale."""
        return [stage for stage, status in self.stages.items() if status.state == "stale"]


Staleness = Callable[[RunDetail], ChainStatus | None]
"""Compares a run with today. It answers at once: None while the comparison is being made."""


@dataclass(frozen=True)
class ScheduleEntry:
    """Something that a schedule did."""

    time: str
    """UTC, ISO 8601."""
    event: str
    reason: str = ""
    run: str | None = None
    """The run that it started, where its name is known."""
    seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class ScheduleStatus:
    """A schedule, and what comes next."""

    name: str
    what: str
    """Which part of the chain, and on which condition."""
    cron: str
    timezone: str
    state: Literal["running", "interrupted", "paused", "requested", "waiting"]
    """`interrupted`: its run ended with its scheduler, and the next scheduler resumes it."""
    next: Sequence[str]
    """The next times by the schedule's clock, with their offset from UTC; none where it is paused."""
    history: Sequence[ScheduleEntry] = ()
    """Newest first."""


@dataclass(frozen=True)
class Schedules:
    """The schedules of the machine that serves the page."""

    schedules: Sequence[ScheduleStatus]
    scheduler_runs: bool
    problem: str = ""
    """Why they cannot be read."""


ActionKind = Literal["rerun", "stop", "trigger", "pause", "resume", "tag"]


@dataclass(frozen=True)
class Action:
    """Something that a visitor asks to be done.

    NOTE: its texts come from a visitor's request. Whoever performs it checks them, and hands them to no shell.
    """

    kind: ActionKind
    target: str
    """The run (rerun, stop), the schedule (trigger, pause, resume) or the model's digest (tag)."""
    detail: str = ""
    """The stage to begin from (rerun), or the tag (tag)."""
    reason: str = ""
    """Why, for the tag's history."""


@dataclass(frozen=True)
class ActionResult:
    """What came of an action."""

    done: bool
    message: str


@dataclass(frozen=True)
class Actions:
    """What visitors with the token may have done."""

    command: Callable[[Action], str]
    """The command that does the same, for the confirmation. Raises ValueError, for people, where it cannot be done."""
    perform: Callable[[Action], ActionResult]
    """Does it. It may take seconds. Raises ValueError as `command` does."""


@dataclass(frozen=True)
class Host:
    """What is known where the server is started. Without any of it, the pages leave out what they cannot say."""

    behaviours: Mapping[str, str] = field(default_factory=dict)
    """By name of a behaviour of responses, the regular expression (RE2's syntax) that finds it, whatever the case."""
    staleness: Staleness | None = None
    schedules: Callable[[], Schedules] | None = None
    actions: Actions | None = None
    """None where nothing may be done from the page, as by default."""
