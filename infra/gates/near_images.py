"""Images that nearly repeat one another: encoded again, made smaller, or with a few pixels changed.

A perceptual hash proposes pairs: 256 bits, each whether a pixel of the image at 17 × 16 is brighter than its right
neighbour (dHash). Each pair is then compared at 32 × 32 pixels, where the largest difference decides: two charts that
differ in one number have the same hash, and are different images.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.images import UnreadableImage, load_stored

if TYPE_CHECKING:
    from PIL.Image import Image

BITS = 16
"""Most bits of 256 in which the hashes of a pair differ."""
DIFFERENCE = 24
"""Most levels of 256 by which any pixel of a pair differs at 32 × 32."""
MARGIN = 8
"""Levels by which a pixel has to be brighter than the next one: compression leaves traces on plain ground."""
_SIDE, _LOOK = 16, 32


@dataclass(frozen=True)
class Look:
    """What an image looks like."""

    hash: int
    small: bytes

    def near(self, other: "Look") -> bool:
        """Whether two images nearly repeat one another."""
        if (self.hash ^ other.hash).bit_count() > BITS:
            return False
        return max(abs(a - b) for a, b in zip(self.small, other.small, strict=True)) <= DIFFERENCE


def look(image: "Image") -> Look:
    """The look of an RGB image."""
    from PIL import Image

    grey = image.convert("L")
    row = grey.resize((_SIDE + 1, _SIDE), Image.Resampling.BOX).tobytes()
    bits = 0
    for place in range(len(row)):
        if place % (_SIDE + 1) != _SIDE:
            bits = bits << 1 | (row[place] > row[place + 1] + MARGIN)
    return Look(bits, grey.resize((_LOOK, _LOOK), Image.Resampling.BOX).tobytes())


class NearImages:
    """Finds which held-out image an image nearly repeats.

    Args:
        held_out: names and stored addresses.
        folder: where the images lie.
    """

    def __init__(self, held_out: Iterable[tuple[str, str]], folder: Path) -> None:
        self._folder = folder
        self._looks: dict[str, Look | None] = {}
        self._held_out = [(name, one) for name, address in held_out if (one := self._look(address))]

    def find(self, images: Sequence[str]) -> str | None:
        """The name of the first held-out image that one of these nearly repeats."""
        looks = [one for address in images if (one := self._look(address))]
        return next((name for name, other in self._held_out if any(one.near(other) for one in looks)), None)

    def _look(self, address: str) -> Look | None:
        """None for an image that cannot be read: another rule says so."""
        if address not in self._looks:
            try:
                self._looks[address] = look(load_stored(self._folder, address))
            except UnreadableImage:
                self._looks[address] = None
        return self._looks[address]
