"""Adding records to the index.

Invariant: what the index holds depends on which records were added, never on their order or on how many were added at
a time; so an update and a rebuild come to the same.

Several records may be about one execution of a stage: under its key, in its run, and in each run that reused it, which
holds a copy. The newest of the first two counts, and a copy only where neither is there.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Table, delete, insert, or_, select

from infra.lineage.figures import figures_of, settings_of
from infra.lineage.node_writer import NodeWriter
from infra.lineage.row_values import (
    artifact_id,
    evaluation_number,
    evaluation_rank,
    execution_facts,
    execution_id,
    gate_facts,
    item_facts,
    item_values,
    made_by,
    number,
    pack,
    plain,
    run_values,
    source_id,
    tag_facts,
    unpack,
    whole,
)
from infra.lineage.tables import (
    among,
    edges,
    executions,
    items,
    nodes,
    records,
    run_events,
    run_settings,
    runs,
    stage_figures,
    stage_runs,
    tag_events,
    tags,
)
from infra.store.evaluation_stages import is_evaluation
from infra.store.records import Record, RunRecord, StageRecord, TagRecord


@dataclass(frozen=True)
class ReadRecord:
    """A record as it was read."""

    key: str
    raw: dict[str, Any]
    record: Record | None
    """None where it was skipped."""
    problem: str | None

    @property
    def kind(self) -> str:
        """The first part of its name."""
        return self.key.partition("/")[0]

    @property
    def stamp(self) -> str:
        """What records are ordered by."""
        return self.key.rpartition("/")[2]


class _View(NamedTuple):
    """What a run has of a stage; the greatest stamp counts."""

    stamp: str
    origin: str
    """The run that really ran the stage."""
    reused_despite: str
    """JSON."""


class Writer:
    """Adds records within one transaction that holds the index's lock."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._nodes = NodeWriter(connection)
        self._runs: set[str] = set()

    def add(self, batch: Sequence[ReadRecord]) -> int:
        """Add records; those that another process has added meanwhile are skipped. Returns how many were new."""
        keys = among(self.connection, records.c.key, [read.key for read in batch])
        known = set(self.connection.execute(select(records.c.key).where(keys, records.c.problem.is_(None))).scalars())
        batch = [read for read in batch if read.key not in known]
        self._drop(records, records.c.key, [read.key for read in batch])
        self._insert(records, [{"key": read.key, "problem": read.problem} for read in batch])
        self._runs = set()
        self._add_stages([read for read in batch if isinstance(read.record, StageRecord)])
        self._add_runs([read for read in batch if isinstance(read.record, RunRecord)])
        self._add_tags([read for read in batch if isinstance(read.record, TagRecord)])
        self._update_runs()
        self._update_items()
        self._nodes.flush()
        return sum(read.record is not None for read in batch)

    def _add_stages(self, batch: Sequence[ReadRecord]) -> None:
        newest: dict[tuple[str, str], tuple[str, dict[str, Any], StageRecord]] = {}
        views: dict[tuple[str, str], _View] = {}
        for read in batch:
            record = read.record
            assert isinstance(record, StageRecord)
            stage, origin = plain(record.stage), record.reused_from or record.run
            stamp = f"{int(record.reused_from is None)}/{read.stamp}"
            raw = read.raw | {"run": origin, "reused_from": None, "reused_despite": []}
            newest[origin, stage] = max(
                newest.get((origin, stage), ("", raw, record)), (stamp, raw, record), key=lambda each: each[0]
            )
            nothing = _View("", "", "")
            views[origin, stage] = max(views.get((origin, stage), nothing), _View(f"0/{stamp}", origin, "[]"))
            if read.kind == "stage-runs":
                view = _View(f"1/{read.stamp}", origin, json.dumps(record.reused_despite))
                views[record.run, stage] = max(views.get((record.run, stage), nothing), view)
        present = self._by_name(executions, {run for run, _ in newest})
        newest = {name: each for name, each in newest.items() if name not in present or each[0] > present[name].stamp}
        self._forget([present[name].node for name in newest if name in present])
        ids = self._nodes.numbers(
            [
                id
                for (run, stage), (_, _, record) in newest.items()
                for id in (
                    execution_id(run, stage),
                    *(artifact_id(ref.digest) for ref in (*record.inputs.values(), *made_by(record).values())),
                    *(source_id(digest, address) for address, digest in record.sources.items()),
                )
            ]
        )
        new_edges, rows = [], []
        for (run, stage), (stamp, raw, record) in newest.items():
            evaluation = is_evaluation(stage)
            node = self._nodes.node(
                ids, execution_id(run, stage), "execution", stage, execution_facts(run, record), folded=evaluation
            )
            model = record.inputs.get("model") if evaluation else None
            rows.append(
                {
                    "node": node,
                    "run": run,
                    "stage": stage,
                    "stamp": stamp,
                    "key": plain(record.key),
                    "started": plain(record.started),
                    "seconds": number(record.seconds) or 0.0,
                    "seed": whole(record.seed),
                    "failed": record.failure is not None,
                    "accuracy": evaluation_number(record, "accuracy"),
                    "mean_tokens": evaluation_number(record, "mean_tokens"),
                    "evaluates": model.digest if model else None,
                    "body": pack(raw),
                }
            )
            new_edges += [(self._nodes.artifact(ids, ref), node, plain(name)) for name, ref in record.inputs.items()]
            new_edges += [(self._nodes.source(ids, sha, where), node, "reads") for where, sha in record.sources.items()]
            if model:
                self._nodes.changed_items.add(ids[artifact_id(model.digest)])
            for name, ref in made_by(record).items():
                artifact = self._nodes.artifact(ids, ref)
                self._nodes.changed_items.add(artifact)
                new_edges.append((node, artifact, plain(name)))
            for place, gate in enumerate(record.gates):
                id = plain(f"gate:{run}:{stage}:{place}")
                new_edges.append((self._nodes.node(ids, id, "gate", *gate_facts(gate)), node, "checks"))
        self._insert(executions, rows)
        self._insert(
            stage_figures,
            [
                {"execution": row["node"], "name": name, "number": value}
                for row, (_, _, record) in zip(rows, newest.values(), strict=True)
                for name, value in figures_of(record).items()
            ],
        )
        self._connect(new_edges)
        self._add_views(views)

    def _forget(self, replaced: Sequence[int]) -> None:
        """Remove all that hangs on executions of which a better record was read."""
        if not replaced:
            return
        near = or_(*(among(self.connection, end, replaced) for end in (edges.c.source, edges.c.target)))
        ends = {end for edge in self.connection.execute(select(edges).where(near)) for end in edge[:2]}
        for node, kind in self.connection.execute(
            select(nodes.c.node, nodes.c.kind).where(among(self.connection, nodes.c.node, ends))
        ).all():
            if kind in ("artifact", "source"):
                self._nodes.changed_items.add(node)
            elif kind == "gate":
                self._nodes.remove([node])
        using = select(stage_runs.c.run).where(among(self.connection, stage_runs.c.execution, replaced))
        self._runs.update(self.connection.execute(using).scalars())
        self.connection.execute(delete(edges).where(near))
        self._drop(executions, executions.c.node, replaced)
        self._drop(stage_figures, stage_figures.c.execution, replaced)

    def _add_views(self, views: Mapping[tuple[str, str], "_View"]) -> None:
        present = self._by_name(stage_runs, {run for run, _ in views})
        new = {name: view for name, view in views.items() if name not in present or view.stamp > present[name].stamp}
        made = self._by_name(executions, {view.origin for view in new.values()})
        for run, stage in new.keys() & present.keys():
            self.connection.execute(delete(stage_runs).where(stage_runs.c.run == run, stage_runs.c.stage == stage))
        self._insert(
            stage_runs,
            [
                {
                    "run": run,
                    "stage": stage,
                    "stamp": view.stamp,
                    "written": view.stamp.rpartition("/")[2],
                    "execution": made[view.origin, stage].node,
                    "reused": view.origin != run,
                    "reused_despite": view.reused_despite,
                }
                for (run, stage), view in new.items()
            ],
        )
        self._runs.update(run for run, _ in new)

    def _add_runs(self, batch: Sequence[ReadRecord]) -> None:
        rows = []
        for read in batch:
            assert isinstance(read.record, RunRecord)
            rows.append(
                {
                    "key": read.key,
                    "stamp": read.stamp,
                    "run": read.record.run,
                    "event": read.record.event,
                    "body": pack(read.record.model_dump(mode="json")),
                }
            )
            self._runs.add(read.record.run)
        self._insert(run_events, rows)

    def _add_tags(self, batch: Sequence[ReadRecord]) -> None:
        rows = []
        for read in batch:
            assert isinstance(read.record, TagRecord)
            tag = plain(read.record.tag)
            body = pack(read.record.model_dump(mode="json"))
            rows.append({"key": read.key, "stamp": read.stamp, "tag": tag, "body": body})
        self._insert(tag_events, rows)
        for tag in sorted({str(row["tag"]) for row in rows}):
            newest = self.connection.execute(
                select(tag_events.c.body)
                .where(tag_events.c.tag == tag)
                .order_by(tag_events.c.stamp.desc(), tag_events.c.key.desc())
                .limit(1)
            ).scalar_one()
            record = TagRecord.model_validate(unpack(newest))
            ids = self._nodes.numbers([f"tag:{tag}", *([artifact_id(record.model.digest)] if record.model else [])])
            if (before := ids.get(f"tag:{tag}")) is not None:
                old = edges.c.target == before
                self._nodes.changed_items.update(self.connection.execute(select(edges.c.source).where(old)).scalars())
                self.connection.execute(delete(edges).where(old))
                self._drop(tags, tags.c.tag, [tag])
            if record.model is not None:
                node = self._nodes.node(ids, f"tag:{tag}", "tag", tag, tag_facts(record))
                artifact = self._nodes.artifact(ids, record.model)
                self._connect([(artifact, node, "tags")])
                self._insert(tags, [{"tag": tag, "node": node, "artifact": artifact}])
                self._nodes.changed_items.add(artifact)
            elif before is not None:
                self._nodes.remove([before])

    def _update_runs(self) -> None:
        """Compute the rows of runs that records were added to."""
        events: dict[str, list[Any]] = {}
        rows_of = select(run_events).where(among(self.connection, run_events.c.run, self._runs))
        for row in self.connection.execute(rows_of.order_by(run_events.c.stamp, run_events.c.key)):
            events.setdefault(row.run, []).append(row)
        stages: dict[str, list[Any]] = {}
        for row in self.connection.execute(
            select(stage_runs, executions)
            .join(executions, stage_runs.c.execution == executions.c.node)
            .where(among(self.connection, stage_runs.c.run, self._runs))
            .order_by(stage_runs.c.written, stage_runs.c.stage)
        ):
            stages.setdefault(row.run, []).append(row)
        ids = self._nodes.numbers([f"run:{run}" for run in self._runs])
        rows = []
        for run in sorted(self._runs):
            values = run_values(run, events.get(run, []), stages.get(run, []))
            facts = {name: values[name] for name in ("recipe", "status", "started", "accuracy", "seed")}
            rows.append(values | {"node": self._nodes.node(ids, f"run:{run}", "run", run, facts)})
        self._add_settings(events)
        self._drop(runs, runs.c.node, [row["node"] for row in rows])
        self._insert(runs, rows)
        self._drop(edges, edges.c.target, [row["node"] for row in rows])
        self._connect([(each.execution, row["node"], "uses") for row in rows for each in stages.get(row["run"], [])])

    def _add_settings(self, events: Mapping[str, Sequence[Any]]) -> None:
        """Settings of the recipes that runs started with, the last time."""
        self._drop(run_settings, run_settings.c.run, list(events))
        rows = []
        for run, each in events.items():
            start = next((unpack(row.body) for row in reversed(each) if row.event == "started"), {})
            for name, (value, text) in settings_of(start.get("recipe") or {}).items():
                rows.append({"run": run, "name": name, "number": value, "text": text})
        self._insert(run_settings, rows)

    def _update_items(self) -> None:
        """Compute the rows of artifacts and sources whose edges have changed; those without edges go."""
        changed = self._nodes.changed_items
        touched = among(self.connection, items.c.node, changed)
        known = {row.node: dict(row._mapping) for row in self.connection.execute(select(items).where(touched))}
        known |= self._nodes.new_items
        first: dict[int, tuple[Any, ...]] = {}
        best: dict[int, tuple[Any, ...]] = {}
        connected: set[int] = set()
        for item, execution in ((edges.c.target, edges.c.source), (edges.c.source, edges.c.target)):
            made = item is edges.c.target
            columns = (executions.c.started, executions.c.run, executions.c.stage, edges.c.role)
            figures = (executions.c.accuracy, executions.c.mean_tokens, executions.c.evaluates)
            for row in self.connection.execute(
                select(item.label("item"), *columns, *figures)
                .join(executions, executions.c.node == execution)
                .where(among(self.connection, item, changed))
            ):
                connected.add(row.item)
                values = known[row.item]
                maker = (row.started, row.run, row.stage, row.role)
                if made != values["source"]:
                    first[row.item] = min(first.get(row.item, maker), maker)
                evaluates = row.role == "model" and (made or row.evaluates == values["digest"])
                if values["model"] and evaluates and row.accuracy is not None:
                    rank = evaluation_rank(row.stage, row.started, row.run)
                    figures_of = (rank, row.accuracy, row.mean_tokens)
                    best[row.item] = max(best.get(row.item, figures_of), figures_of, key=lambda each: each[0])
        set_tags: dict[int, list[str]] = {}
        for tag, node in self.connection.execute(
            select(tags.c.tag, tags.c.artifact).where(among(self.connection, tags.c.artifact, changed))
        ):
            set_tags.setdefault(node, []).append(tag)
        connected.update(set_tags)
        rows = [
            item_values(known[node], first.get(node), best.get(node, (None, None, None))[1:], set_tags.get(node, []))
            for node in sorted(connected)
        ]
        self._drop(items, items.c.node, list(changed))
        self._insert(items, rows)
        for values in rows:
            self._nodes.describe(values["node"], *item_facts(values))
        self._nodes.remove(changed - connected)

    def _by_name(self, table: Table, run_names: Collection[str]) -> dict[tuple[str, str], Any]:
        """Rows of a table by run and stage."""
        rows_of = select(table).where(among(self.connection, table.c.run, run_names))
        return {(row.run, row.stage): row for row in self.connection.execute(rows_of)}

    def _connect(self, new_edges: Sequence[tuple[int, int, str]]) -> None:
        distinct = dict.fromkeys(new_edges)
        self._insert(edges, [{"source": source, "target": target, "role": role} for source, target, role in distinct])

    def _insert(self, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        if rows:
            self.connection.execute(insert(table), rows)

    def _drop(self, table: Table, column: Column[Any], values: Collection[Any]) -> None:
        if values:
            self.connection.execute(delete(table).where(among(self.connection, column, values)))
