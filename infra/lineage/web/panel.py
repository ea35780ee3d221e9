"""What the panel beside the graph shows of a node."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.flatten import flatten
from infra.lineage.graph import Node
from infra.lineage.queries import runs_that_used
from infra.lineage.rows import RunRow
from infra.lineage.sample_row import KIND
from infra.lineage.samples import SamplesError, samples_of
from infra.lineage.web.host import StageStatus
from infra.lineage.web.site import Site
from infra.lineage.web.summaries import Gate, execution_id, gates_of, plain_figures, words_of
from infra.lineage.web.templating import duration, percent, size, when
from infra.store.records import StageRecord, TagRecord
from infra.store.store import FileEntry, StoreError

FORMS: dict[str, Callable[[Any], Any]] = {
    "accuracy": percent,
    "size": size,
    "seconds": duration,
    "started": when,
    "time": when,
}
"""How facts are formatted that are more than plain values."""

MAX_NEIGHBOURS = 40
MAX_FILES = 200
MAX_RUNS = 30
MAX_EVALUATIONS = 20
PREVIEW = 2
"""Responses of an artifact of samples; a page of its own has all."""


@dataclass(frozen=True)
class Neighbour:
    """A node at the other end of an edge."""

    node: Node
    role: str


@dataclass(frozen=True)
class EvaluationLink:
    """An evaluation of a model that is a stage of its own."""

    node: str
    stage: str
    run: str
    started: str
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class Panel:
    """All that the panel shows of a node; what does not apply is empty."""

    node: Node
    upstream: Sequence[Neighbour]
    downstream: Sequence[Neighbour]
    more: int
    """Neighbours beyond those that are listed."""
    facts: Sequence[tuple[str, Any]]
    record: StageRecord | None = None
    """Of the execution, or of the one that made the artifact or was checked by the gate."""
    gates: Sequence[Gate] = ()
    gate: Gate | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """Figures of the evaluation that counts for the model which the record made."""
    evaluations: Sequence["EvaluationLink"] = ()
    """All evaluations of that model that are stages of their own, newest first."""
    files: Sequence[FileEntry] = ()
    files_left_out: int = 0
    problem: str = ""
    """Why the files, or the samples in them, cannot be shown."""
    samples: Sequence[Mapping[str, Any]] = ()
    """The first responses, of an artifact of samples."""
    history: Sequence[TagRecord] = ()
    today: StageStatus | None = None
    """Whether today's recipe, code and data make the same; None where that is not known, or not yet."""
    trained_on: str | None = None
    """Digest of the responses that the stage which made it left."""
    rerun: str = ""
    """The command that runs the run's recipe again from this stage on; empty where there is none."""
    runs: Sequence[RunRow] = ()
    """The newest runs that used a file or a data set."""
    more_runs: int = 0
    taggable: bool = False
    """Whether it is a model that a visitor may set a tag to."""


def panel_of(site: Site, id: str) -> Panel:
    """What the panel shows of a node. Raises LineageError where there is no such node."""
    around = site.index.neighbourhood(id, 1, MAX_NEIGHBOURS, fold=True)
    nodes = {node.id: node for node in around.nodes}
    node = nodes[id]
    basis: dict[str, Any] = {
        "node": node,
        "upstream": [Neighbour(nodes[e.source], e.role) for e in around.edges if e.target == id],
        "downstream": [Neighbour(nodes[e.target], e.role) for e in around.edges if e.source == id],
        "more": around.cut,
        "facts": [
            (name.replace("_", " "), FORMS[name](value) if name in FORMS else value)
            for name, value in node.facts.items()
            if value not in (None, "", [])
        ],
    }
    if node.kind == "execution":
        run, _, stage = id.removeprefix("execution:").partition(":")
        return Panel(**basis, **_record(site, site.index.execution(run, stage)))
    if node.kind == "gate":
        return _gate(site, id, basis)
    if node.kind == "artifact":
        return _artifact(site, node, basis)
    if node.kind == "tag":
        return Panel(**basis, history=site.index.tag_history(id.removeprefix("tag:")))
    return Panel(**basis, **(_runs(site, id) if node.kind == "source" else {}))


def _runs(site: Site, id: str) -> dict[str, Any]:
    rows, total = runs_that_used(site.index, id, MAX_RUNS)
    return {"runs": rows, "more_runs": total - len(rows)}


def rerun_command(command: Sequence[str], stage: str) -> str:
    """The command that runs a run's recipe again from a stage on, by the arguments of `longhaul` that started it; empty
    where they were not for a whole run."""
    partial = {"--from", "--only", "--until", "--reuse", "--fork", "--select", "--against"} & {
        part.partition("=")[0] for part in command
    }
    return shlex.join(["longhaul", *command, "--from", stage]) if command[:1] == ["run"] and not partial else ""


def _record(site: Site, record: StageRecord) -> dict[str, Any]:
    model = record.outputs.get("model")
    evaluations = site.index.evaluations(model.digest)[:MAX_EVALUATIONS] if model else []
    today = None
    detail = site.index.run(record.run)
    if site.host.staleness is not None:
        status = site.host.staleness(detail)
        today = status.stages.get(record.stage) if status else None
    return {
        "today": today,
        "trained_on": next((each.digest for each in record.outputs.values() if each.kind == KIND), None),
        "rerun": rerun_command(detail.start.command if detail.start else (), record.stage),
        "record": record,
        "gates": gates_of(record),
        "config": flatten(record.config),
        "metrics": flatten(record.metrics),
        "evaluation": words_of(plain_figures(site.index.evaluation_of(record))),
        "evaluations": [
            EvaluationLink(execution_id(each), each.stage, each.run, each.started, plain_figures(each))
            for each in evaluations
        ],
    }


def _gate(site: Site, id: str, basis: dict[str, Any]) -> Panel:
    name, _, number = id.removeprefix("gate:").rpartition(":")
    run, _, stage = name.partition(":")
    record = site.index.execution(run, stage)
    return Panel(**basis, record=record, gate=gates_of(record)[int(number)])


def _artifact(site: Site, node: Node, basis: dict[str, Any]) -> Panel:
    digest = node.id.removeprefix("artifact:")
    made: dict[str, Any] = {}
    ref = None
    run, stage = node.facts.get("run"), node.facts.get("stage")
    if run and stage:
        record = site.index.execution(run, stage)
        made = _record(site, record)
        ref = next((each for each in record.outputs.values() if each.digest == digest), None)
    entries: Sequence[FileEntry] = ()
    samples: Sequence[Mapping[str, Any]] = ()
    problem = ""
    try:
        entries = site.store.manifest(digest).files
        if ref is not None and ref.kind == KIND:
            samples = samples_of(site.store, ref, limit=PREVIEW)
    except (StoreError, SamplesError) as error:  # the rest of the panel is still of use
        problem = str(error)
    listed, left_out = entries[:MAX_FILES], max(0, len(entries) - MAX_FILES)
    taggable = node.facts.get("kind") == "model" and site.host.actions is not None
    if node.facts.get("kind") == "dataset":
        made |= _runs(site, node.id)
    displayed: dict[str, Any] = {"files": listed, "files_left_out": left_out, "problem": problem, "samples": samples}
    return Panel(**basis, **made, **displayed, taggable=taggable)
