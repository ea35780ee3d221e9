"""`longhaul run --seeds`: one run for each seed, and what they have in common."""

import re
from collections.abc import Sequence
from functools import partial

import click

from flows.home import open_store, synced_index


def parse_seeds(text: str) -> list[int]:
    """The seeds in a list with commas. Raises click.UsageError for what is not one."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"-?[0-9]{1,18}", part) for part in parts):
        raise click.UsageError(f"--seeds {text}: expected whole numbers with commas, as in 0,1,2")
    seeds = [int(part) for part in parts]
    if twice := next((seed for seed in seeds if seeds.count(seed) > 1), None):
        raise click.UsageError(f"--seeds {text}: {twice} is there twice")
    return seeds


def command_with_seed(arguments: Sequence[str], seed: int) -> list[str]:
    """The command that makes one of the runs of `--seeds` alone: what the run's record has."""
    command: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--seeds":
            next(words, None)
        elif not word.startswith("--seeds="):
            command.append(word)
    return [*command, "--seed", str(seed)]


def print_seeds(store: str, names: Sequence[str], as_json: bool) -> None:
    """Print the comparison of the runs: means over their seeds."""
    from flows.cli.compare import print_comparison
    from infra.lineage.run_values import RunValues

    with synced_index(open_store(store)) as (index, _):
        details = [index.run(name) for name in names]
        print_comparison(
            [RunValues(detail.row, partial(index.run, detail.row.run)) for detail in details], [], None, as_json, False
        )
