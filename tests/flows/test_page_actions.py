"""Actions done for real from the page: by the server that `longhaul lineage serve --allow-actions` starts, confirmed in
a browser, on a store in which the stages are said to have run."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

import flows.chain
from flows.models import run_records, tagged
from flows.runs import end_run, start_run
from infra.environment import PROCESS_ENVIRONMENT
from infra.scheduling.config import ScheduleConfig
from infra.scheduling.state import ScheduleFolder, ScheduleState
from infra.store import records
from infra.store.records import RunRecord
from infra.store.store import Store
from tests.flows.home import LONGHAUL, ROOT
from tests.flows.made_up_chain import chain, finish, recipe
from tests.infra.lineage.web.page_browser import Tab

TOKEN = "0123456789abcdef-a-token"

RUN = """
import signal, sys, time
from flows.home import HOME, open_store
from flows.leftovers import running
from flows.runs import end_run, start_run

store, name = open_store(sys.argv[1]), sys.argv[2]
(HOME / "runs" / name).mkdir(parents=True)
signal.signal(signal.SIGTERM, signal.default_int_handler)
with running(HOME / "runs" / name):
    start_run(store, name, {}, ["run"])
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        end_run(store, name, "interrupted", "interrupted")
"""
"""A run as `longhaul run` holds, begins and ends one, without stages."""


class Served:
    """A home with two runs, of which the second did worse, one that runs, and a schedule; and its page."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        # As it was at the start: what engines of earlier tests have set since would be in the keys of processes alone.
        self.environment = {**PROCESS_ENVIRONMENT, "LONGHAUL_HOME": str(self.home)}
        self.address = str(folder / "store")
        self.first = finish(chain(folder / "store"), folder / "made", accuracy=0.5)
        self.second = finish(chain(folder / "store", "rl.tau=0.25", run="run-2"), folder / "made", accuracy=0.3)
        made = chain(folder / "store")
        self.store: Store = made.store
        file = folder / "recipe.yaml"
        file.write_text(yaml.safe_dump(recipe(folder / "store").model_dump(mode="json")))
        start_run(self.store, "run-1", made.recipe.model_dump(mode="json"), ["run", "--config", str(file)])
        end_run(self.store, "run-1", "succeeded")
        self.schedules = ScheduleFolder(self.home / "schedule")
        with self.schedules.change() as states:
            config = ScheduleConfig(cron="0 3 * * 1")
            states["nightly"] = ScheduleState.model_validate(
                {"config": str(file), "schedule": config, "handled_until": "2099-01-01T00:00:00Z"}
            )
        self.running = self._start([sys.executable, "-c", RUN, self.address, "run-3"])
        token = folder / "token"
        token.write_text(TOKEN)
        options = ["--store", self.address, "--port", "0", "--token-file", str(token), "--allow-actions"]
        self.server = self._start([*LONGHAUL, "lineage", "serve", *options])
        assert self.server.stdout is not None
        match = re.search(r"http://[\d.:]+", self.server.stdout.readline())
        assert match is not None
        self.page = match[0]

    def _start(self, command: list[str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, text=True)

    def runs(self) -> dict[str, str | None]:
        """By name, how each run ended."""
        return {record.run: record.status for record in records.read(self.store, RunRecord, "runs")}

    def close(self) -> None:
        for process in (self.running, self.server):
            process.send_signal(signal.SIGTERM)
            process.wait(20)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("actions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows.chain, "HOME", folder / "home")
        served = Served(folder)
    yield served
    served.close()


@pytest.fixture
def page(browser: Browser, home: Served) -> Iterator[Page]:
    """A visitor who has entered with the token."""
    tab = Tab(browser, home.page)
    tab.page.goto("/schedules")
    tab.page.get_by_label("Token").fill(TOKEN)
    tab.page.get_by_role("button", name="Enter").click()
    expect(tab.page.get_by_role("heading", name="Schedules")).to_be_visible()
    yield tab.page
    tab.context.close()
    assert tab.outside == []


def confirm(page: Page, action: str, status: str) -> None:
    page.get_by_role("button", name=f"Confirm: {action}").click()
    expect(page.get_by_role("status")).to_have_text(status, timeout=60_000)


def wait(there: Callable[[], Any], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until
        time.sleep(0.2)


def test_a_tag_is_set_and_stays_where_a_worse_model_asks_for_it(page: Page, home: Served) -> None:
    better, worse = (made["rl"].outputs["model"].digest for made in (home.first, home.second))
    for digest, status in ((better, "Done"), (worse, "Not done")):
        page.goto(f"/graph?node=artifact:{digest}")
        page.get_by_role("link", name="Set a tag…").click()
        page.get_by_label("Tag", exact=True).fill("production")
        page.get_by_role("button", name="Next").click()
        page.get_by_label("Reason").fill("the $(touch /tmp/x) best")
        confirm(page, "set a tag", status)
    expect(page.get_by_role("region", name="What came of it")).to_contain_text("production stays where it is")
    tag = tagged(home.store, "production")
    assert tag and tag.model and (tag.model.digest, tag.reason) == (better, "the $(touch /tmp/x) best")


def test_a_run_that_runs_is_stopped(page: Page, home: Served) -> None:
    wait(lambda: page.goto("/runs/run-3").ok)  # type: ignore[union-attr]
    page.get_by_role("link", name="Stop…").click()
    confirm(page, "stop a run", "Done")
    assert home.running.wait(10) == 0 and home.runs()["run-3"] == "interrupted"
    wait(lambda: page.goto("/runs/run-3") and page.get_by_text("interrupted").first.is_visible())
    expect(page.get_by_role("link", name="Stop…")).to_have_count(0)


def test_a_run_is_run_again_from_a_stage(page: Page, home: Served) -> None:
    before = set(home.runs())
    page.goto("/runs/run-1")
    page.get_by_role("link", name="Run again from here… rl", exact=True).click()
    expect(page.locator("main")).to_contain_text(re.compile(r"longhaul run --config \S+recipe.yaml --from rl"))
    confirm(page, "run again from a stage", "Done")
    wait(lambda: [name for name, status in home.runs().items() if name not in before and status == "succeeded"])
    (again,) = set(home.runs()) - before
    reused = {record.stage: record.reused_from for record in run_records(home.store, again)}
    assert reused["rl"] == "run-1" and "long2short/dpo" in reused and len(list((home.home / "page").iterdir())) == 1


def test_a_schedule_is_paused(page: Page, home: Served) -> None:
    page.get_by_role("link", name="Pause… nightly").click()
    confirm(page, "pause a schedule", "Done")
    assert home.schedules.read()["nightly"].paused
    page.get_by_role("link", name="Back").first.click()
    expect(page.get_by_role("link", name="Resume… nightly")).to_be_visible()
