"""What the engine is asked for, and what it answers. Types without behaviour."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from infra.inference.repetition import Repetition


@dataclass(frozen=True)
class Request:
    """One sequence to continue."""

    tokens: Sequence[int]
    """The prompt and, for a response that continues, its tokens so far. An image is one token."""
    max_tokens: int
    seed: int
    temperature: float = 1.0
    top_p: float = 1.0
    response: int = 0
    """How many of the last of `tokens` are the response's: repetition that began in them counts."""
    repetition: Repetition | None = None
    images: Sequence[Path] = ()
    """Stored images (infra/vision/processor.py) of the prompt, in order."""
    image_tokens: int = 0
    """How many more tokens than `tokens` the model reads: an image is many to it."""

    @property
    def length(self) -> int:
        """Tokens that the model reads."""
        return len(self.tokens) + self.image_tokens


@dataclass(frozen=True)
class Completion:
    """What the engine made of a request."""

    index: int
    """Place of the request in the call to `generate`."""
    tokens: list[int]
    logprobs: list[float] = field(repr=False)
    """Log-probability of each token under the distribution that it was sampled from."""
    ended: Literal["stop", "length", "repetition"]
    """An end token (the last of `tokens`), `max_tokens` or the context reached, or repetition."""
    cached: int = 0
    """How many of the tokens that the model reads the prefix cache had: the others were computed."""
