"""Tracking: each stage is one Weights & Biases run, recorded offline unless the recipe asks for a server.

Offline, nothing leaves the machine: system statistics, machine and git information, code, package lists, console output
and error reports are all off, and so is the look-up of cloud metadata. The folder that an offline run leaves can be
uploaded later with `wandb sync`. Lineage lives in our own store; a run carries the hashes in its config, and the
stage's outputs as artifacts that refer to the store: no file of theirs is read or uploaded.

A stage that is retried logs all of its rows again, and continues the run of the same id. The rows that the run has
are skipped, so that every step is uploaded once, from however many folders.

A server that cannot be reached never ends a training stage: the run continues offline, or untracked if the tracker's
own process is lost, and a warning says so. A server that refuses the run, a key that is missing, a folder that cannot
be written are errors at the start.
"""

import io
import logging
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from infra.errors import LonghaulError
from infra.store.store import Ref
from infra.tracking.offline_runs import next_step

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)

_ENVIRONMENT = {
    "AWS_EC2_METADATA_DISABLED": "true",
    # Otherwise the library reports its own errors to the server, also those of offline runs.
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
}


class TrackingMisconfigured(LonghaulError, ValueError):
    """Tracking cannot work as configured; the message names what is wrong and the way out."""


class TrackingConfig(BaseModel):
    """Where metrics go beside the stage's record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["offline", "online", "disabled"] = Field(
        "offline",
        description="'offline' writes files only; 'online' also sends them to the server; 'disabled' neither.",
    )
    project: str = Field("longhaul", min_length=1, max_length=128, description="Project that runs are listed under.")
    patience_s: float = Field(
        30, gt=0, description="Online: seconds to wait for the server when a stage starts and again when it ends."
    )


class Tracker:
    """One stage's run, from entering the block to leaving it.

    Args:
        run_id: stable name of the run; online, a stage that starts again continues the run of the same id. Offline,
            every start leaves a folder of its own, and `wandb sync` joins those that share an id, the oldest first.
        config: what the run is known by: the stage's settings and the digests of its inputs.
        folder: offline and online runs lie in `wandb` inside of it.

    Entering raises TrackingMisconfigured.
    """

    def __init__(
        self,
        tracking: TrackingConfig,
        *,
        run_id: str,
        run_name: str,
        group: str,
        job_type: str,
        config: Mapping[str, Any],
        folder: Path,
    ) -> None:
        self._tracking = tracking
        self._folder = folder
        self._named: dict[str, Any] = {
            "id": run_id,
            "name": run_name,
            "group": group,
            "job_type": job_type,
            "config": dict(config),
        }
        self._run: wandb.Run | None = None
        self._next_step = 0
        self._last_step = 0

    def __enter__(self) -> Self:
        if self._tracking.mode != "disabled":
            self._run = self._start(self._tracking.mode)
            # What the server has, or what it will have once the folders of earlier attempts are uploaded.
            uploaded = next_step(self._folder / "wandb", self._named["id"])
            self._next_step = max(self._run.step, uploaded)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run is None:
            return
        try:
            self._run.finish(exit_code=0 if kind is None else 1)
        except _connection_errors() as lost:
            self._lose(lost)
        self._run = None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add one row of metrics, unless the run has that step from an earlier attempt.

        Raises TypeError for a value that is not a number, ValueError for a step that goes back.
        """
        for name, value in metrics.items():
            if not isinstance(value, Real):
                raise TypeError(f"metric {name!r} is a {type(value).__name__}, expected a number")
        if step < self._last_step:
            raise ValueError(f"step {step} is logged after step {self._last_step}: steps must not go back")
        self._last_step = step
        if self._run is None or step < self._next_step:
            return
        try:
            self._run.log(dict(metrics), step=step)
        except _connection_errors() as lost:
            self._lose(lost)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set what the run's overview shows."""
        if self._run is None:
            return
        try:
            self._run.summary.update(dict(values))
        except _connection_errors() as lost:
            self._lose(lost)

    def images(self, name: str, images: Sequence[tuple[bytes, str]]) -> None:
        """Online, send some images, each an encoded file with its caption, beside the newest row."""
        if self._run is None or self._tracking.mode != "online" or not images:
            return
        import wandb
        from PIL import Image

        pictures = [wandb.Image(Image.open(io.BytesIO(content)), caption=caption) for content, caption in images]
        try:
            self._run.log({name: pictures}, step=max(self._last_step, self._next_step))
        except _connection_errors() as lost:
            self._lose(lost)

    def outputs(self, refs: Mapping[str, Ref]) -> None:
        """Record what the stage made: the digests in the run's overview, and each output as an artifact that refers to
        where it is stored.

        The files are neither read nor sent. A file of a local store is described by its name and size.
        """
        self.summary({"outputs": {name: ref.digest for name, ref in refs.items()}})
        for name, ref in refs.items():
            if self._run is None:
                return
            try:
                self._run.log_artifact(self._artifact(name, ref))
            except _connection_errors() as lost:
                self._lose(lost)

    def _artifact(self, name: str, ref: Ref) -> "wandb.Artifact":
        import wandb

        of = re.sub(r"[^A-Za-z0-9_.-]", "-", f"{self._named['job_type']}-{name}")
        artifact = wandb.Artifact(of, type=ref.kind, metadata=ref.model_dump())
        address = ref.address if "://" in ref.address else Path(ref.address).absolute().as_uri()
        artifact.add_reference(address, checksum=False)
        return artifact

    def _start(self, mode: Literal["offline", "online"]) -> "wandb.Run":
        os.environ.update(_ENVIRONMENT)
        # Otherwise it keeps logs, and what it writes aside of artifacts, in the user's home.
        own = str(self._folder.absolute() / "library")
        os.environ.update({"WANDB_DATA_DIR": own, "WANDB_CACHE_DIR": own})
        import wandb

        try:
            # The library would record to the system's temporary folder instead, and say nothing in silent mode.
            self._folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self._folder).close()
        except OSError as error:
            raise TrackingMisconfigured(
                f"tracking folder {self._folder} cannot be written: {error.strerror}"
            ) from error
        settings = wandb.Settings(
            mode=mode,
            console="off",
            silent=True,
            save_code=False,
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            symlink=False,
            use_dot_wandb=False,
            init_timeout=self._tracking.patience_s,
            finish_timeout=self._tracking.patience_s,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
            # Seconds. What is not on disk when a stage is killed is lost, and the default is 15.
            x_transaction_log_flush_interval=1.0,
        )
        try:
            # With a terminal on standard input and no key, init would ask for one and hold the stage up.
            if mode == "online" and not wandb.login(prompt=False, verify=False):
                raise TrackingMisconfigured(
                    "tracking.mode is 'online', but no Weights & Biases key was found: run `wandb login`, set "
                    "WANDB_API_KEY, or set tracking.mode to 'offline'"
                )
            return wandb.init(
                project=self._tracking.project,
                dir=str(self._folder),
                resume="allow",
                settings=settings,
                **self._named,
            )
        except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
            raise TrackingMisconfigured(f"tracking cannot start: {error}") from error
        except wandb.errors.CommError as error:
            # 408 and 429 ask to come back later; the other 4xx say that this run is not welcome.
            if re.search(r"returned error 4(?!08|29)\d\d", str(error)):
                raise TrackingMisconfigured(f"the tracking server refused the run: {error}") from error
            if mode == "offline":
                raise
            logger.warning(
                "The tracking server did not answer within %g s (%s). The run is recorded offline in %s; upload it "
                "later with `wandb sync`.",
                self._tracking.patience_s,
                error,
                self._folder,
            )
            wandb.teardown()  # its process still holds the run's id as taken
            return self._start("offline")

    def _lose(self, error: BaseException) -> None:
        """Continue without tracking."""
        logger.warning("The tracker's process is lost (%s); the stage continues untracked.", error)
        self._run = None


def _connection_errors() -> tuple[type[Exception], ...]:
    """What a run raises when its server or its own process is gone."""
    import wandb

    return (OSError, wandb.errors.CommError)
