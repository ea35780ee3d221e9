"""A stage that lost a node is tried again on another machine, which has nothing but the store."""

import uuid
from pathlib import Path

import boto3
import pytest
from pydantic import BaseModel

from infra.cluster.connection import NodeLost
from infra.files import write_text_atomically
from infra.stages.contract import Body, StageContext, StageOutput
from infra.stages.key import KeyParts
from infra.stages.runner import StageRunner, StageTask
from infra.store.open import open_store
from infra.tracking.tracker import TrackingConfig


class Iterations(BaseModel):
    iterations: int = 4


def counts(lost_at: int | None) -> Body:
    """A stage of several iterations, which loses a node in one of them."""

    def body(context: StageContext, settings: Iterations) -> StageOutput:
        there = sorted(context.checkpoints.glob("[0-9]")) if context.checkpoints.exists() else []
        began = int(there[-1].name) + 1 if there else 0
        for iteration in range(began, settings.iterations):
            if iteration == lost_at:
                raise NodeLost("node 1 (10.0.0.2) is gone")
            write_text_atomically(context.checkpoints / str(iteration), "weights")
        out = context.folder / "out"
        write_text_atomically(out / "count", str(settings.iterations))
        return StageOutput({"out": ("dataset", out)}, {"began": began})

    return body


def test_a_stage_that_lost_a_node_resumes_elsewhere_from_its_last_checkpoint(s3: None, tmp_path: Path) -> None:
    boto3.client("s3").create_bucket(Bucket="checkpoints")
    address = f"s3://checkpoints/{uuid.uuid4().hex}"
    parts = KeyParts.now("counts", {}, 0, {}, {}, "infra.stages.contract")

    def attempt(machine: str, lost_at: int | None) -> int:
        store = open_store(address, tmp_path / machine / "cache")
        runner = StageRunner(store, "run", tmp_path / machine, TrackingConfig(mode="disabled"))
        task = StageTask("counts", parts, Iterations(), lambda: counts(lost_at))
        began: int = runner(task).metrics["began"]
        return began

    with pytest.raises(NodeLost):
        attempt("here", lost_at=3)
    assert attempt("there", lost_at=None) == 3
    assert open_store(address).backend.files(f"checkpoints/{parts.key}") == {}, (
        "a stage that is done keeps no checkpoints"
    )
