"""Checkpoints and data sets from the Hugging Face hub, at a commit that is written down.

A name is resolved to a commit first, and that commit is downloaded: a push between the two changes nothing. Token,
endpoint and cache are the hub's own settings (HF_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE).
"""

import glob
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)

from infra.store.backend import StoreError
from infra.store.hub_dataset import CARD, files_of_split

RepoType = Literal["model", "dataset"]


@dataclass(frozen=True)
class HubSnapshot:
    """A repository's files at one commit. They are links into the hub's own cache: copy what is to last."""

    folder: Path
    commit: str
    left_out: list[str]


def split_revision(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """'owner/name@revision' as ('owner/name', 'revision'); without '@' the revision is the one handed in.

    Raises StoreError where both give a revision, and not the same one.
    """
    repository, at, own = name.partition("@")
    if not at:
        return name, revision
    if not own or revision not in (None, own):
        raise StoreError(f"hub repository {name}: revision is {revision!r}; give one, as owner/name@revision or apart")
    return repository, own


def resolve_commit(name: str, revision: str | None = None, kind: RepoType = "model") -> str:
    """The commit (40 hex digits) of a repository: 'owner/name' or 'owner/name@revision'. Downloads no file.

    `revision` is a branch, tag or commit; None means the default branch as it is now. A whole commit is returned
    without asking the hub. Where the hub cannot be reached, the commit that it gave last is used, with a warning.
    Raises StoreError naming the repository and the way out.
    """
    repository, revision = split_revision(name, revision)
    with store_errors(repository, revision, kind):
        return HfApi().resolve_revision(repository, revision=revision, repo_type=kind).resolved


def download_commit(name: str, commit: str, selected: Callable[[str], bool], kind: RepoType = "model") -> HubSnapshot:
    """Download the selected files of a repository ('owner/name') at exactly this commit (40 hex digits).

    They land in the hub's cache, which later calls reuse without asking the hub. Raises StoreError naming the
    repository, also where none of its files is selected.
    """
    with store_errors(name, commit, kind):
        paths = sorted(_paths(name, commit, kind))
        chosen = [path for path in paths if selected(path)]
        if not chosen:
            raise StoreError(
                f"hub repository {name}@{commit} has no file of a checkpoint, only: {', '.join(paths) or 'nothing'}"
            )
        patterns = [glob.escape(path) for path in chosen]
        folder = snapshot_download(name, revision=commit, repo_type=kind, allow_patterns=patterns)
    return HubSnapshot(Path(folder), commit, [path for path in paths if path not in set(chosen)])


def download_repository(name: str, revision: str | None, selected: Callable[[str], bool]) -> HubSnapshot:
    """Resolve a repository's revision, and download the selected files of that commit. Raises as the two do."""
    repository, revision = split_revision(name, revision)
    return download_commit(repository, resolve_commit(repository, revision), selected)


def find_split(name: str, commit: str, config: str | None, split: str | None) -> tuple[str, ...]:
    """The files of a split of a data set ('owner/name') at a commit. Downloads the data set's card alone.

    Raises StoreError, also where there is no such configuration or split.
    """
    with store_errors(name, commit, "dataset"):
        paths = sorted(_paths(name, commit, "dataset"))
        card = None
        if CARD in paths:
            card = Path(snapshot_download(name, revision=commit, repo_type="dataset", allow_patterns=[CARD])) / CARD
    return files_of_split(name, paths, card, config, split)


def _paths(name: str, commit: str, kind: RepoType) -> list[str]:
    """Paths of all files at a commit: from the cache where it was downloaded before, otherwise from the hub."""
    try:
        return [file.path for file in get_cached_repo_tree(name, revision=commit, repo_type=kind)]
    except CachedRepoTreeNotFoundError:
        return HfApi().list_repo_files(name, revision=commit, repo_type=kind)


@contextmanager
def store_errors(name: str, revision: str | None, kind: RepoType = "model") -> Iterator[None]:
    """Turn the hub's errors, some of many lines, into a StoreError of one that says the way out."""
    what = "hub repository" if kind == "model" else "data set on the hub"
    at = f"{what} {name}@{revision}" if revision else f"{what} {name}"
    try:
        yield
    except GatedRepoError as error:
        raise StoreError(f"{at} is gated: accept its terms on the hub, and set HF_TOKEN to a token that may") from error
    except RepositoryNotFoundError as error:
        raise StoreError(f"{at} does not exist, or is private: correct the name, or set HF_TOKEN") from error
    except RevisionNotFoundError as error:
        raise StoreError(f"{at}: {name} has no such branch, tag or commit: correct the revision") from error
    except RevisionResolutionError as error:
        reason = _one_line(error.__cause__ or error)
        raise StoreError(
            f"{at}: the hub cannot be reached ({reason}) and its cache (HF_HOME) does not know the commit: "
            "resolve it once online, or give a whole commit as the revision"
        ) from error
    except HFValidationError as error:
        raise StoreError(f"{at} is not a repository's name (owner/name): {_one_line(error)}") from error
    except (OSError, HTTPError) as error:
        raise StoreError(f"{at}: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
