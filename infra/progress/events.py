"""What work reports of its progress, as one event after another.

Invariant: an Event's texts are single lines without control characters, whoever made it. They may hold what a model
wrote, and are never read as markup.
"""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

TEXT_CHARACTERS = 500

# C0 and C1 controls, marks that turn the direction of writing, and halves of surrogate pairs, which no file can hold.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


class Event(BaseModel):
    """State of one stage or task at one time, or a message. A line of the progress file is one event."""

    model_config = ConfigDict(frozen=True)

    time: float
    """Seconds since 1970."""
    kind: Literal["stage", "stage_done", "task", "update", "task_done", "say"]
    """`stage` and `task` start one; `update` is a task's; `say` carries a message in `note`."""
    stage: str = ""
    task: str = ""
    done: float = 0
    total: float | None = None
    unit: str = ""
    note: str = ""
    failed: bool = False

    @field_validator("stage", "task", "unit", "note", mode="before")
    @classmethod
    def _printable(cls, text: object) -> object:
        return _UNPRINTABLE.sub(" ", text)[:TEXT_CHARACTERS] if isinstance(text, str) else text

    @property
    def key(self) -> tuple[str, str]:
        """What the event is about; a stage itself has no task."""
        return self.stage, self.task
