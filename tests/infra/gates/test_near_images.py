"""Images that nearly repeat one another: a photo encoded again does, and a text with a different number does not."""

import io
from pathlib import Path
from random import Random

from PIL import Image, ImageFilter

from infra.gates.near_images import NearImages, look
from infra.images import store_image
from steps.nano_world.drawn_text import draw_text


def photo(seed: int) -> Image.Image:
    """A picture with large and small shapes."""
    noise = Image.frombytes("L", (200, 150), Random(seed).randbytes(200 * 150)).filter(ImageFilter.GaussianBlur(6))
    return noise.point(lambda level: min(255, max(0, (level - 128) * 8 + 128))).convert("RGB")


def again(image: Image.Image, quality: int, scale: float) -> Image.Image:
    """The image made smaller and compressed."""
    file = io.BytesIO()
    image.resize((int(image.width * scale), int(image.height * scale))).save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def test_a_photo_that_was_compressed_or_made_smaller_is_the_same_photo() -> None:
    first, other = photo(0), photo(1)
    for quality, scale in ((90, 1.0), (60, 1.0), (90, 0.5)):
        assert look(first).near(look(again(first, quality, scale)))
        assert not look(first).near(look(again(other, quality, scale)))


def test_texts_that_differ_in_a_number_are_different_images() -> None:
    one, other = (draw_text(f"Start with {number}. Add 5.").image for number in (37, 32))
    assert not look(one).near(look(other))
    assert look(one).near(look(again(one, 85, 1.0)))


def test_rows_are_named_by_the_held_out_problem_whose_image_they_have(tmp_path: Path) -> None:
    addresses = [store_image(image, tmp_path) for image in (photo(0), again(photo(0), 80, 1.0), photo(1))]
    near = NearImages([("test-1", addresses[0])], tmp_path)
    assert near.find(addresses[1:2]) == near.find([addresses[2], addresses[0]]) == "test-1"
    assert near.find([addresses[2]]) is None and near.find(()) is None
