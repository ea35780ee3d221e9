"""When a recipe is run without anyone asking: one definition, for a machine's own scheduler and for a cluster's.

Light to import: every recipe is read with it.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from infra.scheduling.cron import Cron, Interval

LOOKS = "*/10 * * * *"
"""When data are looked at, where the schedule does not say."""


class ScheduleConfig(BaseModel):
    """When, what and on which condition."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cron: str = Field(
        "",
        description="Minute, hour, day of month, month, day of week (0 is Sunday), as in '0 3 * * 1', or @daily, "
        "@every 12h and the like, by the rules of robfig/cron, as on Argo; with `when: data-changed` the times to look "
        "at the data, every ten minutes if not given.",
    )
    timezone: str = Field("UTC", description="The clock that `cron` goes by, as in Europe/Berlin.")
    what: Literal["full", "evaluate", "rl"] = Field(
        "full",
        description="full: the whole chain. rl: RL and what it needs, without long2short. evaluate: the newest model, "
        "compared with the tagged one. Of the chain, what a plan calls `reuse` is used again.",
    )
    when: Literal["always", "data-changed"] = Field(
        "always", description="data-changed: only if the data are not what they were at the run before."
    )
    overlap: Literal["skip", "queue", "replace"] = Field(
        "skip",
        description="What happens at a time that comes while the schedule's own run is on. skip: nothing. queue: one "
        "more run follows it. replace: that run is ended, and a new one starts.",
    )
    grace_s: float = Field(
        3600, gt=0, description="How late a run may start, in seconds: one that was missed by more is left out."
    )

    @property
    def times(self) -> Cron | Interval:
        """The times, parsed."""
        return Cron.parse(self.cron)

    def upcoming(self, handled_until: datetime, now: datetime) -> Iterator[datetime]:
        """Times to come, in UTC; those from `handled_until` to `now`, which are one run that is due, are left out."""
        time = self.times.next(self.timezone, handled_until)
        if time is not None and time < now:
            time = self.times.next(self.timezone, now)
        while time is not None:
            yield time
            time = self.times.next(self.timezone, time)

    @field_validator("cron")
    @classmethod
    def _can_be_read(cls, value: str) -> str:
        if value:
            Cron.parse(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"{value!r} is not a time zone that this machine knows: expected a name like Europe/Berlin or UTC. "
                "Where the machine has no list of zones, `pip install tzdata` brings one"
            ) from error
        return value

    @model_validator(mode="before")
    @classmethod
    def _looks_often_enough(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("when") == "data-changed" and not values.get("cron"):
            return {**values, "cron": LOOKS}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> "ScheduleConfig":
        if not self.cron:
            raise ValueError("give `cron`, as in cron: '0 3 * * 1', or `when: data-changed`")
        if self.when == "data-changed" and self.what == "evaluate":
            raise ValueError("when: data-changed goes with what: full or rl, for evaluating reads no new data")
        return self
