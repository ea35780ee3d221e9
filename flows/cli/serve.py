"""`longhaul serve`: serve a model over HTTP."""

import os
import sys

import click

from flows.cli.command import Command
from flows.cli.terminal import store_option
from flows.home import open_store
from infra.environment import engine_environment
from infra.images import ImageLimits

MEDIA = '{"image": 16, "video": 0}'
"""Most images and videos of one conversation."""


@click.command(cls=Command)
@click.argument("model")
@store_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option("--name", help="The model's name in the API (default: MODEL).")
@click.option(
    "--context",
    type=click.IntRange(1),
    help="Longest prompt and response together, in tokens (default: the checkpoint's own; on a CPU at most what a "
    "quarter of the free memory holds).",
)
def serve(model: str, store: str, host: str, port: int, name: str | None, context: int | None) -> None:
    """Serve MODEL with vLLM's OpenAI-compatible API (chat completions, streaming).

    A model that reads images takes them as the OpenAI client's image_url parts with data: URIs.

    MODEL is a stage of the newest run (rl, long2short/rl), RUN:STAGE, a tag, the beginning of a model's digest, or a
    folder.
    """
    from flows.models import find_model
    from infra.inference.serving import serving_sizes

    folder = find_model(open_store(store), model)
    # Otherwise a broken folder ends in the server's tracebacks, half a minute later.
    from steps.checkpoint_loadable import check_loadable

    check_loadable(folder)
    environment = {**os.environ, **engine_environment()}
    # The server talks to its engine across processes.
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder.resolve())]
    command += ["--served-model-name", name or model, "--host", host, "--port", str(port), "--block-size", "32"]
    if "DS_ACCELERATOR" in environment:
        sizes = serving_sizes(folder, context)
        if sizes is not None and context is None and sizes.context < sizes.positions:
            click.echo(
                f"context: {sizes.context:,} of {sizes.positions:,} tokens, which a quarter of the free memory holds "
                "(--context)",
                err=True,
            )
        cache = sizes.kv_cache if sizes else 256 * 2**20
        context = sizes.context if sizes else context
        command += ["--enforce-eager", "--dtype", "float32", "--kv-cache-memory-bytes", str(cache)]
    from infra.vision.architectures import folder_reads_images

    if folder_reads_images(folder):
        # Images come as data: URIs; nothing is fetched, and no file is read, on anybody's word.
        command += ["--allowed-media-domains", "nothing.invalid", "--limit-mm-per-prompt", MEDIA]
        environment.setdefault("VLLM_MAX_IMAGE_PIXELS", str(ImageLimits().max_pixels))
    command += ["--max-model-len", str(context)] if context else []
    os.execve(sys.executable, command, environment)
