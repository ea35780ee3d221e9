"""Pictures beside prompts: thumbnails as `data:` URIs, for a page is one file that asks for nothing else.

A picture goes by its digest. One that cannot be had is named with the reason, and the page is made without it.
"""

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from infra.errors import LonghaulError

MAX_BYTES = 6_000_000
"""Of all thumbnails of a page."""

MAX_OF_PROMPT = 16
"""Pictures of one prompt that are displayed."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Picture:
    """A prompt's picture, as a page displays it."""

    name: str
    """The start of its digest."""
    uri: Markup | None
    """The thumbnail; None where there is none."""
    reason: str = ""
    """Why there is none."""


class Pictures:
    """The pictures of one page.

    Args:
        thumbnail: the PNG of an image by its digest, small; raises a LonghaulError where it cannot be had. None: the
            page is made without a store.
    """

    def __init__(self, thumbnail: Callable[[str], bytes] | None) -> None:
        self._thumbnail = thumbnail
        self._made: dict[str, Picture] = {}
        self._bytes = 0

    def of(self, digests: Sequence[str]) -> list[Picture]:
        """A prompt's pictures in order, MAX_OF_PROMPT at most."""
        return [self._picture(digest) for digest in digests[:MAX_OF_PROMPT]]

    def _picture(self, digest: str) -> Picture:
        if digest not in self._made:
            self._made[digest] = self._make(digest)
        return self._made[digest]

    def _make(self, digest: str) -> Picture:
        name = digest[:12]
        # A record holds whatever was written into it.
        if not _DIGEST.fullmatch(digest):
            return Picture(name, None, "not a digest")
        if self._thumbnail is None:
            return Picture(name, None, "the page was made without the data")
        try:
            content = self._thumbnail(digest)
        except LonghaulError as error:
            return Picture(name, None, str(error))
        if self._bytes + len(content) > MAX_BYTES:
            return Picture(name, None, "the page has pictures enough")
        self._bytes += len(content)
        return Picture(name, Markup("data:image/png;base64," + base64.b64encode(content).decode()))
