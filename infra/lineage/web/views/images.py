"""The images of prompts, as models saw them: found by their digests in what a stage read and made, and made small."""

import io
import re
from collections.abc import Mapping
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import Response

from infra.images import FOLDER, LARGEST, ImageLimits, UnreadableImage, decode_image, pixel_digest, stored_address
from infra.lineage.web.site import NotFound, Site, read_entry
from infra.store.store import FileEntry, Store, StoreError

SIDE = 320
"""Pixels of a thumbnail's longer side."""

LIMITS = ImageLimits(max_bytes=50_000_000, max_pixels=25_000_000, max_side=LARGEST.max_side)
"""Of images that are displayed: a page must not take all memory of the machine that serves it."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'"
}
"""Browsers lay an image that is opened by itself out with a style of their own."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


def image(site: Site, request: Request) -> Response:
    """An image of a prompt of the execution of `stage` in `run`, small, or as it is stored with `whole`.

    Raises NotFound, LineageError, StoreError.
    """
    digest = request.path_params["image"].removesuffix(".png")
    if not _DIGEST.fullmatch(digest):
        raise NotFound("An image is named by its digest: 64 hexadecimal digits.")
    record = site.index.execution(request.query_params.get("run", ""), request.query_params.get("stage", ""))
    refs = [*record.inputs.values(), *record.outputs.values()]
    folders = tuple(ref.digest for ref in refs if ref.kind == "dataset")
    read = _whole if request.query_params.get("whole") else _thumbnail
    try:
        content = read(site.store, folders, digest)
    except UnreadableImage as error:
        raise NotFound(f"The image cannot be displayed: {error}.") from error
    return Response(content, media_type="image/png", headers=HEADERS)


def _whole(store: Store, folders: tuple[str, ...], digest: str) -> bytes:
    """The bytes of a stored image that is in one of some folders and has the pixels that its digest names.

    Raises NotFound, UnreadableImage, StoreError.
    """
    problem: StoreError | None = None
    for folder in folders:
        try:
            entry = _images_in(store, folder).get(stored_address(digest))
            if entry is not None:
                content = read_entry(store, folder, entry, LIMITS.max_bytes)
                if pixel_digest(decode_image(content, LIMITS)) != digest:
                    raise UnreadableImage("its pixels have another digest")
                return content
        except StoreError as error:  # another folder may have it as well
            problem = error
    if problem is not None:
        raise problem
    raise NotFound("No data that the stage read or made has this image.")


# What a digest names never changes.
@lru_cache(maxsize=256)
def _thumbnail(store: Store, folders: tuple[str, ...], digest: str) -> bytes:
    """A PNG of the image, its longer side at most SIDE pixels. Raises as _whole."""
    pixels = decode_image(_whole(store, folders, digest), LIMITS)
    pixels.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    pixels.save(file, "PNG")
    return file.getvalue()


@lru_cache(maxsize=64)
def _images_in(store: Store, folder: str) -> Mapping[str, FileEntry]:
    """The stored images of a folder of data, by their paths. Raises StoreError."""
    return {entry.path: entry for entry in store.manifest(folder).files if entry.path.startswith(f"{FOLDER}/")}
