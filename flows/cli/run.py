"""`longhaul plan` and `longhaul run`."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
import yaml
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.estimate import OPTIONS, make_estimate, print_estimate
from flows.cli.terminal import fail, printable, told_seconds
from flows.home import HOME
from infra.environment import engine_environment

if TYPE_CHECKING:
    from flows.chain import Chain
    from flows.plan import PlannedStage
    from flows.selection import Selection
    from steps.recipe import Recipe

FLOW = Path(__file__).parents[1] / "post_train.py"
DEFAULT_CONFIG = "configs/nano.yaml"
ERROR = re.compile(r"(\w+\.)+[A-Z]\w*:|[A-Z]\w*(Error|Exception)\b.*|.*\brefused\b")
"""A line that ends a traceback: an exception's path and message, or the name alone of one of Python's own."""

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def _what_to_run(command: CommandT) -> CommandT:
    """The options that say what a run is of."""
    for option in reversed(
        [
            click.option("--config", "config_path", default=DEFAULT_CONFIG, show_default=True, help="The recipe."),
            click.option("--seed", type=int, help="The recipe's seed, instead of the one in the file."),
            click.option(
                "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one key, as in --set rl.tau=0.2."
            ),
            click.option("--from", "start", metavar="STAGE", help="Run STAGE and those that depend on it."),
            click.option("--only", metavar="STAGE", help="Run STAGE alone."),
            click.option("--until", metavar="STAGE", help="Run STAGE and those that it depends on."),
            click.option(
                "--reuse", metavar="RUN", help="Use RUN's outputs for the stages before, whatever has changed in them."
            ),
            click.option("--force", is_flag=True, help="Run stages also where their outputs could be used again."),
        ]
    ):
        command = option(command)
    return command


def _for_an_estimate(command: CommandT) -> CommandT:
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command()
@_what_to_run
@click.option("--verify", is_flag=True, help="Read what would be used again, byte by byte, as a run does.")
@_for_an_estimate
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(
    verify: bool,
    estimate: bool,
    gpu: str | None,
    gpus: int | None,
    price: float | None,
    assume: tuple[str, ...],
    as_json: bool,
    **asked: Any,
) -> None:
    """Say which stages a run would run, which it would use again, and why. Nothing is run."""
    recipe, selection = _asked_for(**asked)
    if estimate:
        print_estimate(make_estimate(recipe, gpu, gpus, price, assume), as_json)
        return
    if gpu or gpus or price is not None or assume:
        fail("--gpu, --gpus, --price and --assume are for an estimate: add --estimate")
    chain = _chain(recipe, "plan", selection)
    stages = _planned(chain, verify)
    if as_json:
        click.echo(json.dumps({"stages": [one.plain() for one in stages if one.action != "skip"]}))
    else:
        Console().print(_table(stages))


@click.command()
@_what_to_run
@click.option(
    "--retries",
    default=0,
    show_default=True,
    type=click.IntRange(0, 4),
    help="How often a stage that fails or is killed is tried again; RL goes on from its last iteration.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON at the end.")
def run(retries: int, as_json: bool, **asked: Any) -> None:
    """Run the chain, or a part of it. Stages that ran before with the same key are used again.

    A run that failed or was killed goes on where it stopped when the same command is given again.
    """
    from flows.cli.report import print_report
    from flows.notify import tell_failure
    from flows.runs import end_run, leave_name, start_run
    from infra.store.store import StoreError

    recipe, selection = _asked_for(**asked)
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{recipe.name}"
    folder = HOME / "runs" / name
    chain = _chain(recipe, name, selection)
    stages = _planned(chain, verify=False)
    plain = recipe.model_dump(mode="json")
    try:
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    except OSError as error:
        fail(f"{folder} cannot be written: {error}")
    try:
        start_run(chain.store, name, plain, sys.argv[1:])
    except StoreError as error:
        fail(f"StoreError: {error}")

    def ended_badly(status: Any, error: str, stage: str | None = None) -> NoReturn:
        first = error.partition("\n")[0]
        with suppress(StoreError):  # the error says what was wrong before
            end_run(chain.store, name, status, first)
        log = folder / "metaflow.log"
        if status == "failed":
            tell_failure(recipe, name, stage, first, sys.argv[1:], log)
        told = [f"{stage}: {error}" if stage else error, *([f"log: {log}"] if log.exists() else [])]
        fail(printable("\n".join([*told, "Finished stages are kept: the same command goes on from them."])))

    leave_name(name)
    try:
        if any(one.action == "run" for one in stages) or not _use_all_again(chain, stages):
            _run_flow(folder, recipe, name, selection, retries, as_json, ended_badly)
        end_run(chain.store, name, "succeeded")
    except StoreError as error:
        ended_badly("failed", f"StoreError: {error}")
    print_report(recipe.store, name, as_json)


def _asked_for(
    config_path: str,
    seed: int | None,
    settings: tuple[str, ...],
    start: str | None,
    only: str | None,
    until: str | None,
    reuse: str | None,
    force: bool,
) -> "tuple[Recipe, Selection]":
    from flows.cli.overrides import apply_overrides
    from flows.selection import Selection, SelectionRefused
    from steps.recipe import ConfigRefused, check_recipe, load_recipe

    try:
        raw = load_recipe(Path(config_path)).model_dump(mode="json")
        changes = [*settings, *([f"seed={seed}"] if seed is not None else [])]
        return check_recipe(apply_overrides(raw, changes), config_path), Selection(start, only, until, reuse, force)
    except (ConfigRefused, SelectionRefused) as error:
        fail(str(error))


def _chain(recipe: "Recipe", name: str, selection: "Selection") -> "Chain":
    from flows.chain import Chain
    from flows.selection import SelectionRefused
    from infra.store.store import StoreError

    try:
        return Chain(recipe, name, selection)
    except (SelectionRefused, StoreError) as error:
        fail(str(error))


def _planned(chain: "Chain", verify: bool) -> "list[PlannedStage]":
    from flows.chain import NotThere
    from flows.plan import make_plan
    from infra.lineage.index import LineageIndex
    from infra.stages.runner import KeyClaimed
    from infra.store.store import StoreError

    try:
        index = LineageIndex.of(chain.store, HOME)
        index.sync(chain.store)
        return make_plan(chain, index.earlier, index.last_failure, verify)
    except (NotThere, KeyClaimed, StoreError) as error:
        fail(f"{type(error).__name__}: {error}" if isinstance(error, StoreError) else str(error))


def _use_all_again(chain: "Chain", stages: "list[PlannedStage]") -> bool:
    """Record every stage as used again, and write the report; no step of a workflow has to start for that.

    False where an output turns out to be damaged: then the flow has to make it anew.
    """
    from infra.store.store import StoreError
    from steps.report.page import render_report

    found = [one.record for one in stages if one.record is not None]
    try:
        for record in found:
            for ref in record.outputs.values():
                chain.store.verify(ref)
    except StoreError:
        return False
    used = [chain.runner.use_again(record) for record in found]
    chain.write_report(render_report(chain.recipe.name, used))
    return True


def _run_flow(
    folder: Path,
    recipe: "Recipe",
    name: str,
    selection: "Selection",
    retries: int,
    as_json: bool,
    ended_badly: Callable[[Any, str, str | None], NoReturn],
) -> None:
    from infra.progress.view import ProgressView

    events, log = folder / "progress.jsonl", folder / "metaflow.log"
    events.touch()
    environment = {
        **os.environ,
        **engine_environment(),
        "LONGHAUL_RUN": name,
        "LONGHAUL_PROGRESS": str(events.resolve()),
    }
    command = [sys.executable, str(FLOW), "--no-pylint", "--config", "config", str(folder / "config.yaml")]
    command += ["run", "--max-workers", "1", "--tag", f"longhaul:{name}"]
    named = {
        "--from_stage": selection.start,
        "--only": selection.only,
        "--until": selection.until,
        "--reuse": selection.reuse,
        "--force": "true" if selection.force else None,
    }
    command += [part for option, value in named.items() if value for part in (option, value)]
    if retries:
        command += ["--with", f"retry:times={retries},minutes_between_retries=0"]
    with log.open("wb") as output, ProgressView(events, stderr=as_json):
        # A group of its own, so that Ctrl-C reaches the flow once, through us; being told to terminate is the same.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            status = process.wait()
        except KeyboardInterrupt:
            _end(process)
            ended_badly("interrupted", "interrupted", None)
    if status != 0:
        stage, error = _error_of(recipe, name, log)
        ended_badly("failed", error, stage)


def _end(process: subprocess.Popen[bytes], patience: float = 10) -> None:
    """Ask a process group to end, and make it, if it has not within `patience` seconds: what it finished is stored."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _error_of(recipe: "Recipe", run: str, log: Path) -> tuple[str | None, str]:
    """The stage that failed and what went wrong, by its record; or else what Metaflow's output says."""
    from flows.notify import failed_stage

    failed = failed_stage(recipe.store, run)
    if failed is not None and failed.failure is not None:
        return failed.stage, failed.failure.error
    lines = [line.split("] ", 1)[-1].strip() for line in log.read_text(errors="replace").splitlines()]
    errors = [line for line in lines if ERROR.match(line)]
    return None, re.sub(r"^(\w+\.)+(?=[A-Z])", "", errors[-1]) if errors else "the flow failed"


def _table(stages: "list[PlannedStage]") -> Table:
    runs = [one for one in stages if one.action == "run"]
    known = [one.seconds for one in runs if one.seconds is not None]
    unknown = len(runs) - len(known)
    total = f"{len(runs)} of {len(stages)} stages run"
    if known:
        total += f", about {told_seconds(sum(known))} by earlier runs"
    if unknown and runs:
        total += f"{', and' if known else ','} {unknown} without an earlier run to tell"
    table = Table(caption=total, box=box.SIMPLE, pad_edge=False, caption_justify="left")
    table.add_column("stage", no_wrap=True)
    table.add_column("action", no_wrap=True)
    table.add_column("takes", justify="right", no_wrap=True)
    table.add_column("why")
    styles = {"run": "bold", "reuse": "green", "skip": "dim"}
    for one in stages:
        takes = "" if one.action != "run" else "?" if one.seconds is None else told_seconds(one.seconds)
        table.add_row(one.stage, Text(one.action, styles[one.action]), takes, Text(printable(one.reason)))
    return table
