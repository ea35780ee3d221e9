"""`longhaul serve`: serve a model over HTTP."""

import os
import sys

import click

from flows.cli.command import Command
from flows.cli.terminal import store_option
from flows.home import open_store
from infra.environment import engine_environment


@click.command(cls=Command)
@click.argument("model")
@store_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option("--name", help="The model's name in the API (default: MODEL).")
def serve(model: str, store: str, host: str, port: int, name: str | None) -> None:
    """Serve MODEL with vLLM's OpenAI-compatible API (chat completions, streaming).

    MODEL is a stage of the newest run (rl, long2short/rl), RUN:STAGE, a tag, the beginning of a model's digest, or a
    folder.
    """
    from flows.models import find_model

    folder = find_model(open_store(store), model)
    environment = {**os.environ, **engine_environment()}
    # The server talks to its engine across processes.
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder.resolve())]
    command += ["--served-model-name", name or model, "--host", host, "--port", str(port), "--block-size", "32"]
    if "DS_ACCELERATOR" in environment:
        command += ["--enforce-eager", "--dtype", "float32", "--kv-cache-memory-bytes", str(256 * 2**20)]
    os.execve(sys.executable, command, environment)
