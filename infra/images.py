"""Images of prompts: read within bounds, stored by a digest of their pixels, and read back. Nothing else opens images.

Images of data sets are hostile. Nothing is fetched: an image is a `data:` URI, or a regular file below a folder. Its
bytes are counted before they are read and its pixels before they are decoded, and only formats that hold pixels and no
programs are opened. What is read is what a model sees: turned as EXIF says, the first frame, RGB, over white where it
is transparent, as vLLM's server does it.

A stored image is `images/<digest>.png` below a folder, a whole PNG of these pixels. The digest is SHA-256 over width
and height (4 bytes each, little endian) and the RGB bytes, row by row: it says what is seen, whatever the file was.
"""

import base64
import hashlib
import io
import os
import re
import stat
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.errors import LonghaulError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
FOLDER = "images"
"""Where stored images lie, below the folder of the data."""
MAX_ASPECT = 200
"""Times that one side may be longer than the other: processors of models raise from here on."""

_ADDRESS = re.compile(rf"{FOLDER}/([0-9a-f]{{64}})\.png")
_DEEP = re.compile(r"I|F|I;16.*")
"""Pillow's modes with more than 8 bits a channel: brought to 8, all above 255 turns white without a word."""
_PNG_DEPTH = 24
"""Where a PNG says how many bits a channel has."""


@dataclass(frozen=True)
class ImageLimits:
    """How large an image may be as a file, and decoded."""

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    max_side: int = 20_000
    """Pixels of the longer side."""


LARGEST = ImageLimits(400_000_000, 100_000_000, 65_535)
"""What no setting may exceed, and stored images keep to. A PNG may have more bytes than its pixels."""


class UnreadableImage(LonghaulError, ValueError):
    """An image cannot be read or decoded, or is larger than allowed; the message says why."""


def read_image(address: str, folder: Path | None, limits: ImageLimits) -> "Image":
    """The RGB image at an address: a `data:` URI with base64, or a path below `folder`; None: there are no files.

    Raises UnreadableImage.
    """
    return decode_image(_read(address, folder, limits.max_bytes), limits)


def decode_image(content: bytes, limits: ImageLimits) -> "Image":
    """The RGB image in an encoded file. Raises UnreadableImage."""
    if len(content) > limits.max_bytes:
        raise UnreadableImage(f"{len(content):,} bytes, at most {limits.max_bytes:,} are allowed")
    return _decode(content, limits, FORMATS)


def pixel_digest(image: "Image") -> str:
    """What an RGB image is recognised by, in hex."""
    return hashlib.sha256(struct.pack("<II", *image.size) + image.tobytes()).hexdigest()


def stored_address(digest: str) -> str:
    """The address of a stored image, relative to the folder of the data."""
    return f"{FOLDER}/{digest}.png"


def stored_digest(address: str) -> str | None:
    """The digest in the address of a stored image; None for any other address."""
    match = _ADDRESS.fullmatch(address)
    return match[1] if match else None


def store_image(image: "Image", folder: Path) -> str:
    """Write an RGB image below a folder, unless it is there; returns its address."""
    address = stored_address(pixel_digest(image))
    path = folder / address
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        aside.write_bytes(_png(image))
        aside.replace(path)
    return address


def load_stored(folder: Path, address: str, max_pixels: int = LARGEST.max_pixels) -> "Image":
    """The RGB image at a stored address below a folder, with exactly the pixels that its address promises.

    Raises UnreadableImage for another kind of address, a file that is missing or broken, and for other pixels.
    """
    digest = stored_digest(address)
    if digest is None:
        raise UnreadableImage(f"{address[:100]!r} is not the address of a stored image ({FOLDER}/<digest>.png)")
    try:
        limits = ImageLimits(LARGEST.max_bytes, max_pixels, LARGEST.max_side)
        image = _decode(_read_file(address, folder, limits.max_bytes), limits, ("PNG",))
    except UnreadableImage as error:
        raise UnreadableImage(f"{folder / address}: {error}") from error
    if (actual := pixel_digest(image)) != digest:
        raise UnreadableImage(f"{folder / address}: its pixels have the digest {actual}: the file was changed")
    return image


def _png(image: "Image") -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _read(address: str, folder: Path | None, max_bytes: int) -> bytes:
    if address.startswith("data:"):
        head, comma, body = address.partition(",")
        if not comma or not head.endswith(";base64"):
            raise UnreadableImage("a data: URI that is not base64")
        if len(body) * 3 // 4 > max_bytes + 2:
            raise UnreadableImage(f"more than the {max_bytes:,} bytes that are allowed")
        try:
            return base64.b64decode(body, validate=True)
        except ValueError as error:  # binascii.Error, or characters beyond ASCII
            raise UnreadableImage(f"broken base64: {error}") from error
    if "://" in address:
        raise UnreadableImage("an address elsewhere: images are files beside the data, or data: URIs")
    if folder is None:
        raise UnreadableImage("a file, and there is no folder to read images from: name it, or use data: URIs")
    return _read_file(address, folder, max_bytes)


def _read_file(address: str, folder: Path, max_bytes: int) -> bytes:
    try:
        path = (folder / address).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise UnreadableImage("a file outside the data's folder")
        # Opening a pipe or a device may block for ever, unless opened without blocking.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise UnreadableImage("no regular file")
            if state.st_size > max_bytes:
                raise UnreadableImage(f"{state.st_size:,} bytes, at most {max_bytes:,} are allowed")
            return file.read(max_bytes)
    except UnreadableImage:
        raise
    except OSError as error:
        raise UnreadableImage(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UnreadableImage(f"cannot be read: {error}") from error


def _decode(content: bytes, limits: ImageLimits, formats: tuple[str, ...]) -> "Image":
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow warns of sizes above a limit of its own; the limit here decides.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=formats) as image:
                _check_size(*image.size, limits)
                deep_png = image.format == "PNG" and content[_PNG_DEPTH] > 8
                if deep_png or _DEEP.fullmatch(image.mode):
                    raise UnreadableImage("16 bits a channel or more: convert it to 8")
                # The first frame alone, and the pixels of an animation's canvas.
                image.load()
                return _as_seen(image)
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"too many pixels to be opened, at most {limits.max_pixels:,} are allowed") from error
    except Image.UnidentifiedImageError as error:
        raise UnreadableImage(f"no image of the kinds {', '.join(formats)}") from error
    except Exception as error:
        # Its decoders raise what they come upon: SyntaxError, struct.error, zlib.error, EOFError and others.
        raise UnreadableImage(f"cannot be decoded: {type(error).__name__}: {str(error)[:80]}") from error


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels:
        raise UnreadableImage(f"{width} × {height} pixels, at most {limits.max_pixels:,} are allowed")
    if max(width, height) > limits.max_side:
        raise UnreadableImage(f"{width} × {height} pixels, a side of at most {limits.max_side:,} is allowed")
    if min(width, height) < 1 or max(width, height) >= MAX_ASPECT * min(width, height):
        raise UnreadableImage(f"{width} × {height} pixels: a side has to be less than {MAX_ASPECT} times the other")


def _as_seen(image: "Image") -> "Image":
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        shape = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", shape.size, "white"), shape)
    return upright.convert("RGB")
