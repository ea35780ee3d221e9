"""What a model sees of an image file; images stored by the digest of their pixels come back or are refused."""

import base64
import hashlib
import io
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from infra.images import ImageLimits, UnreadableImage, decode_image, load_stored, pixel_digest, read_image, store_image

LIMITS = ImageLimits()
RED, WHITE = (255, 0, 0), (255, 255, 255)
TURNED_RIGHT = 6
"""EXIF's orientation for: turn clockwise to see it upright."""


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def two_by_one(mode: str = "RGB") -> Image.Image:
    """Red left, white right."""
    image = Image.new("RGB", (2, 1), WHITE)
    image.putpixel((0, 0), RED)
    return image.convert(mode)


def pixels(image: Image.Image) -> list[tuple[int, ...]]:
    return [image.getpixel((x, y)) for y in range(image.height) for x in range(image.width)]  # type: ignore[misc]


def test_a_photo_is_turned_upright_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = TURNED_RIGHT
    seen = decode_image(encoded(two_by_one(), exif=exif), LIMITS)
    assert seen.size == (1, 2)
    assert pixels(seen) == [RED, WHITE]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_over_white(mode: str) -> None:
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    palette = encoded(Image.new("P", (2, 2), 0), transparency=0)
    content = palette if mode == "P" else encoded(clear.convert(mode))
    assert pixels(decode_image(content, LIMITS)) == [WHITE] * 4


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_seen(format: str) -> None:
    frames = [Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), WHITE)]
    content = encoded(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
    assert pixels(decode_image(content, LIMITS)) == [RED] * 16


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "P", "RGB"])
def test_all_modes_with_8_bits_become_rgb(mode: str) -> None:
    format = "JPEG" if mode == "CMYK" else "PNG"
    assert decode_image(encoded(Image.new(mode, (8, 8)), format), LIMITS).mode == "RGB"


def png_of_16_bits_rgb() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head, rows = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0), zlib.compress(b"\0" + bytes(6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encoded(Image.new("I;16", (4, 4), 40_000)), "16 bits a channel"),
        (png_of_16_bits_rgb(), "16 bits a channel"),
        (encoded(Image.new("RGB", (400, 2))), "less than 200 times"),
        (encoded(Image.new("RGB", (2, 400))), "less than 200 times"),
        (encoded(Image.new("RGB", (300, 2))), "a side of at most 250"),
        (encoded(Image.new("RGB", (200, 200))), "200 × 200 pixels, at most 30,000"),
        (encoded(Image.effect_noise((99, 99), 99)), "bytes, at most 5,000"),
        (encoded(Image.new("RGB", (4, 4)), "TIFF"), "no image of the kinds"),
        (encoded(Image.effect_noise((50, 50), 50))[:-500], "cannot be decoded"),
    ],
)
def test_what_a_model_would_misread_or_choke_on_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImage, match=reason):
        decode_image(content, ImageLimits(5_000, 30_000, 400 if "times" in reason else 250))


def test_files_need_a_folder_and_uris_do_not() -> None:
    content = encoded(two_by_one())
    assert pixels(read_image("data:;base64," + base64.b64encode(content).decode(), None, LIMITS)) == [RED, WHITE]
    with pytest.raises(UnreadableImage, match="no folder to read images from"):
        read_image("a.png", None, LIMITS)


def test_the_digest_is_of_width_height_and_pixels_whatever_the_file_was() -> None:
    image = two_by_one()
    expected = hashlib.sha256(bytes([2, 0, 0, 0, 1, 0, 0, 0, *RED, *WHITE])).hexdigest()
    files = [encoded(image), encoded(image, "BMP"), encoded(image, "WEBP", lossless=True), encoded(image.convert("P"))]
    assert {pixel_digest(decode_image(content, LIMITS)) for content in files} == {expected}
    upright = Image.frombytes("RGB", (1, 2), image.tobytes())
    assert pixel_digest(upright) != expected, "the same bytes in another shape make a different image"


@given(st.binary(min_size=3, max_size=300), st.integers(1, 10))
def test_a_stored_image_comes_back_with_the_same_pixels(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, width: int
) -> None:
    width = min(width, len(content) // 3)
    height = len(content) // 3 // width
    image = Image.frombytes("RGB", (width, height), content[: width * height * 3])
    folder = tmp_path_factory.mktemp("data")
    address = store_image(image, folder)
    assert address == f"images/{pixel_digest(image)}.png" == store_image(image, folder)
    assert load_stored(folder, address).tobytes() == image.tobytes()
    assert [path.name for path in (folder / "images").iterdir()] == [address.removeprefix("images/")]


def test_a_stored_image_that_was_changed_is_missing_or_is_elsewhere_is_refused(tmp_path: Path) -> None:
    address = store_image(two_by_one(), tmp_path)
    (tmp_path / "images" / f"{'0' * 64}.png").write_bytes((tmp_path / address).read_bytes())
    (tmp_path / "images" / f"{'1' * 64}.png").write_bytes(encoded(two_by_one(), "BMP"))
    for refused, reason in {
        f"images/{'0' * 64}.png": "the file was changed",
        f"images/{'1' * 64}.png": "no image of the kinds PNG",
        f"images/{'2' * 64}.png": "No such file",
        f"images/../{address}": "not the address of a stored image",
        str(tmp_path / address): "not the address of a stored image",
        "data:image/png;base64,AAAA": "not the address of a stored image",
    }.items():
        with pytest.raises(UnreadableImage, match=reason):
            load_stored(tmp_path, refused)
