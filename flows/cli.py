"""The `longhaul` command."""

import json
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from flows.sandbox_cli import sandbox
from flows.terminal import fail, printable
from flows.test_cases_cli import test_cases
from infra.environment import engine_environment

HOME = Path(os.environ.get("LONGHAUL_HOME", ".longhaul"))
FLOW = Path(__file__).parent / "post_train.py"
DEFAULT_CONFIG = "configs/nano.yaml"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """From a pretrained checkpoint to a reasoning model, by the recipe of the Kimi k1.5 report."""


main.add_command(sandbox)
main.add_command(test_cases)


@main.command()
@click.option("--config", "config_path", default=DEFAULT_CONFIG, show_default=True, help="The recipe.")
@click.option("--seed", type=int, help="The recipe's seed, instead of the one in the file.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one key, as in --set rl.tau=0.2.")
@click.option(
    "--retries",
    default=0,
    show_default=True,
    type=click.IntRange(0, 4),
    help="How often a stage that fails or is killed is tried again; RL goes on from its last iteration.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON at the end.")
def run(config_path: str, seed: int | None, settings: tuple[str, ...], retries: int, as_json: bool) -> None:
    """Run the whole chain. Stages that ran before with the same key are used again."""
    from flows.overrides import apply_overrides
    from infra.progress_view import ProgressView
    from steps.recipe import ConfigRefused, check_recipe, load_recipe

    try:
        raw = load_recipe(Path(config_path)).model_dump(mode="json")
        changes = [*settings, *([f"seed={seed}"] if seed is not None else [])]
        recipe = check_recipe(apply_overrides(raw, changes), config_path)
    except ConfigRefused as error:
        fail(str(error))
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{recipe.name}"
    folder = HOME / "runs" / name
    try:
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    except OSError as error:
        fail(f"{folder} cannot be written: {error}")
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
            fail(f"interrupted. Finished stages are kept: the same command goes on from them.\nlog: {log}")
    if status != 0:
        fail(f"{_last_error(log)}\nlog: {log}\nFinished stages are kept: the same command goes on from them.")
    _print_report(recipe.store, name, as_json)


def _end(process: subprocess.Popen[bytes], patience: float = 10) -> None:
    """Ask a process group to end, and make it, if it has not within `patience` seconds: what it finished is stored."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_error(log: Path) -> str:
    """The line that says what went wrong, from Metaflow's output."""
    lines = [line.split("] ", 1)[-1].strip() for line in log.read_text(errors="replace").splitlines()]
    errors = [i for i, line in enumerate(lines) if line and ("Error" in line.split(":")[0] or "refused" in line)]
    return re.sub(r"^(\w+\.)+", "", lines[errors[-1]]) if errors else "the flow failed"


@main.command()
@click.option("--run", "run_name", help="A run's name; the newest without it.")
@click.option("--store", default=".longhaul/store", show_default=True, help="The recipe's store.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def report(run_name: str | None, store: str, as_json: bool) -> None:
    """Show how each stage's model did."""
    from flows.models import ModelNotFound

    try:
        _print_report(store, run_name, as_json)
    except ModelNotFound as error:
        fail(str(error))


def _print_report(store: str, run_name: str | None, as_json: bool) -> None:
    from flows.models import run_records
    from infra.store import Store
    from steps.report.table import report_rows, reward_model_rows

    records = run_records(Store(store, HOME / "cache" / "store"), run_name)
    rows, judges = report_rows(records), reward_model_rows(records)
    if as_json:
        click.echo(json.dumps({"stages": rows, "reward_models": judges}))
        return
    caption = "tokens: of a response, mean and 99th percentile"
    table = Table(title=f"run {records[0].run}", caption=caption, box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for column in ("stage", "model", "accuracy", "tokens", "p99", "seconds", "peak MB"):
        table.add_column(column, justify="left" if column in ("stage", "model") else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["stage"],
            row["model"],
            _number(row["accuracy"], ".1%"),
            _number(row["mean_tokens"], ".1f"),
            _number(row["p99_tokens"], ".0f"),
            _number(row["seconds"], ".0f"),
            _number(row["peak_memory_mb"], ".0f"),
        )
    console = Console()
    console.print(table)
    if judges:
        console.print(_reward_models(judges))
    page = HOME / "runs" / records[0].run / "report.html"
    if page.exists():
        console.print(f"report: {page}", highlight=False)


def _reward_models(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="reward models, by spot check", box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for column in ("model", "accuracy", "in the report", "answers", "no verdict", "wrong called right"):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for row in rows:
        shares = [_number(row[key], ".1%") for key in ("accuracy", "reported")]
        counts = [_number(row[key], "d") for key in ("answers", "no_verdict", "wrong_called_right")]
        table.add_row(row["model"], *shares, *counts)
    return table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


@main.command()
@click.argument("model")
@click.argument("question")
@click.option("--store", default=".longhaul/store", show_default=True, help="The recipe's store.")
@click.option("--temperature", default=1.0, show_default=True, help="0 takes the likeliest token each time.")
@click.option("--max-tokens", default=320, show_default=True, help="Longest response.")
@click.option("--seed", default=0, show_default=True, help="Seed of the sampling.")
@click.option("--json", "as_json", is_flag=True, help="Print {model, question, response, tokens} at the end instead.")
def sample(
    model: str, question: str, store: str, temperature: float, max_tokens: int, seed: int, as_json: bool
) -> None:
    """Ask MODEL a question, and see the response as it is written.

    MODEL is a stage of the newest run (rl, long2short/rl), RUN:STAGE, the beginning of a model's digest, or a folder.
    """
    folder = _model_folder(store, model)
    os.environ.update(engine_environment())
    from infra.configs import EngineConfig
    from infra.engine import Engine, Request
    from infra.logs import output, quiet_to
    from steps.chat import Chat

    written: list[int] = []
    with quiet_to(HOME / "sample.log"):
        chat = Chat(folder)
        engine = Engine(folder, EngineConfig(max_sequences=1))
        prompt = chat.prompt(question)
        shown = ""
        for token in engine.stream(Request(prompt, max_tokens, seed, temperature)):
            written.append(token)
            text = chat.text(written)
            if not as_json and not text.endswith("\ufffd"):
                output.write(printable(text[len(shown) :]))
                output.flush()
                shown = text
        engine.close()
    if as_json:
        answer = {"model": model, "question": question, "response": chat.text(written), "tokens": len(written)}
        click.echo(json.dumps(answer))
    else:
        click.echo()


@main.command()
@click.argument("model")
@click.option("--store", default=".longhaul/store", show_default=True, help="The recipe's store.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on.")
@click.option("--name", help="The model's name in the API; MODEL without it.")
def serve(model: str, store: str, host: str, port: int, name: str | None) -> None:
    """Serve MODEL by vLLM's OpenAI-compatible API (chat completions, streaming).

    MODEL is a stage of the newest run (rl, long2short/rl), RUN:STAGE, the beginning of a model's digest, or a folder.
    """
    folder = _model_folder(store, model)
    environment = {**os.environ, **engine_environment()}
    # The server talks to its engine across processes.
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder.resolve())]
    command += ["--served-model-name", name or model, "--host", host, "--port", str(port), "--block-size", "32"]
    if "DS_ACCELERATOR" in environment:
        command += ["--enforce-eager", "--dtype", "float32", "--kv-cache-memory-bytes", str(256 * 2**20)]
    os.execve(sys.executable, command, environment)


def _model_folder(store: str, model: str) -> Path:
    from flows.models import ModelNotFound, find_model
    from infra.store import Store, StoreError

    try:
        return find_model(Store(store, HOME / "cache" / "store"), model)
    except (ModelNotFound, StoreError) as error:
        fail(str(error))


if __name__ == "__main__":
    main()
