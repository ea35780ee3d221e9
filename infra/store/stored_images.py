"""Stored images of prompts, found by their digests in folders of data in the store, and made small to be looked at.

What is displayed has the pixels that its digest names, whatever the folder's file holds by now.
"""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from infra.images import FOLDER, LARGEST, ImageLimits, UnreadableImage, decode_image, pixel_digest, stored_address
from infra.store.records import StageRecord
from infra.store.store import FileEntry, Store, StoreError
from infra.store.stored_file import read_stored_file

SIDE = 320
"""Pixels of a thumbnail's longer side."""

LIMITS = ImageLimits(max_bytes=50_000_000, max_pixels=25_000_000, max_side=LARGEST.max_side)
"""Of images that are displayed: a page must not take all memory of the machine that makes it."""


@dataclass(frozen=True)
class StoredImages:
    """The images of some stored folders of data, given by the folders' digests."""

    store: Store
    folders: tuple[str, ...]

    @classmethod
    def of(cls, store: Store, records: Iterable[StageRecord]) -> "StoredImages":
        """Those of the data that some executions read or made."""
        refs = [ref for record in records for ref in (*record.inputs.values(), *record.outputs.values())]
        return cls(store, tuple(dict.fromkeys(ref.digest for ref in refs if ref.kind == "dataset")))

    def whole(self, digest: str) -> bytes:
        """The bytes of the image's PNG.

        Raises UnreadableImage where no folder has it, or it is not what its digest names; StoreError for damage.
        """
        problem: StoreError | None = None
        for folder in self.folders:
            try:
                entry = _images_in(self.store, folder).get(stored_address(digest))
                if entry is not None:
                    if entry.size > LIMITS.max_bytes:
                        raise UnreadableImage(f"{entry.size:,} bytes; up to {LIMITS.max_bytes:,} are displayed")
                    content = read_stored_file(self.store, folder, entry)
                    if pixel_digest(decode_image(content, LIMITS)) != digest:
                        raise UnreadableImage("its pixels have another digest")
                    return content
            except StoreError as error:  # another folder may have it as well
                problem = error
        if problem is not None:
            raise problem
        raise UnreadableImage("no data that the stage read or made has this image")

    def thumbnail(self, digest: str) -> bytes:
        """A PNG of the image, its longer side at most SIDE pixels. Raises as `whole`."""
        return _thumbnail(self, digest)


# What a digest names never changes.
@lru_cache(maxsize=256)
def _thumbnail(images: StoredImages, digest: str) -> bytes:
    pixels = decode_image(images.whole(digest), LIMITS)
    pixels.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    pixels.save(file, "PNG")
    return file.getvalue()


@lru_cache(maxsize=64)
def _images_in(store: Store, folder: str) -> Mapping[str, FileEntry]:
    """The stored images of a folder of data, by their paths. Raises StoreError."""
    return {entry.path: entry for entry in store.manifest(folder).files if entry.path.startswith(f"{FOLDER}/")}
