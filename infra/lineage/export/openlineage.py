"""The lineage as OpenLineage events (https://openlineage.io), by that project's own classes.

    run        ─▶ a job named after the recipe: START, and COMPLETE, FAIL or ABORT once it has ended
    execution  ─▶ a job <recipe>.<stage>: START, and COMPLETE or FAIL, with the run that ran it as its parent
    artifact   ─▶ a data set <recipe>/<stage>/<output> of the store, its digest the version, its address the source
    source     ─▶ a data set named by its address: a bucket or file://HOST is the namespace, its SHA-256 the version
    evaluation ─▶ a job like every stage's, and the facet `longhaul_evaluation` of the model's data set
    gate       ─▶ tests of the execution's run, and assertions about the data that it read
    tag        ─▶ a tag of the data set, in the events of the execution that made it

Data sets are named by what makes them, so that a consumer sees their history: a stage that runs again makes another
version of the same data set. What a stage reads has the name under which it was made first. Ids of runs are computed
from names, so that exporting twice gives the same events. What OpenLineage has no facet for (key, seed,
configuration, packages, metrics) is in facets of our own (facets.py).
"""

import math
import socket
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    DatasetFacet,
    JobFacet,
    RunFacet,
    data_quality_assertions_dataset,
    dataset_type_dataset,
    dataset_version_dataset,
    datasource_dataset,
    documentation_dataset,
    error_message_run,
    job_type_job,
    parent_run,
    source_code_location_job,
    tags_dataset,
    tags_run,
    test_run,
)
from openlineage.client.serde import Serde

from infra.lineage.errors import LineageError
from infra.lineage.export.facets import LonghaulEvaluationDatasetFacet, LonghaulStageRunFacet
from infra.lineage.export.selection import makers
from infra.lineage.graph import Node, Subgraph
from infra.lineage.index import LineageIndex
from infra.lineage.row_values import made_by
from infra.lineage.rows import RunDetail
from infra.store.evaluation_stages import is_evaluation
from infra.store.records import StageRecord
from infra.store.store import Ref

PRODUCER = "urn:longhaul:lineage"

NAMESPACE = "longhaul"
"""Of jobs."""

Names = Mapping[str, tuple[str, str, str]]
"""By digest of an artifact, the recipe, the stage and the output as which it was made first."""

_ENDS = {"succeeded": RunState.COMPLETE, "failed": RunState.FAIL, "interrupted": RunState.ABORT}


def events(index: LineageIndex, graph: Subgraph) -> Iterator[dict[str, Any]]:
    """The events of all runs and executions in a subgraph, as plain data.

    Raises LineageError for a record whose times are not valid.
    """
    tags: dict[str, list[str]] = {}
    for tag in index.tags():
        if tag.model is not None:
            tags.setdefault(tag.model.digest, []).append(tag.tag)
    names = _names(index, graph)
    for node in graph.nodes:
        try:
            if node.kind == "run":
                made = _run_events(index.run(node.label))
            elif node.kind == "execution":
                made = _execution_events(index, node, tags, names)
            else:
                continue
        except (ValueError, OverflowError) as error:
            raise LineageError(f"{node.id} cannot be exported as events: {error}") from error
        yield from (Serde.to_dict(event) for event in made)


def _run_events(detail: RunDetail) -> list[RunEvent]:
    run, job = _run_of(detail.row.run), _job(detail.row.recipe or "run", "RUN")
    reused = [
        tags_run.TagsRunFacetFields(key=f"reused {record.stage}", value=record.reused_from, source="LONGHAUL")
        for record in detail.stages
        if record.reused_from
    ]
    facets: dict[str, RunFacet] = {}
    if reused:
        facets["tags"] = tags_run.TagsRunFacet(tags=reused, producer=PRODUCER)
    made = []
    if detail.start is not None:
        made.append(_event(RunState.START, detail.start.time, run, job, facets))
    if detail.end is not None and detail.end.status in _ENDS:
        if detail.end.error:
            facets = facets | {"errorMessage": _error(detail.end.error)}
        made.append(_event(_ENDS[detail.end.status], detail.end.time, run, job, facets))
    return made


def _names(index: LineageIndex, graph: Subgraph) -> Names:
    """Names of all that a subgraph's executions read, whether their makers are in it or not: they are the same in every
    export."""
    read = [
        index.execution(node.facts["run"], node.facts["stage"]).inputs
        for node in graph.nodes
        if node.kind == "execution"
    ]
    made: dict[str, tuple[str, tuple[str, str, str]]] = {}
    for node in makers(index, {ref.digest for refs in read for ref in refs.values()}):
        record = index.execution(node.facts["run"], node.facts["stage"])
        for output, ref in made_by(record).items():
            entry = (record.started, (_recipe(index, record), record.stage, output))
            made[ref.digest] = min(entry, made.get(ref.digest, entry))
    return {digest: name for digest, (_, name) in made.items()}


def _recipe(index: LineageIndex, record: StageRecord) -> str:
    return index.node(f"run:{record.run}").facts["recipe"] or "run"


def _execution_events(index: LineageIndex, node: Node, tags: dict[str, list[str]], names: Names) -> list[RunEvent]:
    record = index.execution(node.facts["run"], node.facts["stage"])
    recipe = _recipe(index, record)
    facets: dict[str, RunFacet] = {
        "parent": parent_run.ParentRunFacet(
            run=parent_run.Run(runId=_run_of(record.run)),
            job=parent_run.Job(namespace=NAMESPACE, name=recipe),
            producer=PRODUCER,
        ),
        "longhaul_stage": LonghaulStageRunFacet(
            stage=record.stage,
            key=record.key,
            keyFormat=record.key_format,
            seed=record.seed,
            config=_as_json(record.config),
            code=record.code,
            diff=record.diff,
            packages=record.packages,
            environment=record.environment,
            metrics=_as_json(record.metrics),
            peakMemoryMb=record.peak_memory_mb,
            otherBytes=record.other_bytes.model_dump() if record.other_bytes else None,
            forkedFrom=record.forked_from.model_dump() if record.forked_from else None,
            producer=PRODUCER,
        ),
    }
    id, job = str(uuid5(NAMESPACE_URL, f"{PRODUCER}:{node.id}")), _job(f"{recipe}.{record.stage}", "STAGE", record)
    inputs = _inputs(record, names)
    ended = (_time(record.started) + timedelta(seconds=record.seconds)).isoformat()
    last = facets | ({"test": _tests(record)} if record.gates else {})
    if record.failure is not None:
        last = last | {"errorMessage": _error(record.failure.error)}
    outputs = [
        OutputDataset(
            *_artifact_name(ref, (recipe, record.stage, name)),
            facets=_dataset_facets(ref, f"{record.stage} · {name}", tags)
            | (_evaluation(index.evaluation_of(record)) if name == "model" else {}),
        )
        for name, ref in made_by(record).items()
    ]
    end = RunState.FAIL if record.failure else RunState.COMPLETE
    return [
        _event(RunState.START, record.started, id, job, facets, inputs),
        _event(end, ended, id, job, last, inputs, outputs),
    ]


def _event(
    kind: RunState,
    time: str,
    run: str,
    job: Job,
    facets: dict[str, RunFacet],
    inputs: list[InputDataset] | None = None,
    outputs: list[OutputDataset] | None = None,
) -> RunEvent:
    return RunEvent(
        eventType=kind,
        eventTime=_time(time).isoformat(),
        run=Run(runId=run, facets=facets),
        job=job,
        inputs=inputs or [],
        outputs=outputs or [],
        producer=PRODUCER,
    )


def _time(text: str) -> datetime:
    """A time with its zone. Raises ValueError."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} is a time without a zone")
    return time


def _run_of(run: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"{PRODUCER}:run:{run}"))


def _job(name: str, kind: str, record: StageRecord | None = None) -> Job:
    facets: dict[str, JobFacet] = {
        "jobType": job_type_job.JobTypeJobFacet(
            processingType="BATCH", integration="LONGHAUL", jobType=kind, producer=PRODUCER
        )
    }
    if record is not None and record.commit:
        facets["sourceCodeLocation"] = source_code_location_job.SourceCodeLocationJobFacet(
            # The address of the repository is not recorded; this names the commit wherever it is (ISO/IEC 18670).
            type="git",
            url=f"swh:1:rev:{record.commit}",
            version=record.commit,
            producer=PRODUCER,
        )
    return Job(namespace=NAMESPACE, name=name, facets=facets)


def _as_json(value: Any) -> Any:
    """Plain data as JSON has it: numbers that are not finite as words."""
    if isinstance(value, dict):
        return {str(name): _as_json(one) for name, one in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [_as_json(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _inputs(record: StageRecord, names: Names) -> list[InputDataset]:
    read = [
        InputDataset(
            *_artifact_name(ref, names.get(ref.digest)),
            facets=_dataset_facets(ref, name, {})
            | (_evaluation(record) if name == "model" and is_evaluation(record.stage) else {}),
            # Which of several data sets a gate is about is not recorded; it is never a model.
            inputFacets={"dataQualityAssertions": _assertions(record)} if record.gates and ref.kind != "model" else {},
        )
        for name, ref in record.inputs.items()
    ]
    outside = [
        InputDataset(
            *_named(address),
            facets={"version": _version(digest), "datasetType": _type("FILE")},
            inputFacets={"dataQualityAssertions": _assertions(record)} if record.gates else {},
        )
        for address, digest in record.sources.items()
    ]
    return [*read, *outside]


def _artifact_name(ref: Ref, name: tuple[str, str, str] | None) -> tuple[str, str]:
    """Namespace and name of an artifact: its store and what made it; its address where that is not known."""
    if name is None:
        return _named(ref.address)
    store = ref.address.partition("/objects/")[0]
    return store if store.startswith("s3://") else f"file://{socket.gethostname()}{store}", "/".join(name)


def _named(address: str) -> tuple[str, str]:
    """Namespace and name of a data set, by OpenLineage's naming of what is in buckets and files."""
    if address.startswith("s3://"):
        bucket, _, key = address.removeprefix("s3://").partition("/")
        return f"s3://{bucket}", key or "/"
    # A path means something on this machine alone, a relative one from where the run was started.
    return f"file://{socket.gethostname()}", address


def _dataset_facets(ref: Ref, description: str, tags: dict[str, list[str]]) -> dict[str, DatasetFacet]:
    facets: dict[str, DatasetFacet] = {
        "version": _version(ref.digest),
        "dataSource": datasource_dataset.DatasourceDatasetFacet(
            name=ref.address,
            uri=ref.address if "://" in ref.address else f"file://{ref.address}",
            producer=PRODUCER,
        ),
        "datasetType": _type("MODEL" if ref.kind == "model" else "FILE", ref.kind),
        "documentation": documentation_dataset.DocumentationDatasetFacet(
            description=description, contentType="text/plain", producer=PRODUCER
        ),
    }
    if set_tags := tags.get(ref.digest):
        facets["tags"] = tags_dataset.TagsDatasetFacet(
            tags=[tags_dataset.TagsDatasetFacetFields(key=tag, value="true", source="LONGHAUL") for tag in set_tags],
            producer=PRODUCER,
        )
    return facets


def _evaluation(record: StageRecord | None) -> dict[str, DatasetFacet]:
    """The facet of the evaluation that a record holds; none where it holds none."""
    if record is None or record.evaluation is None:
        return {}
    evaluation = record.evaluation
    facet = LonghaulEvaluationDatasetFacet(
        stage=record.stage,
        run=record.run,
        problems=evaluation.problems,
        samples=evaluation.samples,
        accuracy=evaluation.accuracy,
        standardError=evaluation.standard_error,
        meanTokens=evaluation.mean_tokens,
        medianTokens=evaluation.median_tokens,
        p99Tokens=evaluation.p99_tokens,
        domains={
            name: {"problems": each.problems, "accuracy": each.accuracy, "meanTokens": each.mean_tokens}
            for name, each in evaluation.domains.items()
        },
        producer=PRODUCER,
    )
    return {"longhaul_evaluation": facet}


def _version(digest: str) -> DatasetFacet:
    return dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=digest, producer=PRODUCER)


def _type(kind: str, subtype: str | None = None) -> DatasetFacet:
    return dataset_type_dataset.DatasetTypeDatasetFacet(datasetType=kind, subType=subtype, producer=PRODUCER)


def _error(message: str) -> RunFacet:
    return error_message_run.ErrorMessageRunFacet(message=message, programmingLanguage="PYTHON", producer=PRODUCER)


def _checks(record: StageRecord) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each check of each gate, with the gate's name."""
    for gate in record.gates:
        checks = gate.get("checks")
        for check in checks if isinstance(checks, list) else []:
            if isinstance(check, dict):
                yield str(gate.get("gate")), check


def _severity(check: dict[str, Any]) -> str:
    return "warn" if check.get("severity") == "warn" else "error"


def _assertions(record: StageRecord) -> Any:
    return data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
        assertions=[
            data_quality_assertions_dataset.Assertion(
                assertion=str(check.get("expectation")),
                success=check.get("success") is True,
                column=str(check["column"]) if check.get("column") else None,
                severity=_severity(check),
                name=gate,
                description=str(check.get("rule")),
            )
            for gate, check in _checks(record)
        ],
        producer=PRODUCER,
    )


def _tests(record: StageRecord) -> RunFacet:
    return test_run.TestRunFacet(
        tests=[
            test_run.TestExecution(
                name=gate,
                status="pass" if check.get("success") is True else "fail",
                severity=_severity(check),
                type=str(check.get("expectation")),
                description=str(check.get("rule")),
            )
            for gate, check in _checks(record)
        ],
        producer=PRODUCER,
    )
