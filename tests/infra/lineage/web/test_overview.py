"""The first page and the failures: what runs, what failed, what is stale, what is in production."""

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from infra.lineage.failures import failed_runs
from infra.lineage.index import LineageIndex
from infra.lineage.web.host import ChainStatus, Host
from infra.lineage.web.log_tail import LINES, log_tail
from infra.lineage.web.site import Site
from infra.store.open import open_store
from infra.store.records import Failure
from tests.infra.lineage.records import BEFORE_RL, History, reused, write_history
from tests.infra.lineage.web.page_site import FIRST, RUNNING, SECOND, Outline, client, made_up_site, tell


def site_of(folder: Path, history: History, host: Host | None = None) -> Site:
    write_history(folder / "store", history.records)
    store = open_store(folder / "store")
    index = LineageIndex.of(store, folder / "home")
    index.sync(store)
    return Site.of(store, index, folder / "home", host)


@pytest.fixture
def visitor(site: Site) -> TestClient:
    return client(site)


def test_the_first_page_says_what_runs_failed_is_stale_and_in_production(visitor: TestClient) -> None:
    text = Outline(visitor.get("/").text).text
    assert f"Running 1 {RUNNING} running" in text
    assert re.search(rf"Failed 1 All failures {SECOND} failed long2short/merge: ValueError: no luck", text)
    assert "planned 04 Jan 2026, 00:00 UTC" in text and "rl.tau changed: 0.1 → 0.2" in text
    assert re.search(rf"production rl 64.0% of {FIRST} , set", text)


def test_the_chain_is_drawn_as_stages_with_state_accuracy_and_time(tmp_path: Path) -> None:
    history = History()
    made = history.add_run("first")
    history.add_run("second", minutes=60, reuse=reused(made, *BEFORE_RL), fails_at="rl")
    text = Outline(client(site_of(tmp_path, history)).get("/").text).text
    chain = text[text.index("The chain in second") :]
    assert re.search(r"import reused \d+\.\d% accuracy, vanilla_sft reused", chain)
    assert re.search(r"rl failed 30\.0 s", chain) and "long2short" not in chain


def test_a_running_stage_is_in_the_chain(tmp_path: Path) -> None:
    site = made_up_site(tmp_path)
    tell(site, RUNNING, kind="stage")
    tell(site, RUNNING, kind="task", task="rollout", total=200, unit="tokens")
    page = client(site).get("/").text
    text = Outline(page).text
    assert "rl : rollout 0 of 200 tokens" in text.replace("rl: ", "rl : ") and re.search(r"rl running", text)
    assert 'hx-trigger="every 2s"' in page


def test_what_is_not_known_yet_or_cannot_be_planned_is_said(tmp_path: Path) -> None:
    history = History()
    history.add_run("first")
    for number, (staleness, words) in enumerate(
        (
            (None, "Not known here"),
            (lambda detail: None, "A plan is being made"),
            (lambda detail: ChainStatus({}, "", "2026-01-04T00:00:00+00:00", "nano.yaml is gone"), "nano.yaml is gone"),
            (lambda detail: ChainStatus({}, "", "2026-01-04T00:00:00+00:00"), "All stages are current"),
        )
    ):
        site = site_of(tmp_path / str(number), history, Host(staleness=staleness))
        assert words in Outline(client(site).get("/").text).text


def test_a_failure_says_why_and_whether_its_key_passed_later(tmp_path: Path) -> None:
    history = History()
    first = history.add_run("first", fails_at="rl")
    log = tmp_path / "home" / "runs" / "first" / "rl.log"
    log.parent.mkdir(parents=True)
    log.write_text("\n".join(f"line {number}" for number in range(100)))
    failure = Failure(error="ValueError: no luck", log=str(log))
    history.records = [
        (name, record.model_copy(update={"failure": failure}) if record == first["rl"] else record)
        for name, record in history.records
    ]
    site = site_of(tmp_path, history)
    text = Outline(client(site).get("/failures").text).text
    assert "rl ValueError: no luck No later run of the same key passed." in text
    assert "line 99" in text and f"line {99 - LINES} " not in text and "longhaul run" in text
    assert not failed_runs(site.index).rows[0].resolved
    again = History()
    again.add_run("second", minutes=60, reuse=reused(first, *BEFORE_RL), key=first["rl"].key)
    write_history(tmp_path / "store", again.records, first=1000)
    site.index.sync(site.store)
    text = Outline(client(site).get("/failures").text).text
    assert "The same key passed later, in second" in text and "passed since" in text
    assert "passed since" in Outline(client(site).get("/").text).text


def test_no_file_outside_the_home_is_shown_as_a_log(tmp_path: Path) -> None:
    home, outside = tmp_path / "home", tmp_path / "secret.log"
    outside.write_text("a secret")
    (home / "runs").mkdir(parents=True)
    (home / "runs" / "linked.log").symlink_to(outside)
    (home / "runs" / "token").write_text("a secret")
    for log in (str(outside), "/etc/passwd", "runs/../../secret.log", str(home / "runs" / "linked.log"), "a\0b", None):
        assert log_tail(home, log) is None
    assert log_tail(home, str(home / "runs" / "token")) is None
    assert log_tail(home, str(home / "runs" / "gone.log")) is None
