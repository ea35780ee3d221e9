"""Actions from the page: only with the token, from this page, confirmed, once, and on what they fit."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from starlette.testclient import TestClient

from infra.lineage.web.app import lineage_app
from infra.lineage.web.confirmation import ActionRefused, Confirmations
from infra.lineage.web.host import Action, ActionResult, Actions
from infra.lineage.web.site import Site
from tests.infra.lineage.web.page_browser import Tab, served
from tests.infra.lineage.web.page_site import FIRST, HOSTILE, RUNNING, SECOND, Outline, client, made_up_site

TOKEN = "0123456789abcdef-a-token"
ORIGIN = "http://127.0.0.1:8600"


class Recorder:
    """Performs actions by writing them down."""

    def __init__(self) -> None:
        self.performed: list[Action] = []
        self.gate: threading.Event | None = None
        self.begun = threading.Event()

    def command(self, action: Action) -> str:
        if action.target == "other":
            raise ValueError("nothing resumes it")
        return f"longhaul {action.kind} {action.target} {action.detail}"

    def perform(self, action: Action) -> ActionResult:
        self.performed.append(action)
        self.begun.set()
        if self.gate:
            self.gate.wait(10)
        if action.detail == "refused":
            return ActionResult(False, "accuracy fell from 64 % to 60 %")
        return ActionResult(True, f"done: {action.reason}")


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def acting(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Iterator[Site]:
    made = made_up_site(tmp_path_factory.mktemp("acting"), actions=Actions(recorder.command, recorder.perform))
    yield made
    made.index.close()


@pytest.fixture
def visitor(acting: Site, recorder: Recorder) -> TestClient:
    recorder.performed.clear()
    recorder.gate = None
    recorder.begun.clear()
    visitor = client(acting, TOKEN)
    visitor.headers["Authorization"] = f"Bearer {TOKEN}"
    return visitor


def confirmed(visitor: TestClient, **action: str) -> dict[str, str]:
    """The form of an action, as it is confirmed."""
    answer = visitor.get("/actions", params=action)
    assert answer.status_code == 200, answer.text
    return {each["name"]: each["value"] for each in Outline(answer.text).of("input") if each.get("type") == "hidden"}


def post(visitor: TestClient, form: dict[str, str], **headers: str) -> Any:
    return visitor.post("/actions", data=form, headers={"Origin": ORIGIN} | headers)


def model(site: Site) -> str:
    return site.index.models("rl").rows[0].digest


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ({"kind": "stop", "target": RUNNING}, f"longhaul stop {RUNNING}"),
        ({"kind": "rerun", "target": SECOND, "detail": "rl"}, f"longhaul rerun {SECOND} rl"),
        ({"kind": "trigger", "target": "nightly"}, "longhaul trigger nightly"),
        ({"kind": "pause", "target": "nightly"}, "longhaul pause nightly"),
    ],
)
def test_an_action_says_its_command_and_is_done_once_confirmed(
    visitor: TestClient, recorder: Recorder, action: dict[str, str], words: str
) -> None:
    assert words in Outline(visitor.get("/actions", params=action).text).text and recorder.performed == []
    answer = post(visitor, confirmed(visitor, **action))
    assert answer.status_code == 200 and "Done" in answer.text
    assert [each.kind for each in recorder.performed] == [action["kind"]]


def test_a_tag_is_set_with_a_reason_and_what_its_gates_say_is_shown(
    visitor: TestClient, acting: Site, recorder: Recorder
) -> None:
    digest = model(acting)
    assert 'name="detail"' in visitor.get("/actions", params={"kind": "tag", "target": digest}).text
    form = confirmed(visitor, kind="tag", target=digest, detail="production") | {"reason": "it is\nthe best"}
    assert "done: it is the best" in post(visitor, form).text
    assert recorder.performed == [Action("tag", digest, "production", "it is the best")]
    refused = post(visitor, confirmed(visitor, kind="tag", target=digest, detail="refused"))
    assert refused.status_code == 409 and "accuracy fell" in refused.text and "Not done" in refused.text


def test_without_the_token_nothing_is_done(visitor: TestClient, acting: Site, recorder: Recorder) -> None:
    form = confirmed(visitor, kind="stop", target=RUNNING)
    stranger = client(acting, TOKEN)
    answer = post(stranger, form)
    assert answer.status_code == 401 and recorder.performed == []
    assert post(stranger, form, Authorization="Bearer wrong").status_code == 401
    assert 'name="token"' in stranger.get("/actions", params={"kind": "stop", "target": RUNNING}).text
    # The login form takes no action.
    assert stranger.post("/login", data=form | {"token": "wrong"}).status_code == 401 and recorder.performed == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8601"},
        {"Origin": "http://127.0.0.1:8600.evil.example"},
        {"Origin": "file://127.0.0.1:8600"},
        {"Origin": "http://[bad"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
        {},
    ],
)
def test_a_request_from_elsewhere_is_refused(visitor: TestClient, recorder: Recorder, headers: dict[str, str]) -> None:
    answer = visitor.post("/actions", data=confirmed(visitor, kind="stop", target=RUNNING), headers=headers)
    assert answer.status_code == 403 and recorder.performed == []


def test_a_browser_that_sends_no_origin_says_where_its_request_comes_from(
    visitor: TestClient, recorder: Recorder
) -> None:
    form = confirmed(visitor, kind="stop", target=RUNNING)
    assert visitor.post("/actions", data=form, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_only_what_was_confirmed_is_done(visitor: TestClient, recorder: Recorder) -> None:
    form = confirmed(visitor, kind="rerun", target=SECOND, detail="rl")
    for change in (
        {"detail": "curation"},
        {"target": FIRST},
        {"kind": "stop", "target": RUNNING, "detail": ""},
        {"confirmation": ""},
        {"confirmation": "a.b.c"},
        {"confirmation": form["confirmation"][:-1] + ("1" if form["confirmation"].endswith("0") else "0")},
        {"confirmation": "é" * 20},
    ):
        answer = post(visitor, form | change)
        assert answer.status_code == 403, change
    assert recorder.performed == []


def test_the_same_confirmation_works_once(visitor: TestClient, recorder: Recorder) -> None:
    form = confirmed(visitor, kind="stop", target=RUNNING)
    assert post(visitor, form).status_code == 200
    again = post(visitor, form)
    assert again.status_code == 409 and "not done twice" in again.text and len(recorder.performed) == 1


def test_two_actions_on_one_run_at_once_are_one(visitor: TestClient, acting: Site, recorder: Recorder) -> None:
    recorder.gate = threading.Event()
    first, second = (confirmed(visitor, kind="stop", target=RUNNING) for _ in range(2))
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(post(visitor, first)))
    thread.start()
    assert recorder.begun.wait(10)
    other = client(acting, TOKEN)
    other.headers["Authorization"] = f"Bearer {TOKEN}"
    # Another server's confirmations have another secret: within this one, the second has to wait.
    assert post(other, second).status_code == 403
    busy = post(visitor, second)
    assert busy.status_code == 409 and "under way" in busy.text
    recorder.gate.set()
    thread.join(10)
    assert answers[0].status_code == 200 and len(recorder.performed) == 1


@pytest.mark.parametrize(
    ("action", "status", "words"),
    [
        ({"kind": "stop", "target": FIRST}, 409, "has ended (succeeded)"),
        ({"kind": "rerun", "target": RUNNING, "detail": "data"}, 409, "is running"),
        ({"kind": "rerun", "target": SECOND, "detail": "no-such-stage"}, 404, "has no stage"),
        ({"kind": "stop", "target": "no-such-run"}, 404, "there is no run"),
        ({"kind": "pause", "target": "no-such-schedule"}, 404, "There is no schedule"),
        ({"kind": "trigger", "target": "other"}, 409, "nothing resumes it"),
        ({"kind": "tag", "target": "0" * 64, "detail": "production"}, 404, "There is no model"),
        ({"kind": "tag", "target": "0" * 64, "detail": "--remove"}, 409, "expected lowercase"),
        ({"kind": "delete", "target": FIRST}, 404, "no such action"),
        ({"kind": "stop", "target": HOSTILE}, 404, "&lt;script&gt;"),
        ({}, 404, "no such action"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_confirmed(
    visitor: TestClient, recorder: Recorder, action: dict[str, str], status: int, words: str
) -> None:
    answer = visitor.get("/actions", params=action)
    assert answer.status_code == status and words in answer.text and "<script>" not in answer.text


def test_a_run_that_ends_after_the_confirmation_is_not_stopped(tmp_path: Path) -> None:
    recorder = Recorder()
    site = made_up_site(tmp_path, actions=Actions(recorder.command, recorder.perform))
    visitor = client(site, TOKEN)
    visitor.headers["Authorization"] = f"Bearer {TOKEN}"
    form = confirmed(visitor, kind="stop", target=RUNNING)
    from infra.store import records
    from infra.store.records import RunRecord

    ended = RunRecord(run=RUNNING, event="ended", time="2026-01-03T09:00:00+00:00", status="failed")
    records.write(site.store, f"runs/{RUNNING}", ended)
    site.index.sync(site.store)
    answer = post(visitor, form)
    assert answer.status_code == 409 and "has ended (failed)" in answer.text and recorder.performed == []
    site.index.close()


def test_an_old_confirmation_and_an_endless_form_are_refused(visitor: TestClient, recorder: Recorder) -> None:
    confirmations = Confirmations(valid_seconds=-1)
    action = Action("stop", RUNNING)
    with pytest.raises(ActionRefused, match="too old"), confirmations.take(confirmations.issue(action), action):
        pass
    assert post(visitor, {"kind": "x" * 10_000}).status_code == 413 and recorder.performed == []


def test_without_allow_actions_there_are_none(site: Site) -> None:
    visitor = client(site)
    assert visitor.get("/actions", params={"kind": "stop", "target": RUNNING}).status_code == 404
    assert visitor.post("/actions", data={"kind": "stop"}, headers={"Origin": ORIGIN}).status_code == 405
    assert "/actions" not in visitor.get(f"/runs/{RUNNING}").text


def test_actions_without_a_token_are_refused_at_the_start(acting: Site) -> None:
    with pytest.raises(ValueError, match="need a token"):
        lineage_app(acting)


def test_every_button_of_an_action_leads_to_its_confirmation(visitor: TestClient, acting: Site) -> None:
    pages = (f"/runs/{RUNNING}", f"/runs/{SECOND}", "/schedules", f"/graph?node=artifact:{model(acting)}")
    links = [
        each["href"]
        for page in pages
        for each in Outline(visitor.get(page).text).of("a")
        if each["href"].startswith("/actions")
    ]
    kinds = {match[1] for link in links if (match := re.search(r"kind=(\w+)", link))}
    assert kinds == {"stop", "rerun", "trigger", "pause", "resume", "tag"}
    for link in links:
        assert visitor.get(link).status_code == (409 if "target=other" in link else 200), link


def test_a_run_is_stopped_in_a_browser(browser: Browser, acting: Site, recorder: Recorder) -> None:
    recorder.performed.clear()
    recorder.gate = None
    with served(acting, TOKEN) as address:
        tab = Tab(browser, address, viewport={"width": 1300, "height": 900})
        tab.page.goto(f"/runs/{RUNNING}")
        tab.page.get_by_label("Token").fill(TOKEN)
        tab.page.get_by_role("button", name="Enter").click()
        tab.page.get_by_role("link", name="Stop…").click()
        expect(tab.page.get_by_text(f"longhaul stop {RUNNING}")).to_be_visible()
        tab.page.get_by_role("button", name="Confirm: stop a run").click()
        expect(tab.page.get_by_role("status")).to_contain_text("Done")
        assert [each.kind for each in recorder.performed] == ["stop"]
        tab.context.close()
    assert tab.outside == [] and [each for each in tab.complaints if "401" not in each and "[DOM]" not in each] == []
