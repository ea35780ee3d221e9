"""The report's page as headless Chromium shows it."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from steps.report.labels import Box
from steps.report.page import render_report
from tests.steps.report.made_up_run import HOSTILE, RESULTS, evaluation, gate, record


def look(browser: Browser, page: str, folder: Path, width: int, scheme: Any, opened: bool) -> dict[str, Any]:
    """Load a page, take a screenshot, and say what it asked for, complained of and how wide it is."""
    file = folder / "report.html"
    file.write_text(page, encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab: Page = context.new_page()
    requested: list[str] = []
    complaints: list[str] = []
    tab.on("request", lambda request: requested.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(file.as_uri())
    if opened:
        tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    tab.screenshot(path=folder / f"{scheme}-{width}{'-opened' if opened else ''}.png", full_page=True)
    measured = {
        "asked": [url for url in requested if url != file.as_uri()],
        "complaints": complaints,
        "overflow": tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"),
        "ground": tab.evaluate("getComputedStyle(document.body).backgroundColor"),
        "taken": tab.evaluate("window.taken"),
        "labels": tab.evaluate(
            """[...document.querySelectorAll('g[id*="-label-"] text')].map(each => each.getBoundingClientRect())
            .filter(box => box.width > 0).map(box => [box.left, box.top, box.right, box.bottom])"""
        ),
        "pictures": tab.evaluate("[...document.images].map(each => [each.naturalWidth, each.naturalHeight])"),
        "cut_off": tab.evaluate(
            """[...document.querySelectorAll('svg text')].filter(each => {
                const own = each.getBoundingClientRect(), all = each.ownerSVGElement.getBoundingClientRect();
                return own.left < all.left - 1 || own.right > all.right + 1 || own.top < all.top - 1
                    || own.bottom > all.bottom + 1;
            }).map(each => each.textContent)"""
        ),
    }
    context.close()
    return measured


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_asks_for_nothing_and_fits_its_window(
    browser: Browser, page: str, tmp_path: Path, width: int, scheme: str
) -> None:
    for opened in (False, True):
        seen = look(browser, page, tmp_path, width, scheme, opened)
        assert seen["asked"] == [] and seen["complaints"] == []
        assert seen["overflow"] <= 0
        assert (seen["ground"] == "rgb(255, 255, 255)") == (scheme == "light")
        assert seen["cut_off"] == []
        assert len(seen["labels"]) == len(RESULTS)
        for one, other in itertools.combinations([Box(*box) for box in seen["labels"]], 2):
            assert one.shared(other) < 1


def test_hostile_text_neither_runs_nor_widens_the_page(browser: Browser, tmp_path: Path) -> None:
    answer = evaluation("rl", HOSTILE + "x" * 5000)
    for sample in answer["examples"]:
        sample |= {"prompt": HOSTILE + "y" * 5000, "domain": "z" * 500, "reason": "w" * 500, "problem_id": "v" * 500}
    answer["domains"] = {"u" * 500: {"problems": 1, "accuracy": 1.0, "mean_tokens": 3.0}}
    hostile = record("rl", evaluation=answer, run="r" * 300, gates=[gate("g" * 500, 4, passed=False, value="t" * 200)])
    seen = look(browser, render_report("n" * 300, [hostile]), tmp_path, 400, "light", opened=True)
    assert seen["asked"] == [] and seen["complaints"] == [] and seen["taken"] is None
    assert seen["overflow"] <= 0
