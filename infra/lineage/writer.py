"""Adding records to the index.

Invariant: what the index holds depends on which records were added, never on their order or on how many were added at
a time; so bringing it up to date and making it anew come to the same.

A stage's execution may be told of by several records: under its key, in its run, and in each run that used it again,
which holds a copy. The newest of the first two counts, and a copy only where neither is there.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Table, bindparam, delete, func, insert, or_, select, update

from infra.lineage.row_values import (
    artifact_id,
    execution_facts,
    execution_id,
    gate_facts,
    item_facts,
    item_values,
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
    runs,
    stage_runs,
    tag_events,
    tags,
)
from infra.store.records import Record, RunRecord, StageRecord, TagRecord
from infra.store.store import Ref


@dataclass(frozen=True)
class Read:
    """A record as it was read."""

    key: str
    raw: dict[str, Any]
    record: Record | None
    """None where it was passed over."""
    problem: str | None

    @property
    def kind(self) -> str:
        """The first part of its name."""
        return self.key.partition("/")[0]

    @property
    def stamp(self) -> str:
        """What records are ordered by."""
        return self.key.rpartition("/")[2]


class Writer:
    """Adds records within one transaction that holds the index's lock."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.next_node: int = (connection.execute(select(func.max(nodes.c.node))).scalar() or 0) + 1

    def add(self, batch: Sequence[Read]) -> int:
        """Add records; those that another process has added meanwhile are passed over. Returns how many were new."""
        keys = among(self.connection, records.c.key, [read.key for read in batch])
        known = set(self.connection.execute(select(records.c.key).where(keys, records.c.problem.is_(None))).scalars())
        batch = [read for read in batch if read.key not in known]
        self._drop(records, records.c.key, [read.key for read in batch])
        self._insert(records, [{"key": read.key, "problem": read.problem} for read in batch])
        self._new: dict[int, dict[str, Any]] = {}
        self._new_items: dict[int, dict[str, Any]] = {}
        self._changed: list[dict[str, Any]] = []
        self._items: set[int] = set()
        self._runs: set[str] = set()
        self._add_stages([read for read in batch if isinstance(read.record, StageRecord)])
        self._add_runs([read for read in batch if isinstance(read.record, RunRecord)])
        self._add_tags([read for read in batch if isinstance(read.record, TagRecord)])
        self._renew_runs()
        self._renew_items()
        self._insert(nodes, list(self._new.values()))
        if self._changed:
            change = update(nodes).where(nodes.c.node == bindparam("of"))
            self.connection.execute(
                change.values(label=bindparam("new_label"), facts=bindparam("new_facts")), self._changed
            )
        return sum(read.record is not None for read in batch)

    def _add_stages(self, batch: Sequence[Read]) -> None:
        told: dict[tuple[str, str], tuple[str, dict[str, Any], StageRecord]] = {}
        views: dict[tuple[str, str], tuple[str, str]] = {}
        for read in batch:
            record = read.record
            assert isinstance(record, StageRecord)
            stage, origin = plain(record.stage), record.reused_from or record.run
            stamp = f"{int(record.reused_from is None)}/{read.stamp}"
            raw = read.raw | {"run": origin, "reused_from": None}
            told[origin, stage] = max(
                told.get((origin, stage), ("", raw, record)), (stamp, raw, record), key=lambda each: each[0]
            )
            views[origin, stage] = max(views.get((origin, stage), ("", "")), (f"0/{stamp}", origin))
            if read.kind == "stage-runs":
                views[record.run, stage] = max(views.get((record.run, stage), ("", "")), (f"1/{read.stamp}", origin))
        there = self._by_name(executions, {run for run, _ in told})
        told = {name: each for name, each in told.items() if name not in there or each[0] > there[name].stamp}
        self._forget([there[name].node for name in told if name in there])
        ids = self._known_nodes(
            [
                id
                for (run, stage), (_, _, record) in told.items()
                for id in (
                    execution_id(run, stage),
                    *(artifact_id(ref.digest) for ref in (*record.inputs.values(), *record.outputs.values())),
                    *(source_id(digest, address) for address, digest in record.sources.items()),
                )
            ]
        )
        found, rows = [], []
        for (run, stage), (stamp, raw, record) in told.items():
            node = self._node(ids, execution_id(run, stage), "execution", stage, execution_facts(run, record))
            evaluation = record.evaluation or {}
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
                    "accuracy": number(evaluation.get("accuracy")),
                    "mean_tokens": number(evaluation.get("mean_tokens")),
                    "body": pack(raw),
                }
            )
            found += [(self._artifact(ids, ref), node, plain(name)) for name, ref in record.inputs.items()]
            found += [(self._source(ids, sha, where), node, "reads") for where, sha in record.sources.items()]
            for name, ref in record.outputs.items():
                artifact = self._artifact(ids, ref)
                self._items.add(artifact)
                found.append((node, artifact, plain(name)))
            for place, gate in enumerate(record.gates):
                id = plain(f"gate:{run}:{stage}:{place}")
                found.append((self._node(ids, id, "gate", *gate_facts(gate)), node, "checks"))
        self._insert(executions, rows)
        self._connect(found)
        self._add_views(views)

    def _forget(self, replaced: Sequence[int]) -> None:
        """Take away all that hangs on executions which a better record tells of."""
        if not replaced:
            return
        near = or_(*(among(self.connection, end, replaced) for end in (edges.c.source, edges.c.target)))
        ends = {end for edge in self.connection.execute(select(edges).where(near)) for end in edge[:2]}
        for node, kind in self.connection.execute(
            select(nodes.c.node, nodes.c.kind).where(among(self.connection, nodes.c.node, ends))
        ).all():
            if kind in ("artifact", "source"):
                self._items.add(node)
            elif kind == "gate":
                self._drop(nodes, nodes.c.node, [node])
        using = select(stage_runs.c.run).where(among(self.connection, stage_runs.c.execution, replaced))
        self._runs.update(self.connection.execute(using).scalars())
        self.connection.execute(delete(edges).where(near))
        self._drop(executions, executions.c.node, replaced)

    def _add_views(self, views: Mapping[tuple[str, str], tuple[str, str]]) -> None:
        there = self._by_name(stage_runs, {run for run, _ in views})
        new = {name: view for name, view in views.items() if name not in there or view[0] > there[name].stamp}
        made = self._by_name(executions, {origin for _, origin in new.values()})
        for run, stage in new.keys() & there.keys():
            self.connection.execute(delete(stage_runs).where(stage_runs.c.run == run, stage_runs.c.stage == stage))
        self._insert(
            stage_runs,
            [
                {
                    "run": run,
                    "stage": stage,
                    "stamp": stamp,
                    "written": stamp.rpartition("/")[2],
                    "execution": made[origin, stage].node,
                    "reused": origin != run,
                }
                for (run, stage), (stamp, origin) in new.items()
            ],
        )
        self._runs.update(run for run, _ in new)

    def _add_runs(self, batch: Sequence[Read]) -> None:
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

    def _add_tags(self, batch: Sequence[Read]) -> None:
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
            ids = self._known_nodes([f"tag:{tag}", *([artifact_id(record.model.digest)] if record.model else [])])
            if (before := ids.get(f"tag:{tag}")) is not None:
                was = edges.c.target == before
                self._items.update(self.connection.execute(select(edges.c.source).where(was)).scalars())
                self.connection.execute(delete(edges).where(was))
                self._drop(tags, tags.c.tag, [tag])
            if record.model is not None:
                node = self._node(ids, f"tag:{tag}", "tag", tag, tag_facts(record))
                artifact = self._artifact(ids, record.model)
                self._connect([(artifact, node, "tags")])
                self._insert(tags, [{"tag": tag, "node": node, "artifact": artifact}])
                self._items.add(artifact)
            elif before is not None:
                self._drop(nodes, nodes.c.node, [before])

    def _renew_runs(self) -> None:
        """Derive the rows of runs that records were added to."""
        events: dict[str, list[Any]] = {}
        listed = select(run_events).where(among(self.connection, run_events.c.run, self._runs))
        for row in self.connection.execute(listed.order_by(run_events.c.stamp, run_events.c.key)):
            events.setdefault(row.run, []).append(row)
        parts: dict[str, list[Any]] = {}
        for row in self.connection.execute(
            select(stage_runs, executions)
            .join(executions, stage_runs.c.execution == executions.c.node)
            .where(among(self.connection, stage_runs.c.run, self._runs))
            .order_by(stage_runs.c.written, stage_runs.c.stage)
        ):
            parts.setdefault(row.run, []).append(row)
        ids = self._known_nodes([f"run:{run}" for run in self._runs])
        rows = []
        for run in sorted(self._runs):
            values = run_values(run, events.get(run, []), parts.get(run, []))
            facts = {name: values[name] for name in ("recipe", "status", "started", "accuracy", "seed")}
            rows.append(values | {"node": self._node(ids, f"run:{run}", "run", run, facts)})
        self._drop(runs, runs.c.node, [row["node"] for row in rows])
        self._insert(runs, rows)
        self._drop(edges, edges.c.target, [row["node"] for row in rows])
        self._connect([(part.execution, row["node"], "uses") for row in rows for part in parts.get(row["run"], [])])

    def _renew_items(self) -> None:
        """Derive the rows of artifacts and sources whose edges have changed; those without edges go."""
        touched = among(self.connection, items.c.node, self._items)
        there = {row.node: dict(row._mapping) for row in self.connection.execute(select(items).where(touched))}
        there |= self._new_items
        first: dict[int, tuple[Any, ...]] = {}
        kept: set[int] = set()
        for item, execution in ((edges.c.target, edges.c.source), (edges.c.source, edges.c.target)):
            told = (executions.c.started, executions.c.run, executions.c.stage, edges.c.role)
            figures = (executions.c.accuracy, executions.c.mean_tokens)
            for row in self.connection.execute(
                select(item, *told, *figures)
                .join(executions, executions.c.node == execution)
                .where(among(self.connection, item, self._items))
            ):
                node, *values = row
                kept.add(node)
                made = item is edges.c.target
                if made != there[node]["source"]:
                    first[node] = min(first.get(node, tuple(values)), tuple(values), key=lambda each: each[:4])
        set_now: dict[int, list[str]] = {}
        for tag, node in self.connection.execute(
            select(tags.c.tag, tags.c.artifact).where(among(self.connection, tags.c.artifact, self._items))
        ):
            set_now.setdefault(node, []).append(tag)
        kept.update(set_now)
        values = [item_values(there[node], first.get(node), set_now.get(node, [])) for node in sorted(kept)]
        self._drop(items, items.c.node, list(self._items))
        self._insert(items, values)
        for each in values:
            self._describe(each["node"], *item_facts(each))
        lost = self._items - kept
        self._drop(nodes, nodes.c.node, list(lost))
        for node in lost:
            self._new.pop(node, None)

    def _artifact(self, ids: dict[str, int], ref: Ref) -> int:
        id = artifact_id(ref.digest)
        known = id in ids
        node = self._node(ids, id, "artifact", "", {})
        if not known:
            self._items.add(node)
            self._new_items[node] = {
                "node": node,
                "source": False,
                "model": ref.kind == "model",
                "digest": ref.digest,
                "kind": ref.kind,
                "address": plain(ref.address),
                "files": whole(ref.files),
                "size": whole(ref.size),
            }
        return node

    def _source(self, ids: dict[str, int], digest: str, address: str) -> int:
        id = source_id(digest, address)
        known = id in ids
        node = self._node(ids, id, "source", "", {})
        self._items.add(node)
        if not known:
            self._new_items[node] = {
                "node": node,
                "source": True,
                "model": False,
                "digest": plain(digest),
                "kind": "file",
                "address": plain(address),
                "files": None,
                "size": None,
            }
        return node

    def _node(self, ids: dict[str, int], id: str, kind: str, label: str, facts: dict[str, Any]) -> int:
        """The number of a node, which is made where it is not there yet. `ids` are those that are."""
        if id not in ids:
            ids[id] = self.next_node
            self._new[self.next_node] = {"node": self.next_node, "id": id, "kind": kind}
            self.next_node += 1
        if kind not in ("artifact", "source"):  # these are described once their edges are known
            self._describe(ids[id], label, facts)
        return ids[id]

    def _describe(self, node: int, label: str, facts: dict[str, Any]) -> None:
        told = {"label": plain(label), "facts": json.dumps(facts)}
        if node in self._new:
            self._new[node].update(told)
        else:
            self._changed.append({"of": node, **{f"new_{name}": value for name, value in told.items()}})

    def _known_nodes(self, ids: Collection[str]) -> dict[str, int]:
        """Numbers of those nodes that are there: in the tables, or made in this batch."""
        wanted = set(ids)
        query = select(nodes.c.id, nodes.c.node).where(among(self.connection, nodes.c.id, wanted))
        made = {row["id"]: node for node, row in self._new.items() if row["id"] in wanted}
        return {row.id: row.node for row in self.connection.execute(query)} | made

    def _by_name(self, table: Table, run_names: Collection[str]) -> dict[tuple[str, str], Any]:
        """Rows of a table by run and stage."""
        listed = select(table).where(among(self.connection, table.c.run, run_names))
        return {(row.run, row.stage): row for row in self.connection.execute(listed)}

    def _connect(self, found: Sequence[tuple[int, int, str]]) -> None:
        new = dict.fromkeys(found)
        self._insert(edges, [{"source": source, "target": target, "role": role} for source, target, role in new])

    def _insert(self, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        if rows:
            self.connection.execute(insert(table), rows)

    def _drop(self, table: Table, column: Column[Any], values: Collection[Any]) -> None:
        if values:
            self.connection.execute(delete(table).where(among(self.connection, column, values)))
