"""Whatever order records arrive in, and however many at a time, the index comes to hold the same."""

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from infra.lineage import tables
from infra.lineage.tables import metadata, open_engine, writing
from infra.lineage.writer import ReadRecord, Writer
from infra.store.records import Failure, StageRecord
from tests.infra.lineage.records import History, digest, stage_record


def made_up(chance: Random) -> list[ReadRecord]:
    """Up to three runs that reuse each other's stages, fail, are tried again and lose records; and two tags."""
    history = History()
    made: list[dict[str, StageRecord]] = []
    for number in range(chance.randint(1, 3)):
        before = chance.choice(made) if made and chance.random() < 0.5 else {}
        done = sorted(stage for stage, record in before.items() if record.failure is None)
        record = history.add_run(
            f"run{number}",
            minutes=chance.choice([60 * number, 0]),
            reuse={stage: before[stage] for stage in done if chance.random() < 0.5},
            fails_at=chance.choice([None, None, "data", "rl", "long2short/dpo"]),
            status=chance.choice([None, "running", "interrupted"]),
            sources={"data": {"train.jsonl": digest(chance.randint(0, 1))}},
            evaluated=chance.random() < 0.7,
        )
        made.append(record)
        if chance.random() < 0.5:
            # Another attempt at a stage, which reads another file and makes what others may have made as well.
            stage = chance.choice(sorted(record))
            failure = Failure(error="again") if chance.random() < 0.5 else None
            outputs = {} if failure else chance.choice(list(chance.choice(made).values())).outputs
            again = stage_record(
                stage, f"run{number}", sources={"other.jsonl": digest(2)}, outputs=outputs, failure=failure
            )
            history.records.append((f"stage-runs/run{number}", again))
        if chance.random() < 0.5:
            with_model = [each for each in record.values() if "model" in each.outputs]
            history.set_tag(chance.choice(["production", "best"]), chance.choice([None, *with_model]))
    retained = [each for each in history.records if chance.random() < 0.9]
    return [
        ReadRecord(f"{name}/{place:020d}-{digest(place)[:32]}.json", record.model_dump(mode="json"), record, None)
        for place, (name, record) in enumerate(retained)
    ]


def contents(batches: list[list[ReadRecord]]) -> dict[str, set[Any]]:
    """All that an index holds after adding some batches, without the numbers that nodes happen to have."""
    engine = open_engine("sqlite://")
    for batch in batches:
        with writing(engine) as connection:
            Writer(connection).add(batch)
    with engine.connect() as connection:
        nodes = {row.node: row.id for row in connection.execute(select(tables.nodes))}
        results: dict[str, set[Any]] = {}
        for table in metadata.sorted_tables:
            numbered = [
                place
                for place, column in enumerate(table.columns)
                if column.name in ("node", "execution", "artifact", "source", "target")
                and isinstance(column.type, tables.Integer)
            ]
            results[table.name] = {
                tuple(nodes[value] if place in numbered else value for place, value in enumerate(row))
                for row in connection.execute(select(table))
            }
    engine.dispose()
    return results


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([4, 20, 1000]))
def test_the_order_of_records_and_the_size_of_batches_change_nothing(seed: int, size: int) -> None:
    chance = Random(seed)
    reads = made_up(chance)
    shuffled = chance.sample(reads, len(reads))
    batches = [shuffled[at : at + size] for at in range(0, len(shuffled), size)]
    at_once = contents([reads])
    assert contents(batches) == at_once
    assert contents([*batches, reads]) == at_once
