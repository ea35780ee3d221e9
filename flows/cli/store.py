"""`longhaul store`: look at what a store holds, compare it with what was put, and delete what nobody needs."""

import json
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.terminal import fail, printable, store_option
from flows.home import open_store
from infra.store.garbage import DAY, Plan, collect
from infra.store.garbage import plan as plan_gc
from infra.store.inventory import artifacts, references
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


@click.group()
def store() -> None:
    """Look at what the store holds, verify it, and delete what no run refers to."""


@store.command()
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(store: str, as_json: bool) -> None:
    """List the stored folders, and which stages and tags refer to each."""
    try:
        opened = open_store(store)
        known, folders = references(opened), artifacts(opened)
    except StoreError as error:
        fail(printable(str(error)))
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
    for column in ("kind", "digest", "files", "size", "put", "used by"):
        numbers, wraps = column in NUMBERS, column == "used by"
        table.add_column(column, justify="right" if numbers else "left", no_wrap=not wraps, overflow="fold")
    for row in sorted(rows, key=lambda row: row.put):
        kind = (row.kind or "–") if row.whole else "put broke off"
        tags = [user for user in row.users if user.startswith("tag ")]
        stages = [user for user in row.users if user not in tags]
        more = [f"{len(stages) - 1} more"] if len(stages) > 1 else []
        users = [*tags, *stages[-1:], *more]
        cells = [kind, row.digest[:12], str(row.files), told_size(row.size), row.put[:10], ", ".join(users) or "–"]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console = Console(markup=False, highlight=False)
    console.print(table)
    total = sum(row.size for row in rows)
    console.print(f"{_count(len(rows), 'folder')}, {told_size(total)}, in {printable(opened.backend.address)}")


@store.command()
@click.argument("digests", nargs=-1, metavar="[DIGEST]...")
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(digests: tuple[str, ...], store: str, as_json: bool) -> None:
    """Read stored folders (all without DIGEST, which may be a beginning) and compare every byte with what was put.

    The exit code is 1 where a file is damaged; each is named.
    """
    try:
        opened = open_store(store)
        whole = [artifact.digest for artifact in artifacts(opened) if artifact.whole]
        chosen = [_one(whole, digest, opened) for digest in digests] or whole
        damaged = {digest: wrong for digest in chosen if (wrong := _damage(opened, digest))}
    except StoreError as error:
        fail(printable(str(error)))
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
                "A damaged folder is stored anew when the stage that made it runs again, which it does by itself."
            )
    sys.exit(1 if damaged else 0)


def _damage(store: Store, digest: str) -> dict[str, str]:
    try:
        return store.damage(digest)
    except StoreError as error:  # its manifest: the other folders are still worth a look
        return {"manifest.json": str(error)}


def _one(whole: list[str], beginning: str, store: Store) -> str:
    found = [digest for digest in whole if digest.startswith(beginning)]
    if len(found) != 1:
        there = "has no folder" if not found else f"has {len(found)} folders"
        raise StoreError(
            f"{store.backend.address} {there} whose digest begins with {beginning!r}: see longhaul store ls"
        )
    return found[0]


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
    help="What was put since then stays: a stage that runs may be about to refer to it.",
)
@click.option("--delete", is_flag=True, help="Do it. Without it, only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gc(
    store: str, keep_runs: int | None, drop_runs: tuple[str, ...], grace_hours: float, delete: bool, as_json: bool
) -> None:
    """Delete the folders that no kept run refers to, and what transfers that broke off have left.

    All runs are kept without --keep-runs and --drop-run. What a tag is set to stays in any case, with all that it was
    made from. Records stay: the lineage of what was deleted can still be read.
    """
    try:
        opened = open_store(store)
        planned = plan_gc(opened, keep_runs, drop_runs, grace_hours * 3600)
        count, freed = collect(opened, planned) if delete else (len(planned.deleted), planned.size)
    except StoreError as error:
        fail(printable(str(error)))
    if as_json:
        answer = {
            "deleted": delete,
            "folders": [asdict(artifact) for artifact in planned.deleted],
            "leftovers": [leftover.name for leftover in planned.leftovers],
            "dropped_runs": list(planned.dropped_runs),
            "kept": planned.kept,
            "bytes": freed,
        }
        click.echo(json.dumps(answer))
        return
    _show(planned, count, freed, delete)


def _show(planned: Plan, count: int, freed: int, delete: bool) -> None:
    for run in planned.dropped_runs:
        click.echo(printable(f"not kept: run {run}"))
    for artifact in planned.deleted:
        click.echo(f"{artifact.digest[:12]}  {_count(artifact.files, 'file')}, {told_size(artifact.size)}")
    done = "deleted" if delete else "would delete"
    left = f" and {_count(len(planned.leftovers), 'leftover')} of broken transfers" if planned.leftovers else ""
    click.echo(f"{done} {_count(count, 'folder')}{left}: {told_size(freed)}")
    young = f", {planned.young} of them only because they were put of late" if planned.young else ""
    click.echo(f"kept {_count(planned.kept, 'folder')}, {told_size(planned.kept_size)}{young}")
    if not delete and (planned.deleted or planned.leftovers):
        click.echo("Nothing was deleted: do it with --delete.")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def told_size(size: int) -> str:
    """Bytes as people say them."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} TB"
