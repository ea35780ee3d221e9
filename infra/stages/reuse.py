"""What a store holds that a stage need not make again."""

from dataclasses import dataclass

from infra.errors import LonghaulError
from infra.stages.key import KeyParts
from infra.store import records
from infra.store.evaluation_stages import is_evaluation
from infra.store.records import OtherBytes, PortableKeyRecord, StageRecord
from infra.store.store import Ref, Store, StoreError


class KeyClaimed(LonghaulError, RuntimeError):
    """A record stands under the key of another stage: the store was written to by something else."""


@dataclass(frozen=True)
class CachedStage:
    """What a store holds under a key."""

    record: StageRecord | None
    """The success whose outputs are there; None where the stage has to run."""
    problems: list[str]
    """Why others cannot be reused, those first that would have been preferred."""


def find_reusable(store: Store, parts: KeyParts, read: bool = True, any_environment: bool = False) -> CachedStage:
    """An earlier success with this key: the newest, but for those that made something else than the ones before them
    did, which are reused only where nothing else is there.

    Args:
        read: compare every byte of the outputs with their manifests; otherwise it is enough that they are there.
        any_environment: also take one whose key differs in the numeric environment alone.

    Raises KeyClaimed, and StoreError for records of a newer version.
    """
    cached = _with_key(store, parts.stage, parts.key, read)
    if cached.record is None and any_environment:
        entries, _ = records.read_valid(store, PortableKeyRecord, f"portable-keys/{parts.portable_key}")
        for key in dict.fromkeys(entry.key for entry in reversed(entries)):
            other = _with_key(store, parts.stage, key, read)
            if other.record is not None:
                return CachedStage(other.record, cached.problems)
    return cached


def _with_key(store: Store, stage: str, key: str, read: bool) -> CachedStage:
    successes, unreadable = records.read_valid(store, StageRecord, f"stages/{key}")
    problems = [f"a record of an earlier success cannot be used: {problem.splitlines()[0]}" for problem in unreadable]
    for record in sorted(reversed(successes), key=lambda success: success.other_bytes is not None):
        if record.stage != stage and not (is_evaluation(record.stage) and is_evaluation(stage)):
            raise KeyClaimed(
                f"key {key[:12]} is claimed by two stages, {stage!r} and {record.stage!r} (run {record.run}): remove "
                f"the record of the one that does not belong there from {store.backend.address}/records/stages/{key}"
            )
        try:
            for ref in record.outputs.values():
                if read:
                    store.verify(ref)
                else:
                    store.manifest(ref.digest)
        except StoreError as error:
            problems.append(f"the outputs of run {record.run} cannot be reused: {error}")
        else:
            return CachedStage(record, problems)
    return CachedStage(None, problems)


def compare_bytes(store: Store, key: str, outputs: dict[str, Ref]) -> OtherBytes | None:
    """In what outputs are not those of the first success with this key; None where they are, or it is the first."""
    successes, _ = records.read_valid(store, StageRecord, f"stages/{key}")
    for record in successes:
        before, now = ({name: ref.digest for name, ref in each.items()} for each in (record.outputs, outputs))
        names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        return OtherBytes(run=record.reused_from or record.run, outputs=names) if names else None
    return None
