"""Whether a gate can use an image: one that is stored has the pixels that its address promises (infra/images.py)."""

from pathlib import Path

from infra.images import ImageLimits, UnreadableImage, load_stored, read_image, stored_digest


def image_fault(address: str, folder: str, max_bytes: int, max_pixels: int) -> str | None:
    """Why an image cannot be used; None where it decodes. A file's name is taken from `folder`."""
    try:
        limits = ImageLimits(max_bytes, max_pixels)
        image = read_image(address, Path(folder), limits)
        if stored_digest(address) is not None:
            load_stored(Path(folder), address)
    except UnreadableImage as error:
        return str(error)
    image.close()
    return None
