"""A prompt in tokens. A type without behaviour."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenPrompt:
    """What a response continues, up to where it begins."""

    tokens: list[int]
    """What the model reads: an image stands as all the tokens that the checkpoint's processor makes of it."""
    images: tuple[str, ...] = ()
    """Digests of the images, in order. Pixels are read where they are needed, and stored nowhere else."""
    unexpanded: list[int] | None = None
    """The same with one token for each image, as an engine takes it; None where there are no images."""

    def __len__(self) -> int:
        """Tokens that the model reads."""
        return len(self.tokens)
