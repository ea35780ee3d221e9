"""Images of a foreign row, and where they stand in its prompts: at `<image>` marks, in parts, or before the text.

An image is a path, a `data:` URI, bytes, or a mapping with one of these, as Parquet files of the hub have it
({bytes, path}) and OpenAI's messages ({url}). What is read of it stands in infra/images.py; here it is an address.
"""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from steps.data_formats.fields import Row, kind

MARK = "<image>"
PLACES = ("images", "image")
"""Fields in which rows have images beside their text."""

Parts = list[dict[str, str]]
Content = str | Parts
"""A turn's text, or its parts as steps/problem.py has them."""


def address(value: Any, where: str) -> str:
    """The address of an image. Raises ValueError for a value that is none."""
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, bytes | bytearray):
        return "data:;base64," + base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        for name in ("bytes", "path", "url", "image_url", "image"):
            if value.get(name):
                return address(value[name], where)
    raise ValueError(f"{where} is {kind(value)}, and an image is expected: a path, a data: URI or bytes")


def row_images(row: Row, *names: str) -> list[str]:
    """Addresses of a row's images, of the first of these fields (default: PLACES) that has some. Raises ValueError."""
    for name in names or PLACES:
        value = row.get(name)
        if value is None or (isinstance(value, str | list | dict) and not value):
            continue
        values = value if isinstance(value, list) else [value]
        return [address(one, f"field {name!r}") for one in values]
    return []


def no_videos(row: Row) -> None:
    """Raises ValueError for a row with videos, which are not read."""
    for name in ("videos", "video"):
        if row.get(name) not in (None, [], "", {}):
            raise ValueError(f"field {name!r} has a video, and text and images are read: leave such rows out")


class Pictures:
    """The images of one row, handed out in the order in which its prompts ask for them.

    Args:
        marked: each image needs a mark; otherwise a row without marks has its images before its text.
    """

    def __init__(self, row: Row, *names: str, marked: bool = False) -> None:
        no_videos(row)
        self._all = row_images(row, *names)
        self._next: Iterator[str] = iter(self._all)
        self._taken = 0
        self._marked = marked

    def split(self, text: str) -> Content:
        """A text at its marks. Of a row without images a mark is text."""
        if not self._all or MARK not in text:
            return text
        before, *after = text.split(MARK)
        parts = _text(before)
        for piece in after:
            parts += [{"type": "image", "image": self.take()}, *_text(piece)]
        return parts

    def parts(self, content: list[Any], where: str) -> Content:
        """A list of content parts: text, and images with an address or, if they have none, the row's next one.

        Raises ValueError for a part that is something else.
        """
        result: Parts = []
        for part in content:
            name = part.get("type") if isinstance(part, Mapping) else kind(part)
            if isinstance(part, Mapping) and name == "text" and isinstance(part.get("text"), str):
                result.append({"type": "text", "text": part["text"]})
            elif isinstance(part, Mapping) and name in ("image", "image_url"):
                own = {key: value for key, value in part.items() if key not in ("type", "text") and value}
                result.append({"type": "image", "image": address(own, f"{where}: an image") if own else self.take()})
            else:
                raise ValueError(f"{where} has a part of type {name!r}, and text and images are read: leave it out")
        if all(part["type"] == "text" for part in result):
            return "\n".join(part["text"] for part in result)
        return result

    def take(self) -> str:
        """The next image. Raises ValueError where there is none left."""
        self._taken += 1
        one = next(self._next, None)
        if one is None:
            raise ValueError(
                f"there are more places for images ({MARK} marks or parts) than images, of which the row has "
                f"{len(self._all)}: each place needs one"
            )
        return one

    def finish(self, first: Content) -> Content:
        """The first prompt, with the images before it that no prompt has a place for.

        Raises ValueError where some have places and others none.
        """
        if self._taken == len(self._all):
            return first
        if self._taken or self._marked:
            raise ValueError(
                f"there are {len(self._all)} images and {self._taken} places for them ({MARK} marks or parts): each "
                "image needs one"
            )
        images = [{"type": "image", "image": one} for one in self._all]
        return images + (_text(first) if isinstance(first, str) else first)


def pictured(row: Row, text: str, *names: str, marked: bool = False) -> Content:
    """A prompt of a text and the row's images. Raises ValueError."""
    pictures = Pictures(row, *names, marked=marked)
    return pictures.finish(pictures.split(text))


def _text(text: str) -> Parts:
    return [{"type": "text", "text": text.strip("\n")}] if text.strip() else []
