"""How long questions about the lineage take: 1,000 runs that made 100,000 artifacts, on SQLite.

    python -m benchmarks.lineage [--runs 1000] [--pages] [--index URL]

The records are synthetic (tests/infra/lineage/records.py): all runs share the first one's data and base, so those two
are hubs with thousands of neighbours; every fifth run reuses the stages before RL, every tenth fails. The newest dozen
runs have samples that are really stored, 3,200 responses to 200 prompts each. All records are
read into an empty index, then the index is updated with nothing new, then it is rebuilt. Each question is repeated
after one warm-up, and the median and the slowest repetition are printed, and the median of the processor's time: on a
busy machine that alone says what a question costs. The last line is JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from starlette.testclient import TestClient

from benchmarks.nano_start import machine
from infra.lineage.failures import failed_runs
from infra.lineage.histories import differences
from infra.lineage.index import LineageIndex
from infra.lineage.prompt_digest import prompt_digest
from infra.lineage.queries import find_all, models_that_saw, reruns
from infra.lineage.sample_files import write_samples
from infra.lineage.sample_row import KIND, PolicySpan, SampleRow
from infra.lineage.web.app import lineage_app
from infra.lineage.web.site import Site
from infra.lineage.web.templating import link
from infra.store.open import open_store
from infra.store.records import StageRecord
from infra.store.store import Store
from tests.infra.lineage.records import History, big_history, write_history

REPETITIONS = 10

SAMPLED_RUNS = 12
"""As many sets of samples as a text is searched in (`infra.lineage.prompt_search`)."""

TABS = ("stages", "curves", "evaluation", "gates", "configuration")
ANY_PAGE_MS, FIRST_PAGE_MS = 200, 100
"""What pages should stay below: any, and the first."""


def write_sampled_runs(store: Store, folder: Path, first: int) -> int:
    """Write runs whose RL left samples that are really stored. Returns the number of their records.

    Args:
        first: the number of records that the store has.
    """
    history = History()
    for number in range(SAMPLED_RUNS):
        rows = [
            SampleRow(
                problem_id=f"p{prompt}",
                prompt_digest=prompt_digest(f"How much is {prompt} + 2?"),
                prompt=f"How much is {prompt} + 2?",
                response=f"{number} {iteration} {place} " + "First I add, and then I check it again. " * 10,
                tokens=100 + place,
                role="rollout",
                outcome="trained",
                times_trained=1,
                iteration=iteration,
                policies=[PolicySpan(iteration, 100 + place)],
                reward=float(place % 2),
                stop="eos",
                source="data/train.jsonl",
            )
            for iteration in range(50)
            for place in range(64)
            for prompt in [(iteration * 8 + place // 8) % 200]
        ]
        place = folder / f"samples-{number}"
        place.mkdir(parents=True)
        write_samples(place / "samples.parquet", rows)
        own = History()
        own.add_run(f"2027-{number:05d}-made-up", minutes=600_000 + 60 * number)
        outputs = {"samples": store.put(place, KIND)}
        for name, record in own.records:
            if isinstance(record, StageRecord) and record.stage == "rl":
                record = record.model_copy(update={"outputs": record.outputs | outputs})
            history.records.append((name, record))
    return write_history(Path(store.backend.address), history.records, first)


def queries(index: LineageIndex) -> dict[str, Callable[[], Any]]:
    """The questions, by name."""
    newest, run = index.models().rows[0], index.runs().rows[4].run
    base, data = index.find("import").id, index.find("data").id
    hub = index.downstream(data, depth=1, limit=10).nodes[1].id
    calls: dict[str, Callable[[], Any]] = {}
    for name, page in (("runs", index.runs), ("models", index.models), ("data", index.data)):
        calls[f"{name}: first page"] = page
        total = page().total
        calls[f"{name}: last page"] = partial(page, offset=total - 50)
        calls[f"{name}: text"] = partial(page, "0042")
        calls[f"{name}: text that is nowhere"] = partial(page, "nowhere")
    calls["data: by size"] = lambda: index.data(order="-size")
    calls["data: by name"] = lambda: index.data(order="name")
    for name, id in (
        ("newest model", newest.id),
        ("shared data set", hub),
        ("base's import", base),
        ("run", f"run:{run}"),
        ("shared file", index.find("train.jsonl").id),
    ):
        calls[f"two hops around: {name}"] = partial(index.neighbourhood, id, 2)
    calls["upstream: newest model"] = lambda: index.upstream(newest.id)
    calls["downstream: shared file, 200 nodes"] = lambda: index.downstream(index.find("train.jsonl").id, limit=200)
    calls["find: digest's beginning"] = lambda: index.find(newest.digest[:10])
    calls["find: end of an address"] = lambda: index.find("train.jsonl")
    calls["a run in full"] = lambda: index.run(run)
    calls["earlier executions of RL"] = lambda: index.succeeded("rl")
    calls["differences of two models"] = lambda: differences(index, newest.digest, f"{run}:long_cot_sft")
    calls["what would rerun"] = lambda: reruns(index, "train.jsonl")
    calls["models that saw a file that all saw"] = lambda: models_that_saw(index, find_all(index, "train.jsonl"))
    calls["downstream: shared file, everything"] = lambda: index.downstream(index.find("train.jsonl").id)
    return calls


def pages(index: LineageIndex, store: Store, home: Path) -> dict[str, Callable[[], Any]]:
    """Pages of `longhaul lineage serve` as a browser requests them, by the beginnings of their addresses."""
    visitor = TestClient(lineage_app(Site.of(store, index, home)), base_url="http://127.0.0.1")
    run, other = index.runs().rows[1].run, index.runs().rows[4].run
    nodes = {"a model": index.models().rows[0].id, "shared file": index.find("train.jsonl").id, "run": f"run:{run}"}
    samples = next(row.digest for row in index.data(KIND).rows if row.kind == KIND)
    addresses = {"page / (the first)": "/"}
    addresses |= {f"page /{table}": f"/{table}" for table in ("runs", "models", "data")}
    names = ("failures", "gates", "benchmarks", "tags", "prompts", "schedules", "compare", "tags/production")
    addresses |= {f"page /{name}": f"/{name}" for name in names}
    addresses["page of samples"] = f"/samples/{samples}"
    addresses["page of samples, filtered"] = link(f"/samples/{samples}", iteration=3, reward_to=0, text="check")
    addresses["page of samples, by reward, the last"] = link(f"/samples/{samples}", sort="-reward", **{"from": 3175})
    addresses["page /prompts, a text"] = "/prompts?search=how+much+is+17"
    addresses["page of a prompt"] = f"/prompts/{prompt_digest('How much is 17 + 2?')}"
    addresses["page /failures, the last"] = f"/failures?offset={max(0, failed_runs(index).total - 20)}"
    addresses["page /runs, columns and conditions"] = (
        "/runs?column=rl:loss;rl:accuracy&where=rl:loss>=0.1&sort=-rl:loss"
    )
    addresses["page /runs, the last"] = f"/runs?offset={max(0, index.runs().total - 50)}&column=rl:loss"
    newest = [row.run for row in index.runs(limit=8).rows]
    addresses["page of eight runs' curves"] = link("/curves", run=newest)
    addresses |= {f"page /{table}, a text": f"/{table}?search=rl" for table in ("runs", "models", "data")}
    addresses |= {"page /data, by size": "/data?sort=-size", "page of two runs": f"/compare?a={run}&b={other}"}
    addresses |= {f"page of a run, {tab}": f"/runs/{run}?tab={tab}" for tab in TABS}
    for name, node in nodes.items():
        addresses[f"graph page: {name}"] = link("/graph", node=node)
        addresses[f"graph's data: {name}"] = link("/graph", node=node, hops=2).replace("/graph?", "/graph.json?")

    def get(address: str) -> None:
        visitor.get(address).raise_for_status()

    return {name: partial(get, address) for name, address in addresses.items()}


def timed(ask: Callable[[], Any], repetitions: int = REPETITIONS) -> dict[str, float]:
    """Milliseconds: the median and the longest, and the median of this process's time on the processor."""
    ask()
    times, processor = [], []
    for _ in range(repetitions):
        began, used = time.perf_counter(), time.process_time()
        ask()
        times.append((time.perf_counter() - began) * 1000)
        processor.append((time.process_time() - used) * 1000)
    values = {"median": statistics.median(times), "slowest": max(times), "processor": statistics.median(processor)}
    return {f"{name}_ms": round(value, 1) for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--pages", action="store_true", help="the pages alone")
    parser.add_argument("--index", help="an empty database; default: a SQLite file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        written = write_history(root / "store", big_history(options.runs))
        store = open_store(root / "store")
        written += write_sampled_runs(store, root / "samples", written)
        index = LineageIndex.of(store, root, options.index)
        first, again = index.sync(store), index.sync(store)
        rebuilt = index.rebuild(store) if not options.pages else first
        size = sum(file.stat().st_size for file in root.rglob("*.sqlite*"))
        models, data, runs = (page().total for page in (index.models, index.data, index.runs))
        figures: dict[str, Any] = {
            "machine": machine(),
            "runs": runs,
            "artifacts": models + data - 2,  # two of the data sets are files from outside
            "records": written,
            "index_seconds": round(first.seconds, 2),
            "index_again_seconds": round(again.seconds, 3),
            "rebuild_seconds": round(rebuilt.seconds, 2),
            "index_mb": round(size / 2**20, 1),
        }
        measured = {}
        heads = ("question", "median ms", "slowest ms", "processor ms")
        table = Table(*heads, title=f"{runs} runs, {figures['artifacts']} artifacts")
        of_pages = pages(index, store, root)
        for name, ask in ((queries(index) if not options.pages else {}) | of_pages).items():
            measured[name] = timed(ask, 3 if "every" in name or "all saw" in name else REPETITIONS)
            table.add_row(name, *(f"{value:.1f}" for value in measured[name].values()))
        index.close()
    medians = {name: measured[name]["median_ms"] for name in of_pages}
    figures["slowest_page_ms"] = max(medians.values())
    figures["first_page_ms"] = medians["page / (the first)"]
    figures["within_limits"] = figures["slowest_page_ms"] < ANY_PAGE_MS and figures["first_page_ms"] < FIRST_PAGE_MS
    Console().print(table)
    print(
        f"{written} records: indexed in {first.seconds:.1f} s, nothing new in {again.seconds:.2f} s, "
        f"rebuilt in {rebuilt.seconds:.1f} s; {figures['index_mb']} MiB"
    )
    print(json.dumps(figures | {"questions": measured}))


if __name__ == "__main__":
    main()
