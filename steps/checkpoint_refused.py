"""The error of a checkpoint that cannot be used."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

from infra.errors import LonghaulError


class CheckpointRefused(LonghaulError, ValueError):
    """A checkpoint cannot be used; the message names the file, what is wrong with it, and the way out."""


@contextmanager
def refusing(file: str, reason: str) -> Iterator[None]:
    """Refuse the file on any error: what transformers raises for a file that it cannot use has no common class."""
    try:
        yield
    except (CheckpointRefused, MemoryError):
        raise
    except Exception as error:
        # transformers' messages are paragraphs, some of which recommend what is never done here.
        said = textwrap.shorten(str(error), 200, placeholder=" …")
        raise CheckpointRefused(f"{file}: {reason} ({type(error).__name__}: {said})") from error
