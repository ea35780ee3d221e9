"""The images of evaluated prompts as the tracker gets them, each with the prompt and the response to it."""

from infra.errors import LonghaulError
from infra.store.evaluation import Evaluation
from infra.store.stored_images import StoredImages
from infra.text import visible

MAX_IMAGES = 32
MAX_CHARACTERS = 200
"""Of the prompt and of the response in a caption."""


def tracked_images(evaluation: Evaluation | None, images: StoredImages) -> list[tuple[bytes, str]]:
    """Thumbnails of the evaluation's examples, each with a caption; without those that cannot be had."""
    pictures: list[tuple[bytes, str]] = []
    for example in evaluation.examples if evaluation else []:
        words = f"{_start(example.prompt)}\n{example.reason}: {_start(example.response)}"
        for digest in example.images:
            if len(pictures) == MAX_IMAGES:
                return pictures
            try:
                pictures.append((images.thumbnail(digest), words))
            except LonghaulError:  # the stage's result does not hang on what is displayed of it
                continue
    return pictures


def _start(text: str) -> str:
    return visible(text[:MAX_CHARACTERS]) + ("…" if len(text) > MAX_CHARACTERS else "")
