"""Images of data sets: whole ones decode; what is broken, too large or elsewhere is refused, and nothing is fetched."""

import base64
import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from infra.gates.images import image_fault
from infra.images import store_image


def encoded(format: str = "PNG", size: tuple[int, int] = (8, 6)) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(file, format)
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes that says it has width × height pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def fault(address: str, folder: Path, max_bytes: int = 10_000, max_pixels: int = 10_000) -> str | None:
    return image_fault(address, str(folder), max_bytes, max_pixels)


def as_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_whole_image_decodes_from_a_file_and_from_a_uri(tmp_path: Path, format: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one").write_bytes(encoded(format))
    assert fault("images/one", tmp_path) is None
    assert fault(as_uri(encoded(format)), tmp_path) is None


def test_of_a_stored_image_the_pixels_are_limited_and_not_its_file(tmp_path: Path) -> None:
    """A PNG has more bytes than the JPEG that it was made of."""
    address = store_image(Image.effect_noise((60, 60), 50).convert("RGB"), tmp_path)
    assert fault(address, tmp_path, max_bytes=1_000) is None
    assert "at most 3,000 are allowed" in str(fault(address, tmp_path, max_pixels=3_000))
    (tmp_path / address).write_bytes(encoded())
    assert "the file was changed" in str(fault(address, tmp_path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encoded(size=(60, 60))[:500], "cannot be decoded"),
        (encoded("JPEG")[:-100], "cannot be decoded"),
        (b"", "no image of the kinds"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image of the kinds"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image of the kinds"),
        (bomb(9_000, 9_000), "9000 × 9000 pixels, at most 10,000 are allowed"),
        (bomb(200_000, 200_000), "too many pixels to be opened, at most 10,000 are allowed"),
        (bomb(90, 90), "cannot be decoded"),
        (encoded("BMP", (80, 80)), "bytes"),
    ],
)
def test_a_broken_or_oversized_image_is_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "one").write_bytes(content)
    for address in ("one", as_uri(content)):
        reported = fault(address, tmp_path)
        assert reported is not None and reason in reported


def test_only_regular_files_below_the_folder_are_read(tmp_path: Path) -> None:
    inside, outside = tmp_path / "data", tmp_path / "outside.png"
    inside.mkdir()
    outside.write_bytes(encoded())
    (inside / "link.png").symlink_to(outside)
    os.mkfifo(inside / "pipe")
    refused = {
        "../outside.png": "outside the data's folder",
        str(outside): "outside the data's folder",
        "link.png": "outside the data's folder",
        "pipe": "no regular file",
        ".": "cannot be read: Is a directory",
        "absent.png": "cannot be read: No such file",
        "a\0b": "cannot be read",
        "https://example.org/a.png": "an address elsewhere",
        "s3://bucket/a.png": "an address elsewhere",
        "file:///etc/hostname": "an address elsewhere",
        "data:image/png,abc": "not base64",
        "data:image/png;base64,@@@": "broken base64",
    }
    for address, reason in refused.items():
        reported = fault(address, inside)
        assert reported is not None and reason in reported, address
