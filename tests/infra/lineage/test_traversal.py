"""Walks, compared with what the definitions say on small graphs; and what they leave out on large ones."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from infra.lineage import tables
from infra.lineage.graph import Subgraph
from infra.lineage.tables import open_engine, reading, writing
from infra.lineage.traversal import neighbourhood, reach


def graph_of(size: int, edges: set[tuple[int, int]]) -> Engine:
    engine = open_engine("sqlite://")
    with writing(engine) as connection:
        shared = {"kind": "run", "facts": "{}", "folded": False}
        rows = [{"node": n, "id": f"run:{n}", "label": str(n)} | shared for n in range(size)]
        connection.execute(tables.nodes.insert(), rows)
        if edges:
            connection.execute(tables.edges.insert(), [{"source": a, "target": b, "role": "uses"} for a, b in edges])
    return engine


def numbers(graph: Subgraph) -> list[int]:
    return [int(node.label) for node in graph.nodes]


def within(edges: set[tuple[int, int]], start: int, hops: int) -> set[int]:
    """Nodes at most so many edges away, by the definition."""
    results = {start}
    for _ in range(hops):
        results |= {b for a, b in edges if a in results}
    return results


graphs = st.integers(1, 12).flatmap(
    lambda size: st.tuples(
        st.just(size), st.sets(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), max_size=25)
    )
)


@settings(max_examples=40, deadline=None)
@given(graphs, st.integers(0, 4), st.integers(1, 15))
def test_walks_reach_what_the_definitions_say(made: tuple[int, set[tuple[int, int]]], hops: int, limit: int) -> None:
    size, edges = made
    backwards = {(b, a) for a, b in edges}
    engine = graph_of(size, edges)
    with reading(engine) as connection:
        assert set(reach(connection, [0], "downstream", hops)) == within(edges, 0, hops)
        assert set(reach(connection, [0], "upstream", hops)) == within(backwards, 0, hops)
        assert set(reach(connection, [0], "upstream")) == within(backwards, 0, size)
        whole = neighbourhood(connection, "run:0", hops, size)
        assert set(numbers(whole)) == within(edges | backwards, 0, hops)
        assert whole.cut == 0
        assert {(int(e.source[4:]), int(e.target[4:])) for e in whole.edges} == {
            (a, b) for a, b in edges if {a, b} <= set(numbers(whole))
        }
        cut = neighbourhood(connection, "run:0", hops, limit)
        assert len(cut.nodes) == min(limit, len(whole.nodes))
        assert (cut.cut > 0) == (len(whole.nodes) > limit)
        assert numbers(cut)[0] == 0
    engine.dispose()


def test_each_node_gets_its_turn_where_one_has_thousands_of_neighbours() -> None:
    hub, quiet, size = 1, 2, 5000
    edges = {(0, hub), (0, quiet), (quiet, 3), (quiet, 4)} | {(hub, node) for node in range(5, size)}
    engine = graph_of(size, edges)
    with reading(engine) as connection:
        graph = neighbourhood(connection, "run:0", 2, 50)
    assert {3, 4} <= set(numbers(graph))
    assert (len(graph.nodes), graph.cut) == (50, size - 50)


def test_a_walk_asks_a_few_times_however_many_nodes_there_are() -> None:
    chance = Random(0)
    edges = {(chance.randrange(0, 2000), chance.randrange(0, 2000)) for _ in range(6000)}
    engine = graph_of(2000, edges)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    with reading(engine) as connection:
        neighbourhood(connection, "run:0", 2, 200)
    # The node's number, two hops, and the nodes and edges of the answer.
    assert len([each for each in statements if each.startswith("SELECT")]) == 1 + 2 + 2
