"""The manifest of a stored folder: path, size and SHA-256 of each file. Its own SHA-256 is the folder's digest."""

import hashlib
import json
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator


class FileEntry(BaseModel):
    """One file of a stored folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(description="Below the folder, with '/' between parts.")
    size: int = Field(ge=0, description="Bytes.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("path")
    @classmethod
    def _stays_in_the_folder(cls, path: str) -> str:
        # Joined to a folder when it is fetched: a manifest from elsewhere must not write outside it.
        if "\0" in path or {"", ".", ".."} & set(path.split("/")):
            raise ValueError(f"{path!r} is not a plain path below a folder")
        return path


class Manifest(BaseModel):
    """What is in a folder. Its canonical text (keys and files sorted, no spaces) is what the digest is taken of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    files: tuple[FileEntry, ...] = Field(min_length=1)

    @classmethod
    def of(cls, folder: Path) -> Self:
        """What is in a folder on this machine: what a store would give it as its manifest."""
        entries = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            name = path.relative_to(folder).as_posix()
            entries.append(FileEntry(path=name, size=path.stat().st_size, sha256=digest))
        return cls(files=tuple(sorted(entries, key=lambda entry: entry.path)))

    @property
    def text(self) -> str:
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)
