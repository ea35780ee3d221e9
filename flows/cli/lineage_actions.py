"""What the lineage page may do where `longhaul lineage serve --allow-actions` allows it: each action is a command."""

import os
import re
import secrets
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from flows.home import HOME

if TYPE_CHECKING:
    from infra.lineage.web.host import Action, ActionResult, Actions, Schedules
    from infra.scheduling.state import ScheduleState
    from infra.store.store import Store

LONGHAUL = (sys.executable, "-m", "flows.cli")
COMMAND_SECONDS = 240.0
"""How long a command may take that is waited for: `longhaul stop` waits for a run's end."""

EARLY_SECONDS = 2.0
"""A run that ends before that was refused; later, its own record says how it went."""

TIMES = 5
"""Next times of a schedule that the page lists."""

MAX_HISTORY = 50

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TAG = re.compile(r"[a-z][a-z0-9-]{0,62}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=/-]*")
"""Names of runs, schedules and stages: none that a command could take for an option."""


def page_actions(store: "Store") -> "Actions":
    """The actions on the runs, models and schedules of a store and of this machine."""
    from infra.lineage.web.host import Actions

    commands = Commands(store)
    return Actions(commands.text, commands.perform)


class Commands:
    """Performs actions by commands, each in a process of its own and without a shell."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._lock = threading.Lock()
        self._runs: dict[tuple[str, ...], subprocess.Popen[bytes]] = {}
        """Runs that were started here, by their arguments."""

    def text(self, action: "Action") -> str:
        """The command for a shell. Raises ValueError where there is none."""
        return f"longhaul {shlex.join(self._arguments(action))}"

    def perform(self, action: "Action") -> "ActionResult":
        """Do it. Raises ValueError where that cannot be."""
        arguments = self._arguments(action)
        return self._start(arguments) if action.kind == "rerun" else _run(arguments)

    def _arguments(self, action: "Action") -> list[str]:
        if not _NAME.fullmatch(action.target) or (action.detail and not _NAME.fullmatch(action.detail)):
            raise ValueError(f"{action.target!r} is not a name that a command takes")
        if action.kind == "stop":
            return ["stop", action.target]
        if action.kind == "rerun":
            return self._rerun(action.target, action.detail)
        if action.kind != "tag":
            return ["schedule", action.kind, action.target]
        if not _DIGEST.fullmatch(action.target) or not _TAG.fullmatch(action.detail):
            raise ValueError(f"expected a model's digest and a tag, not {action.target!r} and {action.detail!r}")
        # With an equals sign: a reason that begins with a dash is a reason.
        reason = [f"--reason={action.reason}"] if action.reason else []
        return ["tag", action.target, action.detail, f"--store={self._store.backend.address}", *reason]

    def _rerun(self, run: str, stage: str) -> list[str]:
        from flows.staleness import StalenessCheck

        command = StalenessCheck(self._store).command(run)
        if command is None:
            raise ValueError(f"nothing runs {run} again: its recipe's file is not on this machine")
        arguments = shlex.split(command)[1:]
        if any(option in arguments for option in ("--from", "--only", "--until", "--reuse", "--fork")):
            raise ValueError(f"run {run} took outputs from another one: run it again in a terminal ({command})")
        return [*arguments, "--from", stage]

    def _start(self, arguments: Sequence[str]) -> "ActionResult":
        """Start a run that lives on without this server."""
        from infra.lineage.web.host import ActionResult

        # Random, so that two runs that are started within a second have a log each.
        log = HOME / "page" / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}.log"
        with self._lock:
            before = self._runs.get(tuple(arguments))
            if before is not None and before.poll() is None:
                raise ValueError("the same was started here before, and is running")
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [*LONGHAUL, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=_variables(),
                )
            self._runs[tuple(arguments)] = process
        try:
            status = process.wait(EARLY_SECONDS)
        except subprocess.TimeoutExpired:
            return ActionResult(True, f"It was started, and appears among the runs in a moment. Its output is in {log}")
        return ActionResult(status == 0, _end_of(log) or f"it ended with {status}")


def _run(arguments: Sequence[str]) -> "ActionResult":
    from infra.lineage.web.host import ActionResult

    try:
        done = subprocess.run(
            [*LONGHAUL, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=COMMAND_SECONDS,
            env=_variables(),
        )
    except subprocess.TimeoutExpired:
        return ActionResult(False, f"longhaul {shlex.join(arguments)} did not end within {COMMAND_SECONDS:.0f} s")
    return ActionResult(done.returncode == 0, done.stdout.strip() or f"it ended with {done.returncode}")


def _variables() -> dict[str, str]:
    """This process's environment without the page's token: with it, a recipe's own code could act on the page."""
    from infra.lineage.web.server import TOKEN_VARIABLE

    return {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").strip().splitlines()[-20:])


def schedules() -> "Schedules":
    """The schedules of this machine."""
    from infra.lineage.web.host import ScheduleEntry, Schedules, ScheduleStatus
    from infra.scheduling.state import ScheduleError, ScheduleFolder

    folder = ScheduleFolder(Path(os.path.abspath(HOME)) / "schedule")
    try:
        states, history = folder.read(), folder.history()
        at = folder.states() if states else {}
        runs = bool(states) and folder.scheduler_is_running()
    except (ScheduleError, OSError) as error:
        return Schedules([], False, str(error))
    made = []
    for name, state in states.items():
        entries = [entry for entry in reversed(history) if entry.schedule == name][:MAX_HISTORY]
        what = state.schedule.what + (", if data changed" if state.schedule.when == "data-changed" else "")
        made.append(
            ScheduleStatus(
                name,
                what,
                state.schedule.cron,
                state.schedule.timezone,
                at.get(name, "waiting"),
                _next_times(state),
                [
                    ScheduleEntry(
                        entry.time.isoformat(timespec="seconds"),
                        entry.event,
                        entry.reason,
                        entry.run,
                        entry.seconds,
                        entry.error,
                    )
                    for entry in entries
                ],
            )
        )
    return Schedules(made, runs)


def _next_times(state: "ScheduleState") -> list[str]:
    """The next times by the schedule's clock; none where it is paused."""
    if state.paused:
        return []
    zone = ZoneInfo(state.schedule.timezone)
    times = islice(state.schedule.upcoming(state.handled_until, datetime.now(UTC)), TIMES)
    return [f"{time.astimezone(zone):%a %Y-%m-%d %H:%M %z}" for time in times]
