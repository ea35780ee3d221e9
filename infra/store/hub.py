"""Checkpoints from the Hugging Face hub, at a commit that is written down."""

import glob
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError, HTTPError

from infra.store.backend import StoreError


@dataclass(frozen=True)
class HubSnapshot:
    """A repository's files at one commit. They are links into the hub's own cache: copy what is to last."""

    folder: Path
    commit: str
    left_out: list[str]


def download_repository(name: str, revision: str | None, wanted: Callable[[str], bool]) -> HubSnapshot:
    """Download the wanted files of a model repository ('owner/name') into the hub's cache, which later calls reuse.

    `revision` is a branch, tag or commit; None means the default branch as it is now. Token, endpoint and cache are the
    hub's own settings (HF_TOKEN, HF_ENDPOINT, HF_HOME). Raises StoreError naming the repository.
    """
    at = f"{name}@{revision}" if revision else name
    try:
        # One look at the repository fixes the commit: a push between two files cannot mix versions.
        info = HfApi().model_info(name, revision=revision)
        paths = sorted(sibling.rfilename for sibling in info.siblings or ())
        chosen = [path for path in paths if wanted(path)]
        if info.sha is None or not chosen:
            raise StoreError(f"hub repository {at} has no file of a checkpoint, only: {', '.join(paths) or 'nothing'}")
        folder = snapshot_download(name, revision=info.sha, allow_patterns=[glob.escape(path) for path in chosen])
    except (OSError, HTTPError, HFValidationError) as error:
        raise StoreError(f"hub repository {at}: {error}") from error
    return HubSnapshot(Path(folder), info.sha, [path for path in paths if path not in set(chosen)])
