"""Adding nodes to the index: each has a number, under which edges and tables refer to it."""

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from infra.lineage.row_values import artifact_id, plain, source_id, whole
from infra.lineage.tables import among, nodes
from infra.store.store import Ref


class NodeWriter:
    """Numbers the nodes of one transaction, and writes them with `flush`.

    The nodes of artifacts and sources are described once their edges are known: until then, `changed_items` has their
    numbers, and `new_items` the values of the rows of those that were not in the index before.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._next: int = (connection.execute(select(func.max(nodes.c.node))).scalar() or 0) + 1
        self._added: dict[int, dict[str, Any]] = {}
        self._described: list[dict[str, Any]] = []
        self.changed_items: set[int] = set()
        self.new_items: dict[int, dict[str, Any]] = {}

    def numbers(self, ids: Collection[str]) -> dict[str, int]:
        """The numbers of those nodes that are in the index, or were added since the last flush."""
        requested = set(ids)
        query = select(nodes.c.id, nodes.c.node).where(among(self._connection, nodes.c.id, requested))
        added = {row["id"]: node for node, row in self._added.items() if row["id"] in requested}
        return {row.id: row.node for row in self._connection.execute(query)} | added

    def node(
        self, known: dict[str, int], id: str, kind: str, label: str, facts: dict[str, Any], folded: bool = False
    ) -> int:
        """The number of a node, which is added where it is not among the `known` ones (and is then one of them)."""
        number = self._number(known, id, kind, folded)
        self.describe(number, label, facts)
        return number

    def artifact(self, known: dict[str, int], ref: Ref) -> int:
        """The number of an artifact's node; otherwise as `node`."""
        id = artifact_id(ref.digest)
        is_new = id not in known
        number = self._number(known, id, "artifact")
        if is_new:
            self.changed_items.add(number)
            self.new_items[number] = {
                "node": number,
                "source": False,
                "model": ref.kind == "model",
                "digest": ref.digest,
                "kind": ref.kind,
                "address": plain(ref.address),
                "files": whole(ref.files),
                "size": whole(ref.size),
            }
        return number

    def source(self, known: dict[str, int], digest: str, address: str) -> int:
        """The number of a source's node; otherwise as `node`."""
        id = source_id(digest, address)
        is_new = id not in known
        number = self._number(known, id, "source")
        self.changed_items.add(number)
        if is_new:
            self.new_items[number] = {
                "node": number,
                "source": True,
                "model": False,
                "digest": plain(digest),
                "kind": "file",
                "address": plain(address),
                "files": None,
                "size": None,
            }
        return number

    def describe(self, node: int, label: str, facts: dict[str, Any]) -> None:
        """Give a node its label and its facts."""
        values = {"label": plain(label), "facts": json.dumps(facts)}
        if node in self._added:
            self._added[node].update(values)
        else:
            self._described.append({"of": node, **{f"new_{name}": value for name, value in values.items()}})

    def remove(self, numbers: Collection[int]) -> None:
        """Remove nodes, also such as are not written yet."""
        if numbers:
            self._connection.execute(delete(nodes).where(among(self._connection, nodes.c.node, numbers)))
        for number in numbers:
            self._added.pop(number, None)

    def flush(self) -> None:
        """Write what was added and described."""
        if self._added:
            self._connection.execute(insert(nodes), list(self._added.values()))
        if self._described:
            change = update(nodes).where(nodes.c.node == bindparam("of"))
            values = change.values(label=bindparam("new_label"), facts=bindparam("new_facts"))
            self._connection.execute(values, self._described)
        self._added, self._described = {}, []
        self.changed_items, self.new_items = set(), {}

    def _number(self, known: dict[str, int], id: str, kind: str, folded: bool = False) -> int:
        if id not in known:
            known[id] = self._next
            self._added[self._next] = {"node": self._next, "id": id, "kind": kind, "folded": folded}
            self._next += 1
        return known[id]
