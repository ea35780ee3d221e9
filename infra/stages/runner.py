"""Running a stage, or finding that it need not run.

A stage whose key (infra/stages/key.py) has a record of success with its outputs whole is not run again. Whatever
happens is recorded: what ran, what was used again and from which run, and what failed and how.
"""

import fcntl
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from infra.errors import LonghaulError
from infra.files import write_text_atomically
from infra.gates.page import render_page
from infra.progress.logs import quiet_to
from infra.progress.tasks import say, stage_progress
from infra.stages.checkpoint_mirror import mirrored
from infra.stages.code_digest import digest_of
from infra.stages.code_version import code_version
from infra.stages.contract import Body, StageContext, StageOutput
from infra.stages.key import KeyParts
from infra.store import records
from infra.store.local import LocalBackend
from infra.store.records import Failure, StageRecord
from infra.store.store import Ref, Store, StoreError
from infra.tracking.tracker import Tracker, TrackingConfig


class KeyClaimed(LonghaulError, RuntimeError):
    """A record stands under the key of another stage: the store was written to by something else."""


@dataclass(frozen=True)
class Earlier:
    """What a store holds under a key."""

    record: StageRecord | None
    """The newest success whose outputs are there; None where the stage has to run."""
    problems: list[str]
    """Why newer successes cannot be used, newest first."""


def find_earlier(store: Store, stage: str, key: str, read: bool = True) -> Earlier:
    """An earlier success with this key.

    `read` compares every byte of the outputs with their manifests; otherwise it is enough that they are there. Raises
    KeyClaimed, and StoreError for records of a newer version.
    """
    problems: list[str] = []
    for record in reversed(list(records.read(store, StageRecord, f"stages/{key}"))):
        if record.stage != stage:
            raise KeyClaimed(
                f"key {key[:12]} is claimed by two stages, {stage!r} and {record.stage!r} (run {record.run}): remove "
                f"the record of the one that does not belong there from {store.backend.address}/records/stages/{key}"
            )
        for ref in record.outputs.values():
            try:
                if read:
                    store.verify(ref)
                else:
                    store.manifest(ref.digest)
            except StoreError as error:
                problems.append(f"the outputs of run {record.run} cannot be used again: {error}")
                break
        else:
            return Earlier(record, problems)
    return Earlier(None, problems)


@dataclass
class _Attempt:
    """One attempt at a stage, as far as it has come."""

    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    clock: float = field(default_factory=time.perf_counter)
    history: list[dict[str, Any]] = field(default_factory=list)
    context: StageContext | None = None
    output: StageOutput | None = None
    outputs: dict[str, Ref] = field(default_factory=dict)


@dataclass(frozen=True)
class StageRunner:
    """Runs stages of one run, or finds that they need not run."""

    store: Store
    run: str
    home: Path
    """Where scratch folders, logs and offline tracking go."""
    tracking: TrackingConfig

    def __call__(
        self,
        parts: KeyParts,
        load_body: Callable[[], Body],
        config: BaseModel,
        inputs: Mapping[str, Ref],
        force: bool = False,
    ) -> StageRecord:
        """Run a stage, or use an earlier run's outputs; with `force`, run it in any case.

        `load_body` is called only to run it: that may import an engine. Raises what the body raises, once the failure
        is recorded.
        """
        stage, key = parts.stage, parts.key
        with self._alone(stage, key):
            earlier = Earlier(None, []) if force else find_earlier(self.store, stage, key)
            for problem in earlier.problems:
                say(f"{stage}: {problem}")
            if earlier.record is not None:
                return self.use_again(earlier.record)
            record = self._run(parts, load_body, config, dict(inputs))
            records.write(self.store, f"stages/{key}", record)
            records.write(self.store, f"stage-runs/{self.run}", record)
            shutil.rmtree(self._checkpoints(key), ignore_errors=True)
        return record

    def use_again(self, record: StageRecord) -> StageRecord:
        """Record that this run uses what `record` made."""
        source = record.reused_from or record.run
        reused = record.model_copy(update={"reused_from": source, "run": self.run})
        say(f"{record.stage}: reused from run {source} (key {record.key[:12]})")
        records.write(self.store, f"stage-runs/{self.run}", reused)
        return reused

    def _checkpoints(self, key: str) -> Path:
        return self.home / "checkpoints" / key

    def _reachable_checkpoints(self, key: str) -> AbstractContextManager[None]:
        """Keep checkpoints in a store that is elsewhere, for an attempt that may be elsewhere too."""
        if isinstance(self.store.backend, LocalBackend):
            return nullcontext()
        return mirrored(self.store.backend, key, self._checkpoints(key), self.store.cache)

    @contextmanager
    def _alone(self, stage: str, key: str) -> Iterator[None]:
        """Wait while another process on this machine runs the stage with the same key: its outputs can be used then.

        The lock goes when its holder does, however that ends.
        """
        lock = self.home / "locks" / key
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{stage}: waiting for another run, which is at this stage with the same key")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _run(
        self, parts: KeyParts, load_body: Callable[[], Body], config: BaseModel, inputs: dict[str, Ref]
    ) -> StageRecord:
        stage = parts.stage
        attempt = _Attempt()
        scratch = self.home / "scratch" / parts.key
        shutil.rmtree(scratch, ignore_errors=True)  # left by a process that was killed
        scratch.mkdir(parents=True)
        beside = self.home / "runs" / self.run / stage.replace("/", "-")
        log = beside.with_suffix(".log")
        try:
            with stage_progress(stage) as shown, quiet_to(log), self._tracker(parts, inputs) as tracker:

                def log_metrics(metrics: dict[str, Any]) -> None:
                    tracker.log(metrics, len(attempt.history))
                    attempt.history.append(metrics)

                folders = {name: self.store.fetch(ref) for name, ref in inputs.items()}
                attempt.context = StageContext(parts.seed, folders, scratch, self._checkpoints(parts.key), log_metrics)
                with self._reachable_checkpoints(parts.key):
                    output = attempt.output = load_body()(attempt.context, config)
                if output.headline:
                    shown.note(output.headline)
                attempt.outputs = {name: self.store.put(path, kind) for name, (kind, path) in output.outputs.items()}
                tracker.outputs(attempt.outputs)
                tracker.summary(output.metrics)
        except BaseException as error:
            told = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
            failed = self._record(parts, inputs, attempt, Failure(error=told, log=str(log)))
            try:
                records.write(self.store, f"stage-runs/{self.run}", failed)
            except StoreError as lost:
                # What broke the stage may be the store: the stage's own error is the one to see.
                error.add_note(f"The failure could not be recorded: {lost}")
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            if attempt.context is not None and attempt.context.gates:
                page = render_page(attempt.context.gates, f"Data gates of {stage}, run {self.run}")
                write_text_atomically(beside.with_name(f"{beside.name}-gates.html"), page)
        return self._record(parts, inputs, attempt)

    def _tracker(self, parts: KeyParts, inputs: Mapping[str, Ref]) -> Tracker:
        version = code_version()
        lineage = {
            "run": self.run,
            "stage": parts.stage,
            "key": parts.key,
            "seed": parts.seed,
            "code": digest_of(parts.modules),
            "commit": version.commit,
            "diff": version.diff,
            "inputs": {name: ref.digest for name, ref in inputs.items()},
            "settings": parts.config,
        }
        return Tracker(
            self.tracking,
            run_name=f"{self.run}-{parts.stage}",
            group=self.run,
            job_type=parts.stage,
            config=lineage,
            folder=self.home / "wandb",
            run_id=self._tracking_id(parts),
        )

    def _tracking_id(self, parts: KeyParts) -> str:
        """The same when a stage is tried again, so that its tracked run goes on."""
        return f"{self.run}-{parts.key[:12]}"

    def _record(
        self, parts: KeyParts, inputs: dict[str, Ref], attempt: _Attempt, failure: Failure | None = None
    ) -> StageRecord:
        version = code_version()
        return StageRecord(
            stage=parts.stage,
            key=parts.key,
            run=self.run,
            started=attempt.started,
            seconds=time.perf_counter() - attempt.clock,
            peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            seed=parts.seed,
            config=parts.config,
            inputs=inputs,
            upstream=parts.upstream,
            sources=parts.sources,
            outputs={} if failure else attempt.outputs,
            code=digest_of(parts.modules),
            modules=parts.modules,
            commit=version.commit,
            diff=version.diff,
            packages=parts.packages,
            gates=[asdict(gate) for gate in attempt.context.gates] if attempt.context else [],
            metrics=attempt.output.metrics if attempt.output else {},
            history=attempt.history,
            evaluation=attempt.output.evaluation if attempt.output else None,
            tracking_id=None if self.tracking.mode == "disabled" else self._tracking_id(parts),
            failure=failure,
        )
