"""Where stored images lie: a digest says which image is meant, whatever folder has it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from infra.images import FOLDER, UnreadableImage, stored_address


@dataclass(frozen=True)
class ImageFolders:
    """Folders of data, each with its images below `images/`, if it has any."""

    folders: tuple[Path, ...] = ()

    @classmethod
    def among(cls, folders: Iterable[Path]) -> "ImageFolders":
        """Those of some folders that have images."""
        return cls(tuple(folder for folder in folders if (folder / FOLDER).is_dir()))

    def path(self, digest: str) -> Path:
        """The absolute path of an image. Raises UnreadableImage where no folder has it."""
        address = stored_address(digest)
        for folder in self.folders:
            if (path := folder.absolute() / address).is_file():
                return path
        looked = ", ".join(map(str, self.folders)) or "no folder with images"
        raise UnreadableImage(f"the image {digest} is not there (looked in {looked}): run the data stage again")
