"""Publishing to a repository on the hub: all files in one commit, on top of the commit that was looked at.

Large files are sent before the commit, and the hub keeps them: after an interruption they are not sent again.
"""

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError

from infra.progress.tasks import say
from infra.store.backend import StoreError
from infra.store.hub import store_errors
from infra.store.publication import HUB, MARKER, Publication, Published, check_replaceable

OWN_FILES = {".gitattributes"}
"""What the hub itself puts into each repository."""

CONFLICTS = (409, 412)
"""What the hub answers where another commit came first."""


def to_hub(publication: Publication, name: str, replace: bool, public: bool) -> Published:
    """Commit the files to a model repository ('owner/name'), which is made where it does not exist.

    Raises StoreError naming the repository and the way out.
    """
    api = HfApi()
    with store_errors(name, None):
        try:
            info = api.model_info(name)
        except RepositoryNotFoundError:
            api.create_repo(name, private=not public, exist_ok=True)
            say(f"made the {'public' if public else 'private'} repository {name}")
            info = api.model_info(name)
        there = {file.rfilename: file for file in info.siblings or ()}
        other = {path: file for path, file in there.items() if path not in OWN_FILES}
        marker = _marker(api, name, info.sha) if MARKER in there else None
        if other and not replace:
            check_replaceable(other, marker, publication, f"hub repository {name}")
        strays = sorted(other.keys() - publication.files.keys() - {MARKER})
        operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
            *(CommitOperationDelete(path) for path in strays),
            *(CommitOperationAdd(path, source) for path, source in publication.files.items()),
            CommitOperationAdd(MARKER, publication.marker.encode()),
        ]
        try:
            commit = api.create_commit(
                name,
                operations,
                commit_message=f"Publish {publication.model[:12]} with Longhaul",
                parent_commit=info.sha,
            )
        except HfHubHTTPError as error:
            if error.response is not None and error.response.status_code in CONFLICTS:
                raise StoreError(f"hub repository {name}: somebody else committed meanwhile; publish again") from error
            raise
        except (RuntimeError, ValueError) as error:  # an upload that failed for good, or a card that the hub refuses
            reason = " ".join(str(error.__cause__ or error).split())[:300]
            raise StoreError(f"hub repository {name}: {reason}; nothing was committed, publish again") from error
    return Published(f"{HUB}{name}@{commit.oid}", commit.oid == info.sha)


def _marker(api: HfApi, name: str, commit: str | None) -> bytes | None:
    try:
        with open(api.hf_hub_download(name, MARKER, revision=commit), "rb") as file:
            return file.read()
    except EntryNotFoundError:
        return None
