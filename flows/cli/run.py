"""`longhaul plan` and `longhaul run`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
import yaml
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.command import Command
from flows.cli.estimate import OPTIONS, make_estimate, print_estimate
from flows.cli.terminal import config_option, fail, format_duration, json_option, printable, set_option, warn
from flows.failure import find_failure
from flows.guard import PATIENCE_S, STARTED_BY
from flows.home import HOME, synced_index
from infra.environment import engine_environment
from infra.signal_handlers import handling

if TYPE_CHECKING:
    from flows.chain import Chain
    from flows.plan import PlannedStage
    from flows.selection import Selection
    from infra.lineage.index import LineageIndex
    from steps.recipe import Recipe

ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
"""Signals that end a run."""
FLOW = Path(__file__).parents[1] / "post_train.py"
CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def _selection_options(command: CommandT) -> CommandT:
    """The options of a recipe and of the stages to run."""
    for option in reversed(
        [
            config_option,
            click.option("--seed", type=int, help="The recipe's seed, instead of the one in the file."),
            set_option,
            click.option(
                "--select",
                "selectors",
                multiple=True,
                metavar="SELECTOR",
                help="Run these stages: rl, rl+ (with all that depends on it), +rl (with all before it), long2short/*, "
                "state:modified+; may be repeated.",
            ),
            click.option("--from", "start", metavar="STAGE", help="Run STAGE and those that depend on it."),
            click.option("--only", metavar="STAGE", help="Run STAGE alone."),
            click.option("--until", metavar="STAGE", help="Run STAGE and those that it depends on."),
            click.option(
                "--reuse", metavar="RUN", help="Take the outputs of earlier stages from RUN, whatever has changed."
            ),
            click.option(
                "--fork",
                metavar="RUN:STAGE@N",
                help="Let rl or long2short/rl continue from iteration N of RUN, which kept it (rl.keep_every).",
            ),
            click.option("--force", is_flag=True, help="Run stages even where their outputs could be reused."),
            click.option(
                "--against", metavar="RUN", help="What state:modified compares with (default: the newest run)."
            ),
        ]
    ):
        command = option(command)
    return command


def _estimate_options(command: CommandT) -> CommandT:
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command(cls=Command)
@_selection_options
@click.option("--verify", is_flag=True, help="Compare every byte of what would be reused, as a run does.")
@_estimate_options
@json_option
def plan(
    verify: bool,
    estimate: bool,
    gpu: str | None,
    gpus: int | None,
    price: float | None,
    assume: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Show which stages would run or be reused, and why. Nothing is run."""
    from flows.chain import Chain

    recipe, selection = _load_selection(**options)
    if estimate:
        print_estimate(make_estimate(recipe, gpu, gpus, price, assume), as_json)
        return
    if gpu or gpus or price is not None or assume:
        fail("--gpu, --gpus, --price and --assume are for an estimate: add --estimate")
    chain = Chain(recipe, "plan", selection)
    stages = _make_plan(chain, verify, selection.against)
    if recipe.cluster is None:  # on a cluster, pods get it from a secret
        _check_key(recipe, stages)
    if as_json:
        click.echo(json.dumps({"stages": [one.plain() for one in stages if one.action != "skip"]}))
    else:
        Console().print(_table(stages))


@click.command(cls=Command)
@_selection_options
@click.option(
    "--retries",
    default=0,
    show_default=True,
    type=click.IntRange(0, 4),
    help="How often a stage that fails or is killed is tried again; RL resumes after its last iteration.",
)
@click.option("--seeds", metavar="A,B,…", help="One run for each of these seeds; stages that no seed changes run once.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON at the end.")
def run(retries: int, seeds: str | None, as_json: bool, **options: Any) -> None:
    """Run a recipe, or a part of it. Stages that ran before with the same key are reused.

    The same command resumes a run that failed or was killed from where it stopped.
    """
    if seeds is None:
        name, store = _run_once(retries, as_json, sys.argv[1:], **options)
        from flows.cli.report import print_report

        print_report(store, name, as_json)
        return
    if options["seed"] is not None:
        fail("--seed and --seeds exclude each other: name all seeds in --seeds")
    from flows.cli.seeds import command_with_seed, parse_seeds, print_seeds

    names: list[str] = []
    for seed in parse_seeds(seeds):
        command = command_with_seed(sys.argv[1:], seed)
        name, store = _run_once(retries, as_json, command, **{**options, "seed": seed})
        names.append(name)
        click.echo(f"seed {seed}: run {name}", err=as_json)
    print_seeds(store, names, as_json)


def _run_once(retries: int, as_json: bool, command: Sequence[str], **options: Any) -> tuple[str, str]:
    """Run the recipe once, recorded with the command that does so. Returns the run's name and its store."""
    from flows.chain import Chain
    from flows.fork_server.start import fork_server_variables
    from flows.leftovers import clear_leftovers, running
    from flows.notify import report_failure
    from flows.runs import end_run, leave_name, new_run_name, start_run
    from infra.store.store import StoreError

    recipe, selection = _load_selection(**options)
    clear_leftovers()
    name = new_run_name(recipe.name)
    folder = HOME / "runs" / name
    if selection.against is not None and not selection.by_state:
        fail("--against is what `--select state:modified` compares with; `longhaul plan` takes it alone")
    chain = Chain(recipe, name, selection)
    stages = _make_plan(chain, verify=False)
    _check_key(recipe, stages)
    plain = recipe.model_dump(mode="json")
    try:
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    except OSError as error:
        fail(f"{folder} cannot be written: {error}")

    def end_with(status: Any, error: str, stage: str | None = None) -> NoReturn:
        first = error.partition("\n")[0]
        with suppress(StoreError):  # the error says what was wrong before
            end_run(chain.store, name, status, first)
        log = folder / "metaflow.log"
        if status == "failed":
            report_failure(recipe, name, stage, first, command, log)
        lines = [f"{stage}: {error}" if stage else error, *([f"log: {log}"] if log.exists() else [])]
        fail("\n".join([*lines, "Finished stages are kept: the same command resumes from them."]))

    # A request to terminate and a closed terminal are the same as Ctrl-C, unless the run is to outlive it (nohup).
    outlived = {one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is signal.SIG_IGN}
    with running(folder) as (lock, variables), handling(ENDING - outlived, signal.default_int_handler):
        try:
            start_run(chain.store, name, plain, command)
            leave_name(name)
            if any(one.action == "run" or one.checks_again for one in stages) or not _reuse_all(chain, stages):
                to_run = [one.stage for one in stages if one.action == "run"]
                variables |= fork_server_variables(variables["TMPDIR"], recipe, to_run)
                _run_flow(folder, recipe, name, selection, chain.selected, retries, as_json, end_with, lock, variables)
            end_run(chain.store, name, "succeeded")
        except StoreError as error:
            end_with("failed", str(error))
        except KeyboardInterrupt:
            end_with("interrupted", "interrupted")
    return name, recipe.store


def _load_selection(
    config_path: str,
    seed: int | None,
    settings: tuple[str, ...],
    start: str | None,
    only: str | None,
    until: str | None,
    reuse: str | None,
    force: bool,
    selectors: tuple[str, ...],
    against: str | None,
    fork: str | None,
) -> "tuple[Recipe, Selection]":
    from flows.cli.overrides import load_with_overrides
    from flows.selection import Selection

    changes = [*settings, *([f"seed={seed}"] if seed is not None else [])]
    selection = Selection(start, only, until, reuse, force, selectors, against, fork)
    return load_with_overrides(config_path, changes), selection


def _make_plan(chain: "Chain", verify: bool, against: str | None = None) -> "list[PlannedStage]":
    """The plan, with differences from the nearest earlier runs, or from the one that is named. Where the lineage index
    cannot be used it says so, and the plan's reasons name no earlier run."""
    from flows.plan import make_plan
    from infra.lineage.errors import LineageError

    try:
        if against is not None:
            from flows.models import run_records

            earlier = {record.stage: [record] for record in run_records(chain.store, against)}
            return make_plan(chain, lambda stage: earlier.get(stage, []), lambda key: None, verify)
        with ExitStack() as stack:

            @cache
            def index() -> "LineageIndex":
                return stack.enter_context(synced_index(chain.store))[0]

            # Where all stages are reused nobody asks, and the index is not opened.
            return make_plan(
                chain, lambda stage: index().succeeded(stage), lambda key: index().last_failure(key), verify
            )
    except LineageError as error:
        warn(f"{error}\nThe plan is made without earlier runs to compare with.")
        return make_plan(chain, lambda stage: [], lambda key: None, verify)


def _check_key(recipe: "Recipe", stages: "list[PlannedStage]") -> None:
    """Refuse a run that would reach its teacher, hours later, without the key. Raises KeyUnusable."""
    endpoint = recipe.long_cot_paths.teacher.endpoint if recipe.long_cot_paths is not None else None
    # What may be reused yet needs none.
    if endpoint is not None and any(
        one.stage == "long_cot_paths" and one.action == "run" and one.may_reuse is None for one in stages
    ):
        endpoint.read_key("long_cot_paths.teacher.endpoint")


def _reuse_all(chain: "Chain", stages: "list[PlannedStage]") -> bool:
    """Record every stage as reused, and write the report; no step of a workflow has to start for that.

    False where an output turns out to be damaged: then the flow has to make it again.
    """
    from infra.store.store import StoreError
    from infra.store.stored_images import StoredImages
    from steps.report.page import render_report

    cached = [one.record for one in stages if one.record is not None]
    try:
        for record in cached:
            for ref in record.outputs.values():
                chain.store.verify(ref)
    except StoreError:
        return False
    reused = chain.reuse({one.stage: one.record for one in stages if one.record is not None})
    chain.write_report(render_report(chain.recipe.name, reused, StoredImages.of(chain.store, reused)))
    return True


def _run_flow(
    folder: Path,
    recipe: "Recipe",
    name: str,
    selection: "Selection",
    selected: Set[str],
    retries: int,
    as_json: bool,
    end_with: Callable[[Any, str, str | None], NoReturn],
    lock: int,
    variables: Mapping[str, str],
) -> None:
    from infra.progress.view import ProgressView

    events, log = folder / "progress.jsonl", folder / "metaflow.log"
    events.touch()
    environment = {
        **os.environ,
        **engine_environment(),
        **variables,
        STARTED_BY: str(os.getpid()),
        "LONGHAUL_RUN": name,
        "LONGHAUL_PROGRESS": str(events.resolve()),
    }
    command = [sys.executable, str(FLOW), "--no-pylint", "--config", "config", str(folder / "config.yaml")]
    command += ["run", "--max-workers", "1", "--tag", f"longhaul:{name}"]
    options = {
        "--from_stage": selection.start,
        "--only": selection.only,
        "--until": selection.until,
        # As stages: what is modified may change while the run lasts.
        "--select": " ".join(sorted(selected)) if selection.selectors else None,
        "--reuse": selection.reuse,
        "--fork": selection.fork,
        "--force": "true" if selection.force else None,
    }
    command += [part for option, value in options.items() if value for part in (option, value)]
    if retries:
        command += ["--with", f"retry:times={retries},minutes_between_retries=0"]
    with log.open("wb") as output, ProgressView(events, stderr=as_json):
        # A group of its own, so that Ctrl-C reaches the flow once, through us.
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            pass_fds=[lock],
        )
        try:
            status = process.wait()
        except KeyboardInterrupt:
            _end(process)
            raise
    if status != 0:
        stage, error = find_failure(recipe, name, status, events, log)
        end_with("failed", error, stage)


def _end(process: subprocess.Popen[bytes], patience: float = PATIENCE_S + 5) -> None:
    """Ask a process group to end, and kill it after `patience` seconds: what it finished is stored."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)  # it is ending already, and stays so until the run's end is written
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _table(stages: "list[PlannedStage]") -> Table:
    runs = [one for one in stages if one.action == "run"]
    known = [one.seconds for one in runs if one.seconds is not None]
    unknown = len(runs) - len(known)
    total = f"{len(runs)} of {len(stages)} stages run"
    if known:
        total += f", about {format_duration(sum(known))} by earlier runs"
    if unknown and runs:
        total += f"{', and' if known else ','} {unknown} of unknown duration"
    table = Table(caption=total, box=box.SIMPLE, pad_edge=False, caption_justify="left")
    table.add_column("stage", no_wrap=True)
    table.add_column("action", no_wrap=True)
    table.add_column("takes", justify="right", no_wrap=True)
    table.add_column("reason")
    styles = {"run": "bold", "reuse": "green", "skip": "dim"}
    for one in stages:
        takes = "" if one.action != "run" else "?" if one.seconds is None else format_duration(one.seconds)
        table.add_row(one.stage, Text(one.action, styles[one.action]), takes, Text(printable(one.reason)))
    return table
