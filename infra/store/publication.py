"""What is published, and what may be overwritten: shared by all destinations (infra/store/publish.py)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.store.backend import StoreError

MARKER = "longhaul.json"
"""What says which model a destination holds; part of what is published."""

HUB = "hf://"

WAY_OUT = "choose another destination, or replace what is there with --replace"


@dataclass(frozen=True)
class Publication:
    """What is published: files by their path, and the marker's text."""

    files: Mapping[str, Path]
    """Without the marker."""
    marker: str
    """JSON; `model` in it is the model's digest."""

    @property
    def model(self) -> str:
        """Digest of the model."""
        return str(json.loads(self.marker)["model"])


@dataclass(frozen=True)
class Published:
    """Where it went."""

    address: str
    """An absolute path, an s3:// address, or hf://owner/name@commit."""
    unchanged: bool
    """Whether it was there already, exactly so."""


def check_replaceable(there: Mapping[str, Any], marker: bytes | None, publication: Publication, address: str) -> None:
    """Raise StoreError where a destination holds something else than this model, or the beginning of it."""
    if marker is not None:
        try:
            model = json.loads(marker)["model"]
        except (ValueError, KeyError, TypeError):
            model = None
        if model != publication.model:
            raise StoreError(f"{address} holds another model ({str(model)[:12]}): {WAY_OUT}")
    elif other := sorted(there.keys() - publication.files.keys()):
        raise StoreError(f"{address} holds something else ({', '.join(other[:3])}): {WAY_OUT}")
