"""`longhaul schedule`: run recipes at their times on this machine, and see to the scheduler that does."""

import hashlib
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.command import Group
from flows.cli.terminal import fail, format_duration, json_option, printable
from flows.home import HOME
from infra.signal_handlers import handling

if TYPE_CHECKING:
    from infra.scheduling.config import ScheduleConfig
    from infra.scheduling.job import Job
    from infra.scheduling.state import ScheduleFolder, ScheduleState
    from steps.recipe import Recipe

DEFAULT_CONFIG = "configs/nano.yaml"
LONGHAUL = (sys.executable, "-m", "flows.cli")
EVENTS = {
    "succeeded": "green",
    "failed": "red",
    "given up": "red",
    "missed": "yellow",
    "interrupted": "yellow",
    "replaced": "yellow",
}

ENDS = ("succeeded", "failed", "interrupted", "replaced", "given up")

config_option = click.option(
    "--config",
    "configs",
    multiple=True,
    default=[DEFAULT_CONFIG],
    show_default=True,
    help="A recipe with a `schedule`.",
)


@click.group(cls=Group)
def schedule() -> None:
    """Run recipes at set times on this machine.

    Each names its times in its section `schedule`.
    """


@schedule.command()
@config_option
def run(configs: tuple[str, ...]) -> None:
    """Run recipes at their times, until stopped.

    Recipes run one at a time. A run that a stop interrupts resumes at the next start. --config may be given several
    times. Files that change are read again.
    """
    from infra.scheduling.scheduler import Scheduler
    from infra.scheduling.state import ScheduleError

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    # The scheduler's own messages say the same in words of the schedule.
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    scheduler = Scheduler(_folder(), Jobs([Path(config) for config in configs]))
    try:
        with handling((signal.SIGTERM, signal.SIGINT), lambda *_: scheduler.stop()):
            scheduler.run()
    except (ValueError, ScheduleError, OSError) as error:
        fail(str(error))


class Jobs:
    """The jobs of recipes' files, read again when they change."""

    def __init__(self, configs: Sequence[Path]) -> None:
        self._configs = [path.resolve() for path in configs]
        self._states: list[tuple[int, int] | None] = []

    def __call__(self) -> "list[Job] | None":
        """The jobs; None where no file changed. Raises ConfigRefused."""
        states = [_file_state(path) for path in self._configs]
        if states == self._states:
            return None
        self._states = states
        return [_job(path) for path in self._configs]


def _file_state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _job(path: Path) -> "Job":
    from flows.notify import report_failure
    from infra.scheduling.job import Job
    from steps.recipe import ConfigRefused, load_recipe

    recipe = load_recipe(path)
    if recipe.schedule is None:
        raise ConfigRefused(f"{path} has no section `schedule`: add one, as in schedule: {{cron: '0 3 * * 1'}}")
    verb, *more = {"full": ["run"], "rl": ["run", "--until", "rl"], "evaluate": ["evaluate"]}[recipe.schedule.what]
    arguments = [verb, "--config", str(path), *more]
    return Job(
        name=recipe.name,
        config=str(path),
        schedule=recipe.schedule,
        command=[*LONGHAUL, *arguments],
        digest=lambda: _digest_of_sources(recipe),
        notify=lambda error, log: report_failure(recipe, None, None, error, arguments, log or None),
    )


def _digest_of_sources(recipe: "Recipe") -> str:
    """The digest of all that stages read from outside the store: data files, and the checkpoint (on the hub, its
    commit). Raises StoreError naming the key of what cannot be read."""
    from flows.topology import STAGES

    cache = HOME / "cache" / "file_digests.json"
    sources = {key: source.digest for spec in STAGES.values() for key, source in spec.sources(recipe, cache).items()}
    return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()


@schedule.command(name="ls")
@json_option
def list_schedules(as_json: bool) -> None:
    """List the schedules of this machine."""
    from infra.scheduling.state import unknown_schedule

    folder = _folder()
    schedules, running, states = _read(folder), folder.scheduler_is_running(), folder.states()
    newest = {one.schedule: one for one in folder.history() if one.event in ENDS}
    if as_json:
        rows = [
            {
                "name": name,
                "state": states.get(name, "waiting"),
                **scheduled.model_dump(mode="json", exclude={"data", "handled_until"}),
                "next": scheduled.next.isoformat() if scheduled.next else None,
                "last": newest[name].model_dump(mode="json", exclude_defaults=True) if name in newest else None,
            }
            for name, scheduled in schedules.items()
        ]
        click.echo(json.dumps({"schedules": rows, "at_work": running}))
        return
    if not schedules:
        click.echo(unknown_schedule(None, schedules))
        return
    caption = "the scheduler is running" if running else "no scheduler is running: start `longhaul schedule run`"
    table = Table(box=box.SIMPLE, pad_edge=False, caption=caption, caption_justify="left")
    for column in ("schedule", "what", "cron", "state", "next", "last"):
        table.add_column(column, no_wrap=column in ("schedule", "state"))
    for name, scheduled in schedules.items():
        last = newest.get(name)
        cells = [
            name,
            scheduled.schedule.what + (", if data changed" if scheduled.schedule.when == "data-changed" else ""),
            f"{scheduled.schedule.cron} {scheduled.schedule.timezone}",
            states.get(name, "waiting"),
            _local(scheduled.next, scheduled.schedule) if scheduled.next else "–",
            f"{last.event}, {_local(last.time, scheduled.schedule)}" if last else "–",
        ]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console().print(table)


@schedule.command(name="next")
@click.argument("name", required=False)
@click.option("--config", "config_path", help="A recipe's file (default: what the scheduler has).")
@click.option("-n", "count", default=5, show_default=True, type=click.IntRange(1, 1000), help="Times to show.")
@json_option
def next_times(name: str | None, config_path: str | None, count: int, as_json: bool) -> None:
    """Show the next times of NAME or of a recipe's file."""
    if config_path is not None:
        job = _job(Path(config_path))
        schedule_config, after = job.schedule, datetime.now(UTC)
    else:
        name, scheduled = _one(_folder(), name)
        schedule_config, after = scheduled.schedule, scheduled.handled_until
        if scheduled.paused:
            click.echo(f"{name} is paused: longhaul schedule resume {name}", err=True)
    times = list(islice(schedule_config.upcoming(after, datetime.now(UTC)), count))
    if as_json:
        click.echo(json.dumps({"times": [time.isoformat() for time in times]}))
    else:
        click.echo("\n".join(_local(time, schedule_config) for time in times))


@schedule.command()
@click.argument("name", required=False)
def pause(name: str | None) -> None:
    """Skip all times of NAME until it is resumed.

    What runs already continues.
    """
    _set_paused(name, True)


@schedule.command()
@click.argument("name", required=False)
def resume(name: str | None) -> None:
    """Resume NAME; times that passed meanwhile are skipped."""
    _set_paused(name, False)


def _set_paused(name: str | None, paused: bool) -> None:
    folder = _folder()
    name, scheduled = _one(folder, name)
    if scheduled.paused == paused:
        click.echo(f"{name} is {'paused' if paused else 'not paused'} already")
        return
    with folder.change_one(name) as scheduled:
        scheduled.paused, scheduled.handled_until = paused, datetime.now(UTC)
    folder.add_entry(name, "paused" if paused else "resumed")
    click.echo(f"{name}: {'paused' if paused else f'next at {_local(scheduled.next, scheduled.schedule)}'}")


@schedule.command()
@click.argument("name", required=False)
def trigger(name: str | None) -> None:
    """Run NAME as soon as possible, even if it is paused."""
    folder = _folder()
    name, _ = _one(folder, name)
    with folder.change_one(name) as scheduled:
        scheduled.requested = True
    folder.add_entry(name, "requested")
    if folder.scheduler_is_running():
        click.echo(f"{name}: requested; `longhaul schedule history` shows when it started")
    else:
        click.echo(f"{name}: requested; no scheduler is running, so it waits for `longhaul schedule run`")


@schedule.command()
@click.argument("name", required=False)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Entries to show at most.")
@json_option
def history(name: str | None, limit: int, as_json: bool) -> None:
    """Show what the scheduler did, the newest last."""
    folder = _folder()
    entries = folder.history(name)[-limit:]
    if as_json:
        click.echo(json.dumps({"history": [one.model_dump(mode="json", exclude_defaults=True) for one in entries]}))
        return
    if not entries:
        click.echo("no schedule has run yet")
        return
    # In lines: an error is a sentence, and a table has no room for it.
    console = Console(soft_wrap=True)
    for one in entries:
        took = "" if one.seconds is None else f" after {format_duration(one.seconds)}"
        why = f" ({one.reason})" if one.reason else ""
        head = f"{one.time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC  {one.schedule}  {one.event}{took}{why}"
        console.print(Text(printable(head), EVENTS.get(one.event, "")))
        more = [f"run {one.run}"] if one.run else []
        for line in more + (one.error or "").splitlines():
            console.print(Text(f"    {printable(line)}", "dim"))


def _folder() -> "ScheduleFolder":
    from infra.scheduling.state import ScheduleFolder

    return ScheduleFolder(Path(os.path.abspath(HOME)) / "schedule")


def _read(folder: "ScheduleFolder") -> "dict[str, ScheduleState]":
    return folder.read()


def _one(folder: "ScheduleFolder", name: str | None) -> "tuple[str, ScheduleState]":
    """The schedule of a name, or the only one."""
    from infra.scheduling.state import unknown_schedule

    schedules = _read(folder)
    if name is None and len(schedules) == 1:
        return next(iter(schedules.items()))
    if name is None or name not in schedules:
        fail(unknown_schedule(name, schedules))
    return name, schedules[name]


def _local(time: datetime | None, config: "ScheduleConfig") -> str:
    """A time by the schedule's clock, with its offset from UTC: in autumn two hours have the same name."""
    return f"{time.astimezone(ZoneInfo(config.timezone)):%a %Y-%m-%d %H:%M %z}" if time else "never"


if __name__ == "__main__":
    schedule()
