"""A training example in tokens. A type without behaviour."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TokenExample:
    """A prompt and a response in tokens; only the response is learned from."""

    tokens: Sequence[int]
    prompt_length: int
    prompts_inside: Sequence[tuple[int, int]] = ()
    """Later prompts of a conversation, which are not learned either: for each the places of its first token and after
    its last one, in order."""
    images: Sequence[Path] = ()
    """Stored images (infra/vision/processor.py) whose tokens are among `tokens`, in order."""

    def __post_init__(self) -> None:
        if not 0 < self.prompt_length < len(self.tokens):
            raise ValueError(f"an example of {len(self.tokens)} tokens needs a prompt and a response")

    @property
    def response(self) -> Sequence[int]:
        """The tokens after the prompt, later prompts among them."""
        return self.tokens[self.prompt_length :]
