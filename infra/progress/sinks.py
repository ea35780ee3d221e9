"""What shows or keeps the events of progress. One sink takes them all, chosen by `choose_sink`:

- LONGHAUL_PROGRESS names a file: events are appended as JSON lines, for another process's infra.progress.view.
- Standard error is an interactive terminal: bars with rate and time left.
- Otherwise: plain lines, at most one every 5 s for each task, and one at its end.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TextIO, cast

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as Bar
from rich.text import Text

from infra.errors import LonghaulError
from infra.progress.events import Event
from infra.progress.logs import terminal

VARIABLE = "LONGHAUL_PROGRESS"
PLAIN_INTERVAL = 5.0
FILE_INTERVAL = 0.2
FINISHED_BARS = 4


class ProgressMisconfigured(LonghaulError, ValueError):
    """LONGHAUL_PROGRESS names a file that cannot be written."""


class Sink(Protocol):
    """Takes events, one at a time."""

    def handle(self, event: Event) -> None:
        """Show or keep one event."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class PlainSink:
    """Plain lines, seldom enough for a log file."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._began: dict[tuple[str, str], float] = {}
        self._printed: dict[tuple[str, str], float] = {}

    def handle(self, event: Event) -> None:
        """Print the event's line, unless the task's last one is less than 5 s old."""
        if event.kind in ("stage", "task"):
            self._began[event.key] = self._printed[event.key] = event.time
        began = self._began.setdefault(event.key, event.time)
        if event.kind == "say":
            self._print(event.note)
        elif event.kind == "stage":
            self._print(event.stage)
        elif event.kind == "update":
            # A clock that is set back must not silence the task until it has caught up.
            if abs(event.time - self._printed.setdefault(event.key, event.time)) >= PLAIN_INTERVAL:
                self._printed[event.key] = event.time
                self._print(_line(event, began))
        elif event.kind != "task":
            self._print(_line(event, began))

    def close(self) -> None:
        """Nothing to leave behind."""

    def _print(self, text: str) -> None:
        encoding = self._out.encoding or "utf-8"
        self._out.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        self._out.flush()


class FileSink:
    """JSON lines for a process that reads along: up to five a second for each task, and always its first and last.

    The file is opened for each line, so that events still arrive after it was moved away.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: dict[tuple[str, str], float] = {}

    def handle(self, event: Event) -> None:
        """Append the event, unless it updates a task whose last line is less than 0.2 s old."""
        now = time.monotonic()
        if event.kind == "update" and now - self._written.get(event.key, -FILE_INTERVAL) < FILE_INTERVAL:
            return
        self._written[event.key] = now
        # One write in append mode: lines of several processes do not mix.
        with self._path.open("ab", buffering=0) as file:
            file.write(event.model_dump_json().encode() + b"\n")

    def close(self) -> None:
        """Nothing is held open."""


class TerminalSink:
    """Bars for the tasks that run and the last few that ended; a line that stays for each message and ended stage."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._began: dict[tuple[str, str], float] = {}
        self._bars = self._no_bars()
        self._rows: dict[tuple[str, str], TaskID] = {}
        self._ended: list[tuple[str, str]] = []

    def handle(self, event: Event) -> None:
        """Redraw what the event changed."""
        if event.kind == "say":
            self._console.print(Text(event.note))
            return
        if event.kind in ("stage", "task"):
            self._remove(event.key)
            self._began[event.key] = event.time
        began = self._began.setdefault(event.key, event.time)
        if self._live is None:
            # Standard output stays as it is: libraries would keep rich's stand-in for it for good.
            self._live = Live(
                get_renderable=self._render, console=self._console, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        if event.task:
            self._update(event)
        elif event.kind == "stage_done":
            self._console.print(Text(_line(event, began), style="red" if event.failed else "green"))
            for key in [key for key in self._rows if key[0] == event.stage]:
                self._remove(key)
                self._began.pop(key, None)
        if event.kind in ("task_done", "stage_done"):
            self._began.pop(event.key, None)
            if not self._began:
                self.close()

    def close(self) -> None:
        """Stop drawing. The bars that are there stay, which shows how far an interrupted task got."""
        if self._live is not None:
            self._live.stop()
        self._live = None
        self._bars = self._no_bars()
        self._began.clear()
        self._rows.clear()
        self._ended.clear()

    def _no_bars(self) -> Progress:
        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", markup=False),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            auto_refresh=False,
        )

    def _render(self) -> Group:
        return Group(*(Text(stage, style="bold") for stage, task in list(self._began) if not task), self._bars)

    def _update(self, event: Event) -> None:
        key = event.key
        if key not in self._rows:
            self._rows[key] = self._bars.add_task(event.task, total=event.total, unit=event.unit, note="")
        self._bars.update(self._rows[key], completed=event.done, total=event.total, note=event.note)
        if event.kind == "task_done":
            self._bars.stop_task(self._rows[key])
            self._ended.append(key)
            for oldest in self._ended[:-FINISHED_BARS]:
                self._remove(oldest)

    def _remove(self, key: tuple[str, str]) -> None:
        if key in self._rows:
            self._bars.remove_task(self._rows.pop(key))
        if key in self._ended:
            self._ended.remove(key)


class _Rate(ProgressColumn):
    def render(self, task: Bar) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.3g}/s")


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _line(event: Event, began: float) -> str:
    seconds = max(0.0, event.time - began)
    if not event.task:
        parts = [f"{event.stage}: {'failed after' if event.failed else 'done in'} {_seconds(seconds)}"]
    else:
        count = f"{event.done:,g}" if event.total is None else f"{event.done:,g}/{event.total:,g}"
        parts = [f"{event.task}: {count} {event.unit}".rstrip()]
        rate = event.done / seconds if seconds else 0.0
        if rate:
            parts.append(f"{rate:,.3g}/s")
        if event.kind == "task_done":
            parts.append(f"{'failed after' if event.failed else 'done in'} {_seconds(seconds)}")
        elif rate and event.total is not None:
            parts.append(f"{_seconds(max(0.0, event.total - event.done) / rate)} left")
    return ", ".join([*parts, event.note] if event.note else parts)


def screen(console: Console) -> Sink:
    """Bars where the console is an interactive terminal, plain lines elsewhere."""
    if console.is_terminal and not console.is_dumb_terminal:
        return TerminalSink(console)
    return PlainSink(cast(TextIO, console.file))


def choose_sink(environment: Mapping[str, str]) -> Sink:
    """The sink for this process. Raises ProgressMisconfigured where LONGHAUL_PROGRESS cannot be written."""
    if name := environment.get(VARIABLE):
        try:
            Path(name).open("ab").close()
        except OSError as error:
            raise ProgressMisconfigured(f"{VARIABLE}={name} cannot be written: {error.strerror}") from error
        return FileSink(Path(name))
    return screen(Console(file=cast(TextIO, terminal)))
