"""`longhaul data check`: what a recipe would read, and what of it would be refused."""

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.checkpoint_checks import images_fault
from flows.cli.command import Group
from flows.cli.overrides import load_with_overrides
from flows.cli.terminal import json_option, printable, set_option, warn
from flows.home import HOME
from flows.stage_sources import CHAT_TEMPLATE
from flows.topology import STAGES

if TYPE_CHECKING:
    from steps.chat import Chat
    from steps.data_check import DataCheck, Lengths
    from steps.recipe import Recipe

PARTS = "50 / 90 / 99 % / most"
VALUE_CHARACTERS = 200
"""Characters of a field's value that a first row shows."""


@click.group(cls=Group)
def data() -> None:
    """Look at the data of a recipe before it runs."""


@data.command()
@click.argument("recipe")
@set_option
@click.option("--rows", default=1, show_default=True, type=click.IntRange(0), help="First rows to show of each role.")
@click.option("--refused", default=10, show_default=True, type=click.IntRange(0), help="Refused rows to show.")
@json_option
def check(recipe: str, settings: Sequence[str], rows: int, refused: int, as_json: bool) -> None:
    """Read all data that RECIPE (a file) names, and report on them; no model runs.

    Counts by source, lengths in tokens, first rows, rows that are refused with file, line and reason, and what curation
    and the gates before training would leave out or refuse. Ends with 1 where a run would end with these data.
    """
    from infra.store.sources import bring
    from steps.data_check import check_data

    loaded = load_with_overrides(recipe, settings)
    with tempfile.TemporaryDirectory() as folder:
        resolved = STAGES["data"].sources(loaded, HOME / "cache" / "file_digests.json")
        sources = {key: bring(one, Path(folder) / key) for key, one in resolved.items()}
        read = Path(folder) / "read"
        result = check_data(loaded, sources, _chat(loaded, Path(folder) / "tokenizer", read), rows, read)
    result.stops += [fault] if (fault := images_fault(loaded)) else []
    if as_json:
        plain = result.plain()
        plain["refused"] = {"count": len(result.refused), "first": result.refused[:refused]}
        click.echo(json.dumps(plain))
    else:
        _print(result, refused)
    if not result.usable:
        sys.exit(1)


def _chat(recipe: "Recipe", folder: Path, data: Path) -> "Chat | None":
    """The chat format of the recipe's checkpoint, of which everything but the weights is brought; `data` is where the
    rows' images will lie."""
    from infra.store.sources import bring
    from infra.vision.folders import ImageFolders
    from steps.chat import Chat
    from steps.checkpoint_prompt import read_template, write_prompt, write_template

    try:
        resolved = STAGES["import"].sources(recipe, HOME / "cache" / "file_digests.json")
        whole = resolved["import_checkpoint.checkpoint"]
        small = replace(whole, belongs=lambda path: whole.belongs(path) and not path.endswith(".safetensors"))
        source = bring(small, folder / "brought").path
        copy = folder / "copy"
        # A folder here has whatever else lies in it, an optimizer's states too.
        for path in source.rglob("*"):
            name = path.relative_to(source).as_posix()
            if path.is_file() and small.belongs(name):
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy / name)
        if CHAT_TEMPLATE in resolved:
            write_template(copy, read_template(bring(resolved[CHAT_TEMPLATE], folder / "template").path))
        write_prompt(copy, recipe.import_checkpoint, lambda text: None)
        return Chat(copy, ImageFolders((data,)))
    except Exception as error:  # transformers raises many kinds for a folder without a whole tokenizer
        warn(f"lengths are left out: the checkpoint's tokenizer cannot be read ({' '.join(str(error).split())[:200]})")
        return None


def _print(result: "DataCheck", refused: int) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    sources = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("source", "address", "read", "refused", "used"):
        sources.add_column(name, justify="left" if name in ("source", "address") else "right", overflow="fold")
    for source in result.sources:
        numbers = (source.read, source.refused, source.used)
        sources.add_row(source.key, Text(printable(source.address)), *(f"{number:,}" for number in numbers))
    if result.sources:
        console.print(sources)
    roles = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("role", "rows", "same prompt", f"prompt tokens, {PARTS}", f"response tokens, {PARTS}"):
        roles.add_column(name, justify="left" if name == "role" else "right")
    for role, summary in result.roles.items():
        lengths = _numbers(summary.prompts), _numbers(summary.responses)
        roles.add_row(role, f"{summary.rows:,}", f"{summary.duplicates:,}", *lengths)
    console.print(roles)
    for role, summary in result.roles.items():
        for row in summary.first:
            click.echo(f"first of {role}:")
            for name, value in row.items():
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                short = text if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]}…"
                click.echo(f"  {name}: {printable(short)}")
    for reason, count in result.left_out.items():
        click.echo(f"curation leaves out {count:,} of train: {reason}")
    for place in result.refused[:refused]:
        warn(f"refused: {place}")
    if len(result.refused) > refused:
        warn(f"refused: {len(result.refused) - refused:,} more (--refused {len(result.refused)} shows all)")
    for reason in result.stops:
        click.secho(printable(f"a run would end: {reason}"), fg="red", err=True)


def _numbers(lengths: "Lengths | None") -> str:
    if lengths is None:
        return "–"
    return " / ".join(f"{number:,}" for number in (*lengths.percentiles.values(), lengths.longest))
