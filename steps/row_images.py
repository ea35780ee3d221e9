"""The images of rows: each is read once, and from then on goes by the digest of its pixels (infra/images.py)."""

from pathlib import Path
from typing import TYPE_CHECKING

from infra.images import ImageLimits, UnreadableImage, pixel_digest, read_image, store_image, stored_address
from steps.problem import Example, Part, Problem, Prompt, Turn

if TYPE_CHECKING:
    from PIL.Image import Image


class RowImages:
    """Where the images of rows go.

    Args:
        folder: the folder of the data, which gets `images/`; None: images are read and checked, and not kept.
    """

    def __init__(self, folder: Path | None = None, limits: ImageLimits | None = None) -> None:
        self.count = 0
        """Images that were read, each as often as a row has it."""
        self._folder = folder
        self._limits = limits or ImageLimits()

    def keep(self, image: "Image") -> str:
        """The address of an RGB image from now on."""
        self.count += 1
        if self._folder is None:
            return stored_address(pixel_digest(image))
        return store_image(image, self._folder)

    def read(self, row: Problem | Example, files: Path | None) -> Problem | Example:
        """The row with the addresses of its images from now on; `files` is the folder in which image files lie.

        Raises UnreadableImage for an image that cannot be used, naming its place in the row.
        """
        if not row.images:
            return row
        if isinstance(row, Problem):
            return row.model_copy(update={"prompt": self._prompt(row.prompt, files, [])})
        place: list[str] = []
        history = tuple(Turn(role=turn.role, content=self._prompt(turn.content, files, place)) for turn in row.history)
        return row.model_copy(update={"history": history, "prompt": self._prompt(row.prompt, files, place)})

    def _prompt(self, prompt: Prompt, files: Path | None, seen: list[str]) -> Prompt:
        if isinstance(prompt, str):
            return prompt
        parts = []
        for part in prompt:
            if part.image is not None:
                seen.append(part.image)
                part = Part(type="image", image=self._address(part.image, files, len(seen)))
            parts.append(part)
        return tuple(parts)

    def _address(self, address: str, files: Path | None, place: int) -> str:
        try:
            return self.keep(read_image(address, files, self._limits))
        except UnreadableImage as error:
            name = "" if address.startswith("data:") else f" ({address[:200]})"
            raise UnreadableImage(f"image {place}{name}: {error}") from error


class UnreadImages(RowImages):
    """Leaves images where rows have them: for a look at the rows alone."""

    def read(self, row: Problem | Example, files: Path | None) -> Problem | Example:
        """The row as it is."""
        return row
