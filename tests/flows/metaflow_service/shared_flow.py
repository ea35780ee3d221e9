"""A flow whose one stage all machines share: python shared_flow.py … run, with STORE, LONGHAUL_HOME and JOURNAL set."""

import os
from pathlib import Path

from metaflow import FlowSpec, step

from infra.stages import checkpoint_mirror, lease
from infra.stages.key import KeyParts
from infra.stages.runner import StageRunner, StageTask
from infra.store.open import open_store
from infra.tracking.tracker import TrackingConfig
from tests.infra.stages.leased_process import Settings, chained

HOME = Path(os.environ["LONGHAUL_HOME"])


class SharedFlow(FlowSpec):
    """Runs the stage, or reuses it."""

    @step
    def start(self) -> None:
        self.next(self.train)

    @step
    def train(self) -> None:
        lease.machine = lambda: HOME.name  # type: ignore[assignment]
        lease.EXPIRES_S, lease.RENEW_S, lease.POLL_S = 4.0, 0.4, 0.1
        checkpoint_mirror.EVERY_S = 0.05
        parts = KeyParts.now("chained", {}, 0, {}, {}, "infra.stages.contract")
        runner = StageRunner(
            open_store(os.environ["STORE"], HOME / "cache"), HOME.name, HOME, TrackingConfig(mode="disabled")
        )
        record = runner(
            StageTask("chained", parts, Settings(iterations=60), lambda: chained(Path(os.environ["JOURNAL"])))
        )
        self.began, self.reused_from = record.metrics["began"], record.reused_from
        self.output = record.outputs["out"].digest
        self.next(self.end)

    @step
    def end(self) -> None:
        print(f"began at {self.began}, reused from {self.reused_from}")


if __name__ == "__main__":
    SharedFlow()
