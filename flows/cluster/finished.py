"""What of a workflow needs no pod: its first step, which has no GPU, reuses all that is finished, and says for each of
the other steps whether it is to run.

Argo reads that from files, as parameters of the first step, and skips the steps that have nothing to do
(flows/cluster/workflow_changes.py). A step that is skipped leaves no artifacts behind: the others begin with those of
the first step, and with the records of this run that are in the store.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.chain import Chain, StageMissing, missing
from flows.cluster.plan import ON_CLUSTER
from flows.cluster.pool_environments import find_on_pool
from flows.cluster.workflow_changes import RUN
from flows.topology import STEPS, enabled_stages, inputs_of, stages_of_step
from infra.stages.key import KeyParts
from infra.store import records
from infra.store.records import StageRecord

OUTPUTS = Path("/mnt/out")
"""Where Argo looks for the files that hold a step's parameters."""


@dataclass
class _Step:
    """What a step of the flow would do."""

    reused: dict[str, tuple[KeyParts, StageRecord]]
    """By stage."""
    runs: bool = False
    """Whether anything is left to do."""


def finished_records(flow: Any) -> dict[str, StageRecord]:
    """The records of the stages that this run has finished, by stage. On a cluster, also those that are in no step's
    artifacts."""
    done = {name: StageRecord.model_validate(one) for name, one in flow.records.items()}
    if ON_CLUSTER in os.environ:
        of_run = records.read_skipping(flow.chain.store, StageRecord, f"stage-runs/{flow.run_name}")
        done |= {record.stage: record for record in of_run if record.failure is None}
    return done


def reuse_finished(chain: Chain, done: Iterable[StageRecord]) -> tuple[list[StageRecord], set[str]]:
    """Record as reused what the steps after the first would only reuse.

    Args:
        done: the records of the first step.

    Returns: the new records, and the stages whose steps have anything left to do. Raises StageMissing where a stage is
    needed, not selected, and has no outputs, and ForkRefused where one cannot continue from where it is to.
    """
    known: dict[str, StageRecord | None] = {record.stage: record for record in done}
    made: list[StageRecord] = []
    to_run: set[str] = set()
    for step in STEPS[1:]:
        planned = _planned(chain, step, known)
        if planned.runs:
            to_run.add(step)
            continue
        for stage, (parts, record) in planned.reused.items():
            task = replace(chain.task(stage, {name: each for name, each in known.items() if each}), parts=parts)
            made.append(chain.runner.reuse(record, task))
    return made, to_run


def _planned(chain: Chain, step: str, known: dict[str, StageRecord | None]) -> _Step:
    """What a step would do; `known` is extended by its stages."""
    result = _Step({})
    for stage in stages_of_step(step):
        if stage not in enabled_stages(chain.recipe):
            continue
        if not {each.stage for each in inputs_of(chain.recipe, stage).values()} <= known.keys():
            continue
        parts, selected = chain.parts(stage, known), stage in chain.selected
        chain.check_fork(stage, parts)
        forced = selected and chain.selection.force
        cached = None if forced or parts.unknown_inputs else find_on_pool(chain, step, stage, parts)
        if cached is not None and cached[1].record is not None:
            result.reused[stage] = (cached[0], cached[1].record)
            # Gates that have changed check again, which may take the memory of the step's own pod.
            result.runs |= selected and cached[1].record.gates_key != chain.gates_key(stage, known)
            known[stage] = cached[1].record
        elif selected or (stage in chain.needed and cached is None):
            # Not selected, it is for its pod to find what only that can: the key is not known here.
            result.runs = True
            known[stage] = None
        elif stage in chain.needed and cached is not None:
            raise StageMissing(missing(stage, chain.selection, cached[1]))
    return result


def write_steps_to_run(steps: Iterable[str], to_run: Iterable[str]) -> None:
    """Leave for Argo whether each of the steps is to run, by their names in the workflow."""
    chosen = set(to_run)
    for name in steps:
        (OUTPUTS / f"{RUN}{name}").write_text("true" if name in chosen else "false", encoding="utf-8")
