"""Whether a gate can use an image: one that is stored has the pixels that its address promises (infra/images.py)."""

from pathlib import Path

from infra.images import ImageLimits, UnreadableImage, load_stored, read_image, stored_digest


def image_fault(address: str, folder: str, max_bytes: int, max_pixels: int) -> str | None:
    """Why an image cannot be used; None where it decodes. A file's name is taken from `folder`.

    Of a stored image only the pixels are limited: its file, a PNG, may be larger than the one that it was made of.
    """
    try:
        if stored_digest(address) is None:
            image = read_image(address, Path(folder), ImageLimits(max_bytes, max_pixels))
        else:
            image = load_stored(Path(folder), address, max_pixels)
    except UnreadableImage as error:
        return str(error)
    image.close()
    return None
