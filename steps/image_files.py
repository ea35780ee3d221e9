"""Images beside rows that a stage writes: its output is then whole, and its images lead to all that read it."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from infra.images import FOLDER
from infra.vision.folders import ImageFolders
from steps.problem import Example, Problem


def keep_images(rows: Iterable[Problem | Example], folder: Path, images: ImageFolders) -> None:
    """Put the images that rows name below the folder of their file. Raises UnreadableImage for one that is missing."""
    for address in dict.fromkeys(address for row in rows for address in row.images):
        name = Path(address).name
        place = folder / FOLDER / name
        place.parent.mkdir(parents=True, exist_ok=True)
        source = images.path(name.removesuffix(".png"))
        if place.exists():
            continue
        try:
            os.link(source, place)  # the same bytes, and they take no room
        except OSError:
            shutil.copyfile(source, place)
