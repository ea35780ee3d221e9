"""Running a stage, or finding that it need not run.

A stage whose key (infra/stages/key.py) has a record of success with its outputs whole is not run again. Whatever
happens is recorded: what ran, what was reused and from which run, and what failed and how.
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

from infra.files import write_text_atomically
from infra.gates.page import render_page
from infra.gates.result import GateResult
from infra.pictures import Pictures
from infra.progress.logs import quiet_to
from infra.progress.tasks import say, stage_progress
from infra.sandbox.config import forget_opened, opened_sandboxes
from infra.stages.checkpoint_mirror import mirrored
from infra.stages.code_digest import definitions, digest_of
from infra.stages.code_version import code_version
from infra.stages.contract import Body, Check, StageContext, StageOutput
from infra.stages.key import KeyParts
from infra.stages.lease import Lease, LeaseLost, leased
from infra.stages.numeric_environment import environment_differences
from infra.stages.reuse import CachedStage, compare_bytes, find_reusable
from infra.stages.tracked_images import tracked_images
from infra.store import records
from infra.store.local import LocalBackend
from infra.store.records import (
    ITERATION,
    DefinitionsRecord,
    Failure,
    ForkPoint,
    OtherBytes,
    PortableKeyRecord,
    StageRecord,
)
from infra.store.source import Source
from infra.store.store import Ref, Store, StoreError
from infra.store.stored_images import StoredImages
from infra.tracking.tracker import Tracker, TrackingConfig


@dataclass(frozen=True)
class StageTask:
    """A stage as it is to be run, or found to be there."""

    name: str
    parts: KeyParts
    settings: Any
    load_body: Callable[[], Body]
    """Called only to run it: that may import an engine."""
    inputs: Mapping[str, Ref] = field(default_factory=dict)
    """What body and gates read."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Of what is read from outside the store, by the recipe's key that names it."""
    open_sources: Callable[[Path], dict[str, Source]] = lambda folder: {}
    """Brings that to this machine, downloads below the folder."""
    load_check: Callable[[], Check] | None = None
    """The gates on what the stage reads; None where there are none."""
    gates_key: str | None = None
    """Digest of their rules, their code and what they read."""
    forked_from: ForkPoint | None = None
    """What the input `fork` is, where the stage continues from there."""


@dataclass
class _Attempt:
    """One attempt at a stage, as far as it has come."""

    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    clock: float = field(default_factory=time.perf_counter)
    history: list[dict[str, Any]] = field(default_factory=list)
    gates: list[GateResult] = field(default_factory=list)
    note: Callable[[str], None] = lambda text: None
    """Shows a line about the stage."""
    tracker: Tracker = field(init=False)
    output: StageOutput | None = None
    outputs: dict[str, Ref] = field(default_factory=dict)
    iterations: dict[int, Ref] = field(default_factory=dict)


@dataclass(frozen=True)
class StageRunner:
    """Runs stages of one run, or finds that they need not run."""

    store: Store
    run: str
    home: Path
    """Where scratch folders, logs and offline tracking go."""
    tracking: TrackingConfig
    any_environment: bool = False
    """Reuse what was made in another numeric environment."""

    def __call__(self, task: StageTask, force: bool = False) -> StageRecord:
        """Run a stage, or reuse an earlier run's outputs; with `force`, run it in any case.

        Where outputs are reused and the gates are not what they were, they check again what the stage reads. Raises
        what body and gates raise, once the failure is recorded.
        """
        with self._exclusive(task.name, task.parts.key):
            if (reused := self._reuse_if_made(task, force)) is not None:
                return reused
            with leased(self.store.backend, task.parts.key, task.name, self.run) as lease:
                # Another machine may have made it, up to now.
                if (reused := self._reuse_if_made(task, force, report=False)) is not None:
                    return reused
                return self._make(task, lease)

    def _reuse_if_made(self, task: StageTask, force: bool, report: bool = True) -> StageRecord | None:
        """The record of reusing what an earlier run made; None where there is nothing to reuse."""
        cached = CachedStage(None, []) if force else self.find_reusable(task.parts)
        for problem in cached.problems if report else ():
            say(f"{task.name}: {problem}")
        return None if cached.record is None else self._checked_again(task, self.reused(cached.record, task))

    def _make(self, task: StageTask, lease: Lease) -> StageRecord:
        """Run a stage, and record its success."""
        record = self._run(task, lease)
        if lease.lost:
            raise LeaseLost(f"{task.name}: another machine has taken the stage over. Run again to reuse its outputs")
        if record.other_bytes is not None:
            say(
                f"{task.name}: the same key as in run {record.other_bytes.run}, but other bytes: "
                f"{', '.join(record.other_bytes.outputs)}. Later runs reuse that run's outputs; name this one to "
                f"use it (--reuse {self.run})"
            )
        self._record_success(task, record)
        shutil.rmtree(self._checkpoints(task.parts.key), ignore_errors=True)
        return record

    def find_reusable(self, parts: KeyParts, read: bool = True) -> CachedStage:
        """An earlier success with this key (see infra.stages.reuse.find_reusable)."""
        return find_reusable(self.store, parts, read, self.any_environment)

    def reused(self, record: StageRecord, task: StageTask) -> StageRecord:
        """The record of this run's reusing what `record` made."""
        other = (
            [] if record.key == task.parts.key else environment_differences(record.environment, task.parts.environment)
        )
        update = {"reused_from": record.reused_from or record.run, "run": self.run, "stage": task.name}
        return record.model_copy(update=update | {"reused_despite": other})

    def reuse(self, record: StageRecord, task: StageTask) -> StageRecord:
        """Record that this run reuses what `record` made, whatever its key."""
        reused = self.reused(record, task)
        say(f"{task.name}: reused from run {reused.reused_from} (key {record.key[:12]})")
        for difference in reused.reused_despite:
            say(f"{task.name}: made in another numeric environment: {difference}")
        records.write(self.store, f"stage-runs/{self.run}", reused)
        return reused

    def _checked_again(self, task: StageTask, reused: StageRecord) -> StageRecord:
        """What is reused, with results of the gates as they are now."""
        check = None if task.gates_key == reused.gates_key else task.load_check
        if check is None:
            return self.reuse(reused, task)
        attempt = _Attempt()
        with self._attempt(task, attempt) as context:
            check()(context, task.settings)
        names = {gate.gate for gate in attempt.gates}
        others = [gate for gate in reused.gates if gate["gate"] not in names]
        gates = [*(asdict(gate) for gate in attempt.gates), *others]
        checked = reused.model_copy(update={"gates": gates, "gates_key": task.gates_key})
        records.write(self.store, f"stages/{reused.key}", checked)
        return self.reuse(checked, task)

    def _record_success(self, task: StageTask, record: StageRecord) -> None:
        parts, name = task.parts, f"definitions/{record.definitions}"
        if not self.store.list_records(name):
            records.write(self.store, name, DefinitionsRecord(modules=definitions(parts.modules)))
        if parts.environment:
            entry = PortableKeyRecord(key=parts.key, stage=parts.stage)
            records.write(self.store, f"portable-keys/{parts.portable_key}", entry)
        records.write(self.store, f"stages/{parts.key}", record)
        records.write(self.store, f"stage-runs/{self.run}", record)

    def _checkpoints(self, key: str) -> Path:
        return self.home / "checkpoints" / key

    def _reachable_checkpoints(self, key: str, lease: Lease) -> AbstractContextManager[None]:
        """Keep checkpoints in a store that is elsewhere, for an attempt that may be elsewhere too."""
        if isinstance(self.store.backend, LocalBackend):
            return nullcontext()
        return mirrored(self.store.backend, key, self._checkpoints(key), self.store.cache, lease)

    @contextmanager
    def _exclusive(self, stage: str, key: str) -> Iterator[None]:
        """Wait while another process on this machine runs the stage with the same key: its outputs can be reused then.

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

    def _run(self, task: StageTask, lease: Lease) -> StageRecord:
        attempt, parts = _Attempt(), task.parts
        # Inside the attempt, so that its record says what happened.
        with self._attempt(task, attempt) as context, lease.naming_loss(task.name):
            if task.load_check is not None:
                task.load_check()(context, task.settings)
            with self._reachable_checkpoints(parts.key, lease):
                output = attempt.output = task.load_body()(context, task.settings)
            if output.headline:
                attempt.note(output.headline)
            attempt.outputs = {name: self.store.put(path, kind) for name, (kind, path) in output.outputs.items()}
            attempt.iterations = {number: self.store.put(path, ITERATION) for number, path in output.iterations.items()}
            attempt.tracker.outputs(attempt.outputs)
            attempt.tracker.summary(output.metrics)
            if self.tracking.mode == "online":
                seen = tracked_images(output.evaluation, self._images(task))
                attempt.tracker.images("evaluated prompts", seen)
        return self._record(task, attempt, other_bytes=compare_bytes(self.store, parts.key, attempt.outputs))

    @contextmanager
    def _attempt(self, task: StageTask, attempt: _Attempt) -> Iterator[StageContext]:
        """Make what a body or a check needs, record how it failed, and clear up."""
        stage, key = task.name, task.parts.key
        forget_opened()
        scratch = self.home / "scratch" / key
        shutil.rmtree(scratch, ignore_errors=True)  # left by a process that was killed
        scratch.mkdir(parents=True)
        beside = self.home / "runs" / self.run / stage.replace("/", "-")
        log = beside.with_suffix(".log")
        try:
            with stage_progress(stage) as progress, quiet_to(log), self._tracker(task) as attempt.tracker:
                attempt.note = progress.note

                def log_metrics(metrics: dict[str, Any]) -> None:
                    attempt.tracker.log(metrics, len(attempt.history))
                    attempt.history.append(metrics)

                yield StageContext(
                    seed=task.parts.seed or 0,
                    inputs={name: self.store.fetch(ref) for name, ref in task.inputs.items()},
                    folder=scratch,
                    checkpoints=self._checkpoints(key),
                    log=log_metrics,
                    sources=task.open_sources(scratch / "downloads"),
                    gates=attempt.gates,
                )
        except BaseException as error:
            message = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
            failed = self._record(task, attempt, Failure(error=message, log=str(log)))
            try:
                records.write(self.store, f"stage-runs/{self.run}", failed)
            except StoreError as lost:
                # What broke the stage may be the store: the stage's own error is the one to see.
                error.add_note(f"The failure could not be recorded: {lost}")
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            if attempt.gates:
                pictures = Pictures(self._images(task).thumbnail)
                page = render_page(attempt.gates, f"Data gates of {stage}, run {self.run}", pictures)
                write_text_atomically(beside.with_name(f"{beside.name}-gates.html"), page)

    def _images(self, task: StageTask) -> StoredImages:
        """The images of the data that a stage reads."""
        return StoredImages(self.store, tuple(ref.digest for ref in task.inputs.values() if ref.kind == "dataset"))

    def _tracker(self, task: StageTask) -> Tracker:
        version, parts = code_version(), task.parts
        lineage = {
            "run": self.run,
            "stage": task.name,
            "key": parts.key,
            "seed": parts.seed,
            "code": digest_of(parts.modules),
            "commit": version.commit,
            "diff": version.diff,
            "inputs": {name: ref.digest for name, ref in task.inputs.items()},
            "settings": parts.config,
        }
        return Tracker(
            self.tracking,
            run_name=f"{self.run}-{task.name}",
            group=self.run,
            job_type=task.name,
            config=lineage,
            folder=self.home / "wandb",
            run_id=self._tracking_id(parts),
        )

    def _tracking_id(self, parts: KeyParts) -> str:
        """The same when a stage is tried again, so that its tracked run continues."""
        return f"{self.run}-{parts.key[:12]}"

    def _record(
        self,
        task: StageTask,
        attempt: _Attempt,
        failure: Failure | None = None,
        other_bytes: OtherBytes | None = None,
    ) -> StageRecord:
        version, parts, output = code_version(), task.parts, attempt.output
        code = digest_of(parts.modules)
        return StageRecord(
            stage=task.name,
            key=parts.key,
            key_format=parts.format,
            run=self.run,
            started=attempt.started,
            seconds=time.perf_counter() - attempt.clock,
            peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            seed=parts.seed,
            config=parts.config,
            inputs=dict(task.inputs),
            upstream=parts.upstream,
            sources={address: parts.sources[name] for name, address in task.addresses.items()},
            source_digests=parts.sources,
            outputs={} if failure else attempt.outputs,
            iterations={} if failure else attempt.iterations,
            forked_from=task.forked_from,
            code=code,
            modules=parts.modules,
            definitions=code,
            commit=version.commit,
            diff=version.diff,
            packages=parts.packages,
            environment=parts.environment,
            sandboxes=opened_sandboxes(),
            gates_key=task.gates_key,
            gates=[asdict(gate) for gate in attempt.gates],
            metrics=output.metrics if output else {},
            history=attempt.history,
            evaluation=output.evaluation if output else None,
            tracking_id=None if self.tracking.mode == "disabled" else self._tracking_id(parts),
            other_bytes=other_bytes,
            failure=failure,
        )
