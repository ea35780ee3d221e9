"""The `longhaul` command."""

import json
import os
import sys
from pathlib import Path

import click

from flows.cli.case_generation import test_cases
from flows.cli.cloud import cloud
from flows.cli.deploy import deploy
from flows.cli.evaluate import evaluate
from flows.cli.lineage import lineage
from flows.cli.notify import notify
from flows.cli.report import report
from flows.cli.run import plan, run
from flows.cli.runs import diff, runs, show
from flows.cli.sandbox import sandbox
from flows.cli.schedule import schedule
from flows.cli.store import store
from flows.cli.tag import tag
from flows.cli.terminal import fail, printable, store_option
from flows.home import HOME, open_store
from infra.environment import engine_environment


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """From a pretrained checkpoint to a reasoning model, by the recipe of the Kimi k1.5 report."""


for command in (
    run,
    plan,
    report,
    runs,
    show,
    diff,
    tag,
    evaluate,
    schedule,
    deploy,
    cloud,
    notify,
    store,
    lineage,
    sandbox,
    test_cases,
):
    main.add_command(command)


@main.command()
@click.argument("model")
@click.argument("question")
@store_option
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
    from infra.inference.engine import Engine, Request
    from infra.progress.logs import output, quiet_to
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
@store_option
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
    from infra.store.store import StoreError

    try:
        return find_model(open_store(store), model)
    except (ModelNotFound, StoreError) as error:
        fail(str(error))
