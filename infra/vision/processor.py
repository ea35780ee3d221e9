"""What a checkpoint's processor makes of stored images: the tokens that stand for one, and its pixels.

An image is the path of a stored one, `FOLDER/images/<digest>.png` (infra/images.py): its name says what is seen.
"""

import os
import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from infra.errors import LonghaulError
from infra.images import load_stored

if TYPE_CHECKING:
    from PIL.Image import Image

_CACHED_BYTES = 512 * 2**20
"""Of pixels that are kept for the next time."""


class ImageNotRead(LonghaulError, ValueError):
    """A checkpoint's processor cannot read an image; the message names it."""


@dataclass(frozen=True)
class ReadImage:
    """An image as the model takes it."""

    name: str
    """What it is recognised by; the same image has the same."""
    tokens: tuple[int, ...]
    """What stands in place of the image's one token in a prompt."""
    pixels: dict[str, Tensor]
    """By the names of the model's arguments, with this image alone."""


def open_image(image: Path) -> "Image":
    """The RGB image at a stored path. Raises UnreadableImage."""
    return load_stored(image.parent.parent, f"{image.parent.name}/{image.name}")


class ImageReader:
    """The processor of one checkpoint, and the images that it read last."""

    def __init__(self, model: Path) -> None:
        from transformers import AutoProcessor

        # Fast image processors warn of each other at every start.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        processor: Any = AutoProcessor.from_pretrained(model, local_files_only=True, trust_remote_code=False)
        self._processor = processor
        self.token: str = processor.image_token
        """The one token's text that stands for an image in a prompt."""
        self.token_id: int = processor.image_token_id
        self._tokens: dict[str, tuple[int, ...]] = {}
        self._read: OrderedDict[str, ReadImage] = OrderedDict()
        self._bytes = 0

    def tokens(self, image: Path) -> tuple[int, ...]:
        """What stands in place of the image's one token. Raises UnreadableImage, ImageNotRead."""
        if image.name not in self._tokens:
            self._tokens[image.name] = self.read(image).tokens
        return self._tokens[image.name]

    def read(self, image: Path) -> ReadImage:
        """One image. Raises UnreadableImage, ImageNotRead."""
        if image.name in self._read:
            self._read.move_to_end(image.name)
            return self._read[image.name]
        one = self.process(open_image(image), image.name)
        self._read[image.name] = one
        self._bytes += _size(one)
        while self._bytes > _CACHED_BYTES and len(self._read) > 1:
            self._bytes -= _size(self._read.popitem(last=False)[1])
        return one

    @property
    def kind(self) -> str:
        """transformers' class."""
        return type(self._processor).__name__

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        """Those settings of the image processor that it has."""
        own = self._processor.image_processor.to_dict()
        return {name: own[name] for name in names if own.get(name) is not None}

    def process(self, image: "Image", name: str) -> ReadImage:
        """An image in memory. Raises ImageNotRead, with its name."""
        try:
            made = self._processor(text=[self.token], images=[image], add_special_tokens=False, return_tensors="pt")
        except Exception as error:  # processors raise what they come upon
            raise ImageNotRead(
                f"image {name} ({image.width} × {image.height}) is not read by {self.kind}: "
                f"{type(error).__name__}: {' '.join(str(error).split())[:200]}: take it out of the data"
            ) from error
        tokens = tuple(made["input_ids"][0].tolist())
        names = ("pixel_values", "image_grid_thw", "pixel_attention_mask")
        return ReadImage(name, tokens, {key: made[key] for key in names if key in made})

    @cached_property
    def blank(self) -> ReadImage:
        """A small white image."""
        from PIL import Image

        return self.process(Image.new("RGB", (32, 32), "white"), "blank")


def _size(image: ReadImage) -> int:
    return sum(tensor.nbytes for tensor in image.pixels.values()) + sys.getsizeof(image.tokens)


def join_pixels(images: Sequence[ReadImage]) -> dict[str, Tensor]:
    """Several images' pixels as the model takes them together, in order."""
    joined = {}
    for name in images[0].pixels:
        parts = [image.pixels[name] for image in images]
        # Patches and grids follow each other; tiles [1, tiles, …] stand in one row.
        joined[name] = torch.cat(parts, 1 if parts[0].ndim > 3 else 0)
    return joined
