"""The images of prompts, as models saw them: found by their digests in what a stage read and made, and made small."""

import re

from starlette.requests import Request
from starlette.responses import Response

from infra.images import UnreadableImage
from infra.lineage.web.site import NotFound, Site
from infra.store.stored_images import StoredImages

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
    images = StoredImages.of(site.store, [record])
    try:
        content = images.whole(digest) if request.query_params.get("whole") else images.thumbnail(digest)
    except UnreadableImage as error:
        raise NotFound(f"The image cannot be displayed: {error}.") from error
    return Response(content, media_type="image/png", headers=HEADERS)
