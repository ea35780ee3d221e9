"""Whether new models come: a schedule that fails reports itself, one that silently makes nothing new does not."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from infra.lineage.rows import ModelRow


@dataclass(frozen=True)
class Freshness:
    """How old the newest model is."""

    model: ModelRow | None
    """None where there is none."""
    age: timedelta | None
    """Since the stage that first made it started; None where there is no model, or its record has no time."""
    limit: timedelta
    stage: str | None = None
    """The stage whose models count; None where those of all do."""

    @property
    def passed(self) -> bool:
        """Whether the newest model is young enough."""
        return self.age is not None and self.age <= self.limit

    @property
    def summary(self) -> str:
        """In a line."""
        limit = f"{self.limit / timedelta(days=1):g} days"
        if self.model is None:
            of = f" of stage {self.stage!r}" if self.stage else ""
            return f"there is no model{of}, and a new one is expected every {limit}"
        made = f"{self.model.digest[:12]} ({self.model.stage} of run {self.model.run})"
        if self.age is None:
            return f"when the newest model {made} was made is unknown, and a new one is expected every {limit}"
        days = f"{self.age / timedelta(days=1):.1f} days"
        if self.passed:
            return f"the newest model {made} is {days} old, and a new one is expected every {limit}"
        return f"no new model for {days}: the newest is {made}, and a new one is expected every {limit}"


def check_freshness(models: Iterable[ModelRow], limit: timedelta, stage: str | None, now: datetime) -> Freshness:
    """Whether a model was made that was not there before, within a time.

    Args:
        models: newest first.
        stage: the one whose models count; default: all but imported ones.
        now: with a time zone.
    """
    for row in models:
        if row.stage is not None and (row.stage == stage if stage else row.stage != "import"):
            return Freshness(row, _age(row.started, now), limit, stage)
    return Freshness(None, None, limit, stage)


def _age(started: str | None, now: datetime) -> timedelta | None:
    try:
        began = datetime.fromisoformat(started or "")
    except ValueError:
        return None
    return now - (began if began.tzinfo else began.replace(tzinfo=UTC))
