"""Symbolic links in a checkpoint's folder: what they lead to is copied into the artifact."""

from collections.abc import Iterable
from pathlib import Path

from steps.checkpoint_refused import CheckpointRefused


def check_links(folder: Path, names: Iterable[str]) -> None:
    """Refuse a link that is broken, or leads out of the folder.

    In the hub's cache a snapshot's files are links to the repository's own blobs/: those are followed.

    Raises CheckpointRefused naming the link and its target.
    """
    root = folder.resolve()
    allowed = [root]
    if root.parent.name == "snapshots":
        allowed.append(root.parent.parent / "blobs")
    for name in names:
        path = folder / name
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise CheckpointRefused(
                f"{name}: a link to {path.readlink()}, which is not there; copy or download the file again"
            ) from error
        if not any(target.is_relative_to(place) for place in allowed):
            raise CheckpointRefused(
                f"{name}: a link to {target}, outside of the checkpoint's folder, whose content would be copied; put "
                "the file itself there if it is meant (cp --dereference)"
            )
