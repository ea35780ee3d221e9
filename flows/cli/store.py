"""`longhaul store`: list what a store holds, compare it with what was stored, and delete what no run needs."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.command import Group
from flows.cli.terminal import format_size, json_option, printable, store_option, warn
from flows.home import open_store
from infra.store.garbage import DAY, ITERATION_DAYS, Plan, collect
from infra.store.garbage import plan as plan_gc
from infra.store.inventory import artifacts, missing, references
from infra.store.store import Store, StoreError

NUMBERS = ("files", "size")


@dataclass(frozen=True)
class Row:
    """A stored folder, as `ls` shows it."""

    kind: str | None
    """None where no record refers to it: only references say what a folder is."""
    digest: str
    files: int
    size: int
    put: str
    """UTC, ISO 8601."""
    whole: bool
    users: list[str]


@click.group(cls=Group)
def store() -> None:
    """List, verify and clean up what a store holds."""


@store.command()
@store_option
@json_option
def ls(store: str, as_json: bool) -> None:
    """List the stored folders and who uses them.

    Each stands with its size and with the stages and tags that refer to it.
    """
    opened = open_store(store)
    known, folders = references(opened), artifacts(opened)
    _warn(known.problems)
    rows = [
        Row(
            kind=known.kinds.get(folder.digest),
            digest=folder.digest,
            files=folder.files,
            size=folder.size,
            put=datetime.fromtimestamp(folder.put, UTC).isoformat(timespec="seconds"),
            whole=folder.whole,
            users=known.users(folder.digest),
        )
        for folder in folders
    ]
    if as_json:
        click.echo(json.dumps({"store": opened.backend.address, "artifacts": [asdict(row) for row in rows]}))
        return
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for column in ("kind", "digest", "files", "size", "stored", "used by"):
        numbers, wraps = column in NUMBERS, column == "used by"
        table.add_column(column, justify="right" if numbers else "left", no_wrap=not wraps, overflow="fold")
    for row in sorted(rows, key=lambda row: row.put):
        kind = (row.kind or "–") if row.whole else "incomplete"
        tags = [user for user in row.users if user.startswith("tag ")]
        stages = [user for user in row.users if user not in tags]
        more = [f"{len(stages) - 1} more"] if len(stages) > 1 else []
        users = [*tags, *stages[-1:], *more]
        cells = [kind, row.digest[:12], str(row.files), format_size(row.size), row.put[:10], ", ".join(users) or "–"]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console = Console(markup=False, highlight=False)
    console.print(table)
    total = sum(row.size for row in rows)
    console.print(f"{_count(len(rows), 'folder')}, {format_size(total)}, in {printable(opened.backend.address)}")


@store.command()
@click.argument("digests", nargs=-1, metavar="[DIGEST]...")
@store_option
@json_option
def verify(digests: tuple[str, ...], store: str, as_json: bool) -> None:
    """Compare every byte of stored folders with what was stored.

    DIGEST may be the beginning of one (default: all folders, and all that records refer to but gc did not delete). The
    exit code is 1 where a file is damaged or a folder is missing.
    """
    opened = open_store(store)
    known = references(opened)
    _warn(known.problems)
    folders = {artifact.digest for artifact in artifacts(opened) if artifact.whole}
    everything = sorted(folders.union(missing(opened, known, folders)))
    chosen = [_one(everything, digest, opened) for digest in digests] or everything
    damaged = {digest: wrong for digest in chosen if (wrong := _damage(opened, digest))}
    if as_json:
        click.echo(json.dumps({"verified": len(chosen), "damaged": damaged}))
    else:
        for digest, wrong in damaged.items():
            for path, reason in wrong.items():
                click.secho(printable(f"{digest[:12]} {path}: {reason}"), fg="red")
        good = len(chosen) - len(damaged)
        click.echo(f"{_count(good, 'folder')} whole, {len(damaged)} damaged")
        if damaged:
            click.echo(
                "A damaged folder is stored again by the next run of the stage that made it, which does not reuse it."
            )
    sys.exit(1 if damaged else 0)


def _damage(store: Store, digest: str) -> dict[str, str]:
    try:
        return store.damage(digest)
    except StoreError as error:  # its manifest: the other folders are still worth a look
        return {"manifest.json": str(error)}


def _one(whole: list[str], beginning: str, store: Store) -> str:
    matches = [digest for digest in whole if digest.startswith(beginning)]
    if len(matches) != 1:
        there = "has no folder" if not matches else f"has {len(matches)} folders"
        raise StoreError(
            f"{store.backend.address} {there} whose digest begins with {beginning!r}: see longhaul store ls"
        )
    return matches[0]


@store.command()
@store_option
@click.option("--keep-runs", type=click.IntRange(0), metavar="N", help="Keep only the newest N runs.")
@click.option("--drop-run", "drop_runs", multiple=True, metavar="RUN", help="Do not keep this run; may be repeated.")
@click.option(
    "--grace",
    "grace_hours",
    type=click.FloatRange(0),
    default=DAY / 3600,
    show_default=True,
    metavar="HOURS",
    help="Keep what was stored within so many hours: a running stage may be about to refer to it.",
)
@click.option(
    "--iteration-days",
    type=click.FloatRange(0),
    default=ITERATION_DAYS,
    show_default=True,
    metavar="DAYS",
    help="Keep iterations to fork from (rl.keep_every) for so many days; those that a kept run continued from stay.",
)
@click.option("--delete", is_flag=True, help="Delete (default: only show what would be deleted).")
@json_option
def gc(
    store: str,
    keep_runs: int | None,
    drop_runs: tuple[str, ...],
    grace_hours: float,
    iteration_days: float,
    delete: bool,
    as_json: bool,
) -> None:
    """Delete folders that no run refers to.

    All runs are kept unless --keep-runs or --drop-run says otherwise, but not the iterations of RL that they kept for
    --fork: these go first, by age. Remains of interrupted transfers go too. A tagged model stays in any case, with
    everything that it was made from. Records stay: the lineage of what was deleted can still be read.
    """
    opened = open_store(store)
    planned = plan_gc(opened, keep_runs, drop_runs, grace_hours * 3600, iteration_days * DAY)
    _warn(planned.problems)
    if planned.held:
        warn("While a record cannot be read, no folder is deleted: it may be what that record refers to.")
    count, freed = collect(opened, planned) if delete else (len(planned.deleted), planned.size)
    if as_json:
        answer = {
            "deleted": delete,
            "folders": [asdict(artifact) for artifact in planned.deleted],
            "iterations": sorted(planned.iterations),
            "leftovers": [leftover.name for leftover in planned.leftovers],
            "dropped_runs": list(planned.dropped_runs),
            "kept": planned.retained,
            "bytes": freed,
        }
        click.echo(json.dumps(answer))
        return
    _show(planned, count, freed, delete)


def _show(planned: Plan, count: int, freed: int, delete: bool) -> None:
    for run in planned.dropped_runs:
        click.echo(printable(f"not kept: run {run}"))
    for artifact in planned.deleted:
        kind = ", an iteration to fork from" if artifact.digest in planned.iterations else ""
        click.echo(f"{artifact.digest[:12]}  {_count(artifact.files, 'file')}, {format_size(artifact.size)}{kind}")
    done = "deleted" if delete else "would delete"
    left = f" and {_count(len(planned.leftovers), 'leftover')} of interrupted transfers" if planned.leftovers else ""
    click.echo(f"{done} {_count(count, 'folder')}{left}: {format_size(freed)}")
    young = f", {planned.young} of them only because they were stored recently" if planned.young else ""
    click.echo(f"kept {_count(planned.retained, 'folder')}, {format_size(planned.retained_size)}{young}")
    if not delete and (planned.deleted or planned.leftovers):
        click.echo("Nothing was deleted: do it with --delete.")


def _warn(problems: Iterable[str]) -> None:
    for problem in problems:
        warn(f"skipped: {problem.splitlines()[0]}")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
