"""One machine at a stage, as a process that may be killed: python leased_process.py STORE HOME MACHINE JOURNAL

Prints the stage's record. The journal gets a line for each iteration, and for each time that two were at the stage.
"""

import fcntl
import hashlib
import json
import sys
import time
from pathlib import Path

from pydantic import BaseModel

from infra.files import folder_written_aside
from infra.stages import checkpoint_mirror, lease
from infra.stages.contract import Body, StageContext, StageOutput
from infra.stages.key import KeyParts
from infra.stages.runner import StageRunner, StageTask
from infra.store.open import open_store
from infra.tracking.tracker import TrackingConfig

ITERATIONS = 25


class Settings(BaseModel):
    iterations: int = ITERATIONS


def chained(journal: Path) -> Body:
    """A stage whose every iteration depends on the one before, and on the samples of all."""

    def body(context: StageContext, settings: Settings) -> StageOutput:
        with journal.with_suffix(".guard").open("a") as guard, journal.open("a", buffering=1) as log:
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.write("overlap\n")
            states = sorted(context.checkpoints.glob("state-*")) if context.checkpoints.exists() else []
            began = int(states[-1].name.removeprefix("state-")) if states else 0
            value = (states[-1] / "value").read_text() if states else "start"
            samples = context.checkpoints / "samples"
            samples.mkdir(parents=True, exist_ok=True)
            for iteration in range(began, settings.iterations):
                value = hashlib.sha256(f"{value} {iteration}".encode()).hexdigest()
                aside = samples / f".{iteration:03d}"
                aside.write_text(value)
                aside.rename(samples / f"{iteration:03d}")
                with folder_written_aside(context.checkpoints / f"state-{iteration + 1:03d}") as folder:
                    (folder / "value").write_text(value)
                log.write(f"iteration {iteration}\n")
                time.sleep(0.04)
            out = context.folder / "out"
            out.mkdir()
            for one in range(settings.iterations):
                (out / f"{one:03d}").write_text((samples / f"{one:03d}").read_text())
            return StageOutput({"out": ("dataset", out)}, {"began": began})

    return body


def main(store: str, home: str, machine: str, journal: str) -> None:
    """Run the stage, or wait for it and reuse it."""
    lease.machine = lambda: machine  # type: ignore[assignment]
    lease.EXPIRES_S, lease.RENEW_S, lease.POLL_S = 4.0, 0.4, 0.1
    checkpoint_mirror.EVERY_S = 0.05
    parts = KeyParts.now("chained", {}, 0, {}, {}, "infra.stages.contract")
    folder = Path(home)
    runner = StageRunner(open_store(store, folder / "cache"), folder.name, folder, TrackingConfig(mode="disabled"))
    record = runner(StageTask("chained", parts, Settings(), lambda: chained(Path(journal))))
    print(json.dumps({"key": record.key, "outputs": record.outputs["out"].digest, "reused": record.reused_from}))


if __name__ == "__main__":
    main(*sys.argv[1:])
