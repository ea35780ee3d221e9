"""Data from outside the store, as a stage reads them. A type without behaviour."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """What lies at an address, on this machine."""

    path: Path
    """A file or folder. It is not the stage's own: copy what is to last."""
    address: str
    """Where it comes from: an absolute path, an s3:// address, hf://owner/name@commit, hf://datasets/owner/name@commit."""
    left_out: tuple[str, ...] = ()
    """Files at the address that were not brought."""
    files: tuple[str, ...] = ()
    """Of a data set on the hub: paths below the folder of the files of the split, in order."""
