"""A small made-up store behind the lineage page, with everything in it that a page can tell of."""

import json
import time
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.testclient import TestClient

from infra.lineage.index import LineageIndex
from infra.lineage.prompt_digest import prompt_digest
from infra.lineage.rows import RunDetail
from infra.lineage.sample_files import write_samples
from infra.lineage.sample_row import KIND, PolicySpan, SampleRow
from infra.lineage.web.app import lineage_app
from infra.lineage.web.host import Actions, ChainStatus, Host, ScheduleEntry, Schedules, ScheduleStatus, StageStatus
from infra.lineage.web.site import Site
from infra.lineage.web.templating import link
from infra.store.evaluation import Evaluation
from infra.store.open import open_store
from infra.store.records import RunRecord, StageRecord
from infra.store.store import Ref, Store
from tests.infra.lineage.records import BEFORE_RL, CHECK, EVALUATION, History, reused, write_history

FIRST, SECOND, RUNNING = "20260101-000000-nano", "20260102-000000-nano", "20260103-000000-nano"
HOSTILE = "<script>window.taken = 1</script><img src=x onerror='window.taken = 1'>\"'`{{7*7}}\u202egnp.\u200b\x1b[31m"
PROMPT = prompt_digest("What is 4 + 2?")
"""A prompt in the samples."""

BEHAVIOURS = {"reflection": r"\b(wait|again)\b"}
RESPONSE = "<b>2 + 2</b> is 4 & more"


def put(store: Store, folder: Path, files: Mapping[str, str], kind: str) -> Ref:
    """Store some text files."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return store.put(folder, kind)


def samples(store: Store, folder: Path) -> Ref:
    """Samples of four iterations, twelve responses each: every other one failed, the first ones are longer."""
    folder.mkdir(parents=True)
    rows = [
        SampleRow(
            problem_id=f"p{number}",
            prompt_digest=prompt_digest(f"What is {number} + 2?"),
            prompt=f"What is {number} + 2?",
            response=f"{RESPONSE} {iteration}/{number} {HOSTILE}" + (" wait, let me check" if number == 5 else ""),
            tokens=70 if number < 3 else 7,
            role="rollout",
            outcome="trained",
            times_trained=1,
            iteration=iteration,
            started=iteration,
            policies=[PolicySpan(iteration, 7)],
            reward=float(number % 2),
            stop="length" if number < 3 else "eos",
            source="/data/train.jsonl",
        )
        for iteration in range(4)
        for number in range(12)
    ]
    write_samples(folder / "samples.parquet", rows)
    return store.put(folder, KIND)


BENCHMARK = {
    "problems": 1319,
    "samples": 4,
    "standard_error": 0.01,
    "low": 0.58,
    "high": 0.66,
    "pass_at": {4: 0.75},
    "mean_tokens": 120.0,
    "max_response_tokens": 512,
    "temperature": 1.0,
    "answer_reading": "boxed",
    "address": "hub",
    "rows_digest": "0" * 64,
}


def evaluation(accuracy: float, text: str = RESPONSE) -> Evaluation:
    """An evaluation with one response to be read, to a prompt that the samples have too, or to a hostile one."""
    prompt = text if text == HOSTILE else "What is 4 + 2?"
    example = {
        "problem_id": "p1",
        "domain": "sums",
        "prompt": prompt,
        "response": text,
        "reward": 1.0,
        "reason": "equal",
    }
    domains = {"sums": {"problems": 3, "accuracy": accuracy, "mean_tokens": 70.5}}
    benchmark = BENCHMARK | {"accuracy": accuracy, "title": f"GSM8K {prompt}" if text == HOSTILE else "GSM8K"}
    values = {
        "accuracy": accuracy,
        "domains": domains,
        "benchmarks": {"gsm8k": benchmark},
        "examples": [example | {"tokens": 9}],
    }
    return Evaluation.model_validate(EVALUATION | values)


def rl_history(shift: float = 0.0) -> list[dict[str, Any]]:
    """What RL logs, in few words."""
    return [
        {"rl/accuracy": 0.5 + 0.01 * step + shift, "rl/rollout_seconds": 2.0 + step % 3, "rl/length_stops": 0.0}
        for step in range(20)
    ]


def made_up_site(folder: Path, hostile: bool = False, actions: Actions | None = None) -> Site:
    """A site with a run, one with another tau that failed, whose RL holds its evaluation as older records do, and one
    that runs.

    The first run's RL has an artifact of samples and one of files, both really stored; all others are nowhere. Where
    it is hostile, every text that anyone may choose is.
    """
    store = open_store(folder / "store")
    bad = HOSTILE if hostile else ""
    retained = put(
        store, folder / "files", {"config.json": json.dumps({"text": HOSTILE}), "deep/a.txt": "plain"}, "model"
    )
    sampled = samples(store, folder / "samples")
    history = History()
    sources = {"data": {f"/data/train{bad}.jsonl": "a" * 64}}
    first = history.add_run(FIRST, sources=sources)
    broken = CHECK | {"rule": f"no row is empty{bad}", "success": False, "severity": "warn", "unexpected": 2}
    broken |= {"examples": [{"row": 3, "id": f"row-3{bad}", "value": bad or "nothing", "why": None}]}
    gate = {"gate": f"prompts{bad}", "passed": True, "rows": 100, "checks": [CHECK, broken]}
    config = {"own": {"tau": 0.1, f"note{bad}": bad or "none"}, "engine": {"dtype": "float32"}}

    def rl(record: StageRecord, **changed: Any) -> StageRecord:
        values = {"config": config, "gates": [gate]}
        return record.model_copy(update=values | {"history": rl_history(), "metrics": {f"loss{bad}": 0.5}} | changed)

    outputs = {f"model{bad}": retained, "samples": sampled}
    replaced: dict[tuple[str, str], dict[str, Any]] = {("rl", FIRST): {"outputs": outputs}}
    second = History()
    other_tau = {"own": {"tau": 0.2}, "engine": {"dtype": "float32"}}
    reuse = reused(first, *BEFORE_RL)
    second.add_run(SECOND, minutes=1440, reuse=reuse, fails_at="long2short/merge", evaluated=False)
    replaced["rl", SECOND] = {
        "config": other_tau,
        "history": rl_history(-0.05),
        "evaluation": evaluation(0.6),
    }
    last = History()
    last.add_run(RUNNING, minutes=2880, reuse=reuse, fails_at="rl", status="running")
    running = [each for each in last.records if getattr(each[1], "stage", "") != "rl"]
    tagged = History()
    tagged.set_tag("production", first["long_cot_sft"], minutes=2000)
    tagged.set_tag("production", first["rl"].model_copy(update={"outputs": {"model": retained}}), minutes=2100)
    records = [*history.records, *second.records, *running, *tagged.records]
    for number, (name, record) in enumerate(records):
        if isinstance(record, StageRecord) and (record.stage, record.run) in replaced:
            records[number] = name, rl(record, **replaced[record.stage, record.run])
        elif isinstance(record, StageRecord) and (record.stage, record.run) == ("evaluate/rl", FIRST):
            inputs = {"model": retained, "data": record.inputs["data"]}
            values = {"inputs": inputs, "evaluation": evaluation(0.64, bad or RESPONSE)}
            records[number] = name, StageRecord.model_validate(record.model_dump() | values)
    if hostile:
        for number, (name, record) in enumerate(records):
            update: dict[str, Any] = {}
            if isinstance(record, RunRecord):
                recipe = {"name": bad, bad: bad}
                update = {"error": bad, "command": [bad], "recipe": recipe if record.event == "started" else {}}
            elif name.startswith("tags/"):
                update = {
                    "by": bad,
                    "reason": bad,
                    "gates": [{"rule": bad, "value": bad, "limit": bad, "passed": False}],
                }
            elif isinstance(record, StageRecord) and record.failure:
                update = {"failure": record.failure.model_copy(update={"error": bad, "log": bad})}
            records[number] = name, record.model_copy(update=update)
    write_history(folder / "store", records)
    home = folder / "home"
    (home / "runs" / FIRST).mkdir(parents=True)
    (home / "runs" / FIRST / "report.html").write_text("<style>p{color:red}</style><p>A report", encoding="utf-8")
    index = LineageIndex.of(store, home)
    synced = index.sync(store)
    assert not synced.problems
    host = Host(
        behaviours=BEHAVIOURS,
        staleness=lambda detail: today(detail, bad),
        schedules=lambda: schedules(bad),
        actions=actions,
    )
    return Site.of(store, index, home, host)


def today(detail: RunDetail, bad: str = "") -> ChainStatus:
    """A plan by which the stages from RL on are stale."""
    stages = {
        record.stage: StageStatus("stale", f"rl.tau changed: 0.1 → 0.2{bad}")
        if record.stage not in BEFORE_RL
        else StageStatus("current", "same key")
        for record in detail.stages
    }
    return ChainStatus(stages, f"longhaul run --config configs/nano.yaml{bad}", "2026-01-04T00:00:00+00:00")


def schedules(bad: str = "") -> Schedules:
    """One that waits and has started a run, and one that is paused."""
    entries = [
        ScheduleEntry("2026-01-02T03:10:00+00:00", "failed", f"time{bad}", SECOND, 600.0, f"ValueError: no luck{bad}"),
        ScheduleEntry("2026-01-02T03:00:00+00:00", "started", "time"),
    ]
    times = ["Mon 2026-01-05 03:00 +0100", "Mon 2026-01-12 03:00 +0100"]
    nightly = ScheduleStatus(f"nightly{bad}", "full", "0 3 * * 1", "Europe/Berlin", "waiting", times, entries)
    return Schedules([nightly, ScheduleStatus("other", "rl", "0 4 * * *", "UTC", "paused", [])], False)


class Outline(HTMLParser):
    """Start tags and their attributes, as a browser reads them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def of(self, *names: str) -> list[dict[str, str]]:
        """Attributes of every such tag."""
        return [attributes for tag, attributes in self.tags if tag in names]

    @property
    def text(self) -> str:
        """All that is read, with single spaces."""
        return " ".join(" ".join(self.texts).split())


def empty_site(folder: Path, records: History | None = None) -> Site:
    """A site with no records but these."""
    store = open_store(folder / "store")
    write_history(folder / "store", records.records if records else [])
    index = LineageIndex.of(store, folder / "home")
    index.sync(store)
    return Site.of(store, index, folder / "home")


def client(site: Site, token: str | None = None, hosts: tuple[str, ...] = ()) -> TestClient:
    """A visitor on this machine."""
    return TestClient(
        lineage_app(site, token, hosts),
        base_url="http://127.0.0.1:8600",
        follow_redirects=False,
        raise_server_exceptions=False,
    )


def tell(site: Site, run: str, **event: Any) -> None:
    """Add a line to a run's progress file."""
    folder = site.home / "runs" / run
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "progress.jsonl").open("a") as file:
        file.write(json.dumps({"time": time.time(), "stage": "rl", **event}) + "\n")


def gate_of(site: Site) -> str:
    """The name of RL's gate in the first run."""
    return str(site.index.execution(FIRST, "rl").gates[0]["gate"])


def every_page(site: Site) -> list[str]:
    """Addresses of a page of every kind."""
    digest = next(row.digest for row in site.index.data().rows if row.kind == KIND)
    tagged = site.index.tags()[0].model
    assert tagged
    nodes = [
        f"artifact:{digest}",
        f"artifact:{tagged.digest}",
        f"execution:{FIRST}:rl",
        f"execution:{SECOND}:long2short/merge",
        f"gate:{FIRST}:rl:0",
        f"run:{SECOND}",
        "tag:production",
        next(row.id for row in site.index.data().rows if row.source),
    ]
    tabs = ("stages", "curves", "evaluation", "gates", "configuration")
    return [
        "/",
        "/failures",
        "/failures?offset=100",
        "/runs",
        "/runs?search=no+such+run",
        "/runs?offset=1000",
        "/runs?column=seed;+data:+loss&where=seed>=0&sort=-data:+loss",
        "/runs?where=nonsense",
        "/curves",
        "/groups",
        f"/groups?run={FIRST}&run={SECOND}&run={RUNNING}",
        f"/curves?run={FIRST}&run={SECOND}&run={RUNNING}",
        "/gates",
        f"/gates?stage=rl&gate={quote(gate_of(site))}",
        "/benchmarks",
        "/schedules",
        "/models",
        "/data",
        "/tags",
        "/tags/production",
        "/prompts",
        "/prompts?search=2",
        "/prompts?search=nowhere",
        f"/prompts/{PROMPT}",
        f"/samples/{digest}",
        f"/samples/{digest}?iteration=3&reward_to=0&text=2&behaviour=reflection&rows=50",
        f"/samples/{digest}?text=nothing+is+like+this",
        "/compare",
        f"/compare?a={FIRST}&b={SECOND}",
        "/graph?find=nothing-is-called-this",
        *(f"/runs/{run}?tab={tab}" for run in (FIRST, SECOND, RUNNING) for tab in tabs),
        *(link_to(node) for node in nodes if node),
        f"/artifacts/{tagged.digest}/file?path=config.json",
        "/nothing/here",
    ]


def link_to(node: str, **query: Any) -> str:
    """The address of a node's graph."""
    return link("/graph", node=node, **query)
