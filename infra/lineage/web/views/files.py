"""The content of an artifact's text files."""

import re

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from infra.lineage.web.site import NotFound, Site
from infra.lineage.web.templating import page

_DIGEST = re.compile(r"[0-9a-f]{64}")


def file(site: Site, request: Request) -> Response:
    """A small file of an artifact, as text. Raises NotFound, StoreError."""
    digest = request.path_params["digest"]
    if not _DIGEST.fullmatch(digest):
        raise NotFound("An artifact is named by its digest: 64 hexadecimal digits.")
    entry, content = site.file(digest, request.query_params.get("path", ""))
    try:
        text: str | None = content.decode()
    except UnicodeDecodeError:
        text = None
    return HTMLResponse(page("file.html", section="Data", digest=digest, entry=entry, text=text))
