"""Whether an image can be decoded, within bounds: images of data sets are hostile.

Nothing is fetched. An image is a `data:` URI, or a regular file below a folder; its bytes are counted before they are
read, its pixels before they are decoded, and only formats that hold pixels and no programs are opened.
"""

import base64
import binascii
import io
import os
import stat
import warnings
from pathlib import Path

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


class UnreadableImage(ValueError):
    """An image cannot be read or decoded, or is larger than allowed; the message says why."""


def image_fault(address: str, folder: str, max_bytes: int, max_pixels: int) -> str | None:
    """Why an image cannot be used; None where it decodes. A file's name is taken from `folder`."""
    try:
        _decode(_read(address, Path(folder), max_bytes), max_pixels)
    except UnreadableImage as error:
        return str(error)
    return None


def _read(address: str, folder: Path, max_bytes: int) -> bytes:
    if address.startswith("data:"):
        head, comma, body = address.partition(",")
        if not comma or not head.endswith(";base64"):
            raise UnreadableImage("a data: URI that is not base64")
        if len(body) * 3 // 4 > max_bytes + 2:
            raise UnreadableImage(f"more than the {max_bytes:,} bytes that are allowed")
        try:
            return base64.b64decode(body, validate=True)
        except binascii.Error as error:
            raise UnreadableImage(f"broken base64: {error}") from error
    if "://" in address:
        raise UnreadableImage("an address elsewhere: images are files beside the data, or data: URIs")
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


def _decode(content: bytes, max_pixels: int) -> None:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow warns of sizes above a limit of its own; the limit here decides.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise UnreadableImage(f"{width} × {height} pixels, at most {max_pixels:,} are allowed")
                image.load()
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"too many pixels to be opened, at most {max_pixels:,} are allowed") from error
    except Image.UnidentifiedImageError as error:
        raise UnreadableImage(f"no image of the kinds {', '.join(FORMATS)}") from error
    except Exception as error:
        # Its decoders raise what they come upon: SyntaxError, struct.error, zlib.error, EOFError and others.
        raise UnreadableImage(f"cannot be decoded: {type(error).__name__}: {str(error)[:80]}") from error
