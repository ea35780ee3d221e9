"""`longhaul sample`: ask a model a question."""

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.cli.command import Command
from flows.cli.terminal import printable, store_option
from flows.home import HOME, open_store
from infra.environment import engine_environment
from infra.errors import LonghaulError

if TYPE_CHECKING:
    from steps.problem import Problem


@click.command(cls=Command)
@click.argument("model")
@click.argument("question")
@store_option
@click.option(
    "--temperature",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0),
    help="0 takes the likeliest token each time.",
)
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with an image that comes before the question; several times for several.",
)
@click.option("--max-tokens", default=320, show_default=True, type=click.IntRange(1), help="Longest response.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the sampling.")
@click.option("--show-prompt", is_flag=True, help="Print the whole prompt first, as the model reads it.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print {model, question, prompt, response, tokens} at the end instead."
)
def sample(
    model: str,
    question: str,
    store: str,
    temperature: float,
    images: tuple[Path, ...],
    max_tokens: int,
    seed: int,
    show_prompt: bool,
    as_json: bool,
) -> None:
    """Ask MODEL a question, and see the response as it is written.

    MODEL is a stage of the newest run (rl, long2short/rl), RUN:STAGE, a tag, the beginning of a model's digest, or a
    folder.
    """
    from flows.models import find_model

    folder = find_model(open_store(store), model)
    os.environ.update(engine_environment())
    from infra.configs import EngineConfig
    from infra.inference.context import longest_context
    from infra.inference.engine import Engine
    from infra.inference.requests import Request
    from infra.progress.logs import output, quiet_to
    from infra.vision.folders import ImageFolders
    from steps.chat import Chat
    from steps.checkpoint_loadable import check_loadable

    written: list[int] = []
    with quiet_to(HOME / "sample.log"), tempfile.TemporaryDirectory() as scratch:
        check_loadable(folder)
        try:
            chat = Chat(folder, ImageFolders((Path(scratch),)))
            longest = longest_context(json.loads((folder / "config.json").read_bytes()))
            context = EngineConfig().context
            context = min(context, longest or context)
        except Exception as error:  # transformers raises many kinds for a folder that is not a whole model
            raise _not_loaded(folder, error) from error
        try:
            prompt = chat.read(_problem(question, images, Path(scratch)))
        except ValueError as error:
            raise LonghaulError(str(error)) from error
        if len(prompt) >= context:
            raise LonghaulError(
                f"the question has {len(prompt)} tokens, and the model's context is {context} here: shorten it"
            )
        try:
            engine = Engine(folder, EngineConfig(max_sequences=1, context=context))
        except Exception as error:  # vLLM, too
            raise _not_loaded(folder, error) from error
        start = prompt.tokens if prompt.unexpanded is None else prompt.unexpanded
        if show_prompt and not as_json:
            output.write(printable(str(chat.tokenizer.decode(start))) + "\n")
        displayed = ""
        more = len(prompt) - len(start)
        request = Request(start, max_tokens, seed, temperature, images=chat.paths(prompt), image_tokens=more)
        for token in engine.stream(request):
            written.append(token)
            text = chat.text(written)
            if not as_json and not text.endswith("\ufffd"):
                output.write(printable(text[len(displayed) :]))
                output.flush()
                displayed = text
        engine.close()
    if as_json:
        answer = {
            "model": model,
            "question": question,
            "prompt": chat.tokenizer.decode(start),
            "response": chat.text(written),
            "tokens": len(written),
        }
        click.echo(json.dumps(answer))
    else:
        click.echo()


def _not_loaded(folder: Path, error: Exception) -> LonghaulError:
    reason = " ".join(str(error).split())[:300]
    return LonghaulError(f"{folder} is not a model that can be loaded: {reason} (log: {HOME / 'sample.log'})")


def _problem(question: str, images: tuple[Path, ...], folder: Path) -> "Problem | str":
    """The question, with images from files before it, which are stored below a folder. Raises UnreadableImage."""
    from infra.images import ImageLimits, UnreadableImage, read_image, store_image
    from steps.problem import Part, Problem

    if not images:
        return question
    parts = []
    for path in images:
        file = path.resolve()  # the user may name a link to anywhere
        try:
            image = read_image(file.name, file.parent, ImageLimits())
        except UnreadableImage as error:
            raise UnreadableImage(f"{path}: {error}") from error
        parts.append(Part(type="image", image=store_image(image, folder)))
    parts.append(Part(type="text", text=question))
    return Problem(id="question", prompt=tuple(parts), answer="-", verifier="math")
