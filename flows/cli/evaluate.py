"""`longhaul evaluate`: evaluate a finished model, and compare it with the one that a tag names."""

import json
import shlex
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.command import Command
from flows.cli.terminal import config_option, fail, json_option, printable, promotion_rules, set_option
from flows.home import HOME
from infra.environment import enter_engine_environment
from infra.signal_handlers import handling

if TYPE_CHECKING:
    from flows.evaluation import Comparison
    from steps.recipe import Recipe


@click.command(cls=Command)
@click.argument("model", default="")
@config_option
@set_option
@click.option("--against", metavar="TAG", default="production", show_default=True, help="The tag to compare with.")
@click.option(
    "--benchmark",
    "benchmarks",
    metavar="NAME[=FILE]",
    multiple=True,
    help="A public benchmark besides (gsm8k, math500, aime24, humaneval, mbpp), from the hub or from a file.",
)
@click.option("--limit", type=click.IntRange(1), help="Only the first problems of each benchmark, at most so many.")
@promotion_rules
@json_option
def evaluate(
    model: str,
    config_path: str,
    settings: tuple[str, ...],
    against: str,
    benchmarks: tuple[str, ...],
    limit: int | None,
    accuracy_drop: float,
    token_growth: float | None,
    as_json: bool,
) -> None:
    """Evaluate MODEL on the recipe's held-out problems, and compare it with the tagged model.

    MODEL is the newest one of RL or long2short by default; a stage, RUN:STAGE, a tag or a digest; or a checkpoint
    outside the store, which is imported first: a folder, an s3:// address, or a hub's owner/name[@revision]. Both are
    evaluated in the same way, and evaluations of the same model, data, settings and code are reused. Nothing is tagged:
    `longhaul tag` does that.
    """
    enter_engine_environment()
    from flows.cli.overrides import load_with_overrides
    from flows.evaluation import compare, evaluate_model, evaluate_tagged, with_benchmarks, write_comparison
    from flows.models import ModelNotFound
    from flows.notify import report_failure
    from flows.runs import leave_name, new_run_name
    from steps.promotion import PromotionRules

    recipe = with_benchmarks(load_with_overrides(config_path, settings), benchmarks, limit)
    run = new_run_name(recipe.name, "evaluate")
    leave_name(run)
    try:
        # A request to terminate is the same as Ctrl-C: what was under way is recorded as interrupted.
        with handling((signal.SIGTERM, signal.SIGHUP), signal.default_int_handler):
            new = evaluate_model(recipe, run, model, sys.argv[1:])
            old = evaluate_tagged(recipe, f"{run}-{against}", against, sys.argv[1:])
            comparison = compare(new, against, old, PromotionRules(accuracy_drop, token_growth))
            _, page = write_comparison(recipe, run, comparison)
    except KeyboardInterrupt:
        fail("interrupted: the same command starts again, and reuses the evaluation that was finished")
    except ModelNotFound:
        raise
    except Exception as error:
        # Whatever a stage raises, an engine's errors too: in a line here, and whole in the log.
        log = _keep_traceback(run)
        message = f"{type(error).__name__}: {error}"
        report_failure(recipe, run, None, message, sys.argv[1:], log)
        fail(f"{message}\nlog: {log}\nagain: {shlex.join(['longhaul', *sys.argv[1:]])}")
    if as_json:
        click.echo(json.dumps({"run": run, **comparison.plain(), "report": str(page)}))
    else:
        _show(recipe, comparison)
        click.echo(f"report: {page}")


def _keep_traceback(run: str) -> Path:
    path = HOME / "runs" / run / "error.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(traceback.format_exc(), encoding="utf-8")
    return path


def _show(recipe: "Recipe", comparison: "Comparison") -> None:
    both = comparison.plain()
    table = Table(title=f"recipe {recipe.name}", box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for column in ("", "model", "from", "accuracy", "tokens", "p99"):
        numbers = column in ("accuracy", "tokens", "p99")
        table.add_column(column, justify="right" if numbers else "left", no_wrap=column != "from", overflow="fold")
    for called, one in (("the model", both["model"]), (comparison.tag, both["tagged"])):
        if one is not None:
            figures = one["evaluation"]
            cells = (called, one["digest"][:12], f"{one['stage']} of {one['run']}")
            table.add_row(
                *(Text(printable(cell)) for cell in cells),
                f"{figures['accuracy']:.1%} ± {figures['standard_error']:.1%}",
                f"{figures['mean_tokens']:.1f}",
                f"{figures['p99_tokens']:.0f}",
            )
    console = Console()
    console.print(table)
    if any(one and one["evaluation"]["benchmarks"] for one in (both["model"], both["tagged"])):
        console.print(_benchmarks(comparison))
    console.print(Text(printable(comparison.verdict), "green" if all(c.passed for c in comparison.checks) else "red"))


def _benchmarks(comparison: "Comparison") -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for column in ("", "benchmark", "avg@n", "95 %", "pass@k", "maj@k", "tokens", "problems"):
        table.add_column(column, justify="left" if column in ("", "benchmark") else "right")
    both = comparison.plain()
    for called, one in (("the model", both["model"]), (comparison.tag, both["tagged"])):
        for figures in one["evaluation"]["benchmarks"].values() if one else ():
            most = max(figures["pass_at"])
            majority = figures["majority_at"].get(most)
            changed = " (other rows)" if figures["as_published"] is False else ""
            table.add_row(
                *(Text(printable(cell)) for cell in (called, figures["title"] + changed)),
                f"{figures['accuracy']:.1%}",
                f"{figures['low']:.1%} to {figures['high']:.1%}",
                f"{figures['pass_at'][most]:.1%} @{most}",
                "" if majority is None else f"{majority:.1%} @{most}",
                f"{figures['mean_tokens']:.1f}",
                f"{figures['problems']} × {figures['samples']}",
            )
    return table


if __name__ == "__main__":
    evaluate()
