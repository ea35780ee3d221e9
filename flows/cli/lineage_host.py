"""What `longhaul lineage serve` hands to the page: how runs compare with today's code, configuration and data."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.lineage.rows import RunDetail
    from infra.lineage.web.host import ChainStatus, Host
    from infra.store.store import Store

FRESH_SECONDS = 60.0
"""A comparison that is older is made again when someone looks."""

MAX_RUNS = 64
"""Runs whose comparisons are remembered."""


def page_host(store: "Store", allow_actions: bool = False) -> "Host":
    """All that the page can be handed; actions only where they are allowed."""
    from flows.cli.lineage_actions import page_actions, schedules
    from infra.lineage.web.host import Host
    from steps.behaviours import BEHAVIOURS

    return Host(
        behaviours={name: pattern.pattern for name, pattern in BEHAVIOURS.items()},
        staleness=BackgroundStaleness(StoreStaleness(store)),
        schedules=schedules,
        actions=page_actions(store) if allow_actions else None,
    )


class StoreStaleness:
    """Compares the runs of a store with today's plans. It takes seconds."""

    def __init__(self, store: "Store") -> None:
        from flows.staleness import StalenessCheck

        self._check = StalenessCheck(store)

    def __call__(self, detail: "RunDetail") -> "ChainStatus":
        from infra.lineage.web.host import ChainStatus, StageStatus

        each = [self._check.of(record) for record in detail.stages]
        stages = {one.stage: StageStatus(one.state, "; ".join(one.reasons), one.command) for one in each}
        computed = datetime.now(UTC).isoformat(timespec="seconds")
        return ChainStatus(stages, self._check.command(detail.row.run) or "", computed)


@dataclass(frozen=True)
class _Answer:
    """A comparison and how long it is valid."""

    status: "ChainStatus"
    until: float


class BackgroundStaleness:
    """Answers at once with the last comparison of a run, which is made in a thread, one at a time.

    NOTE: None while the first one is being made.
    """

    def __init__(self, compare: "Callable[[RunDetail], ChainStatus]", fresh_seconds: float = FRESH_SECONDS) -> None:
        self._compare = compare
        self._fresh_seconds = fresh_seconds
        self._lock = threading.Lock()
        self._answers: OrderedDict[tuple[str, int], _Answer] = OrderedDict()
        self._thread: threading.Thread | None = None

    def __call__(self, detail: "RunDetail") -> "ChainStatus | None":
        name = (detail.row.run, len(detail.stages))
        with self._lock:
            answer = self._answers.get(name)
            old = answer is None or answer.until < time.monotonic()
            if old and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._make, args=(name, detail), name="staleness", daemon=True)
                self._thread.start()
        return answer.status if answer else None

    def _make(self, name: tuple[str, int], detail: "RunDetail") -> None:
        from infra.lineage.web.host import ChainStatus

        try:
            status = self._compare(detail)
        except Exception as error:  # without an answer the page would wait for one for ever
            computed = datetime.now(UTC).isoformat(timespec="seconds")
            status = ChainStatus({}, "", computed, f"it failed with {type(error).__name__}: {error}")
        with self._lock:
            self._answers[name] = _Answer(status, time.monotonic() + self._fresh_seconds)
            self._answers.move_to_end(name)
            while len(self._answers) > MAX_RUNS:
                self._answers.popitem(last=False)
