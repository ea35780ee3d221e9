"""Every page under axe-core, in light and dark, at a telephone's width and a desk's; and the navigation."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from infra.lineage.web.host import ActionResult, Actions
from infra.lineage.web.site import Site
from tests.infra.lineage.web.page_browser import Tab, served
from tests.infra.lineage.web.page_site import FIRST, RUNNING, SECOND, every_page, made_up_site

AXE = Path(__file__).parent / "axe"

RUN = """async ([landmarks, rules]) => {
    const only = rules.length ? { runOnly: rules } : {};
    const result = await axe.run(document, { resultTypes: ['violations'], ...only });
    return result.violations
        .filter(each => ['serious', 'critical'].includes(each.impact) || landmarks.includes(each.id))
        .map(each => `${each.id}: ${each.nodes.slice(0, 3).map(node => node.html.slice(0, 160)).join(' | ')}`);
}"""

LANDMARKS = ["landmark-unique", "landmark-one-main", "heading-order", "page-has-heading-one"]
"""Moderate faults that were there once."""

COLOURS = ["color-contrast", "link-in-text-block"]
"""Rules that look at colours, which alone hang on the scheme."""

WIDTHS = (390, 1400)
"""Pixels: a telephone's, and a desk's."""


WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

NAMELESS = """[...document.querySelectorAll('a, button, input:not([type=hidden]), select, summary, [role], progress')]
    .filter(each => each.checkVisibility() && !each.textContent.trim() && !each.ariaLabel && !each.labels?.length
        && !each.querySelector('img[alt]:not([alt=""])')
        && !each.getAttribute('aria-labelledby') && each.getAttribute('role') !== 'status')
    .map(each => each.outerHTML.slice(0, 200))"""

UNREACHED = """[...document.querySelectorAll('.scroll, pre')]
    .filter(each => each.checkVisibility() && each.scrollWidth > each.clientWidth + 1 && each.tabIndex < 0)
    .map(each => each.outerHTML.slice(0, 200))"""


def faults_of(page: Page, name: str) -> list[str]:
    """What axe-core finds on the opened page, at each width in light and dark; and what it does not look for."""
    faults = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        if (wider := page.evaluate(WIDER)) > 0:
            faults.append(f"{name}, {width} pixels: it is {wider} pixels wider than its window")
        faults += [f"{name}, {width} pixels: a control without a name: {each}" for each in page.evaluate(NAMELESS)]
        faults += [f"{name}, {width} pixels: no key reaches what scrolls: {each}" for each in page.evaluate(UNREACHED)]
        for scheme, rules in (("light", []), ("dark", COLOURS)):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            seen = page.evaluate(RUN, [LANDMARKS, rules])
            faults += [f"{name}, {width} pixels, {scheme}: {each}" for each in seen]
    return faults


@pytest.fixture
def examined(browser: Browser, address: str) -> Iterator[Tab]:
    """A tab with axe-core in its pages."""
    tab = Tab(browser, address, reduced_motion="reduce")
    tab.page.add_init_script(path=AXE / "axe.min.js")
    yield tab
    tab.context.close()


def test_no_page_has_a_serious_fault_in_light_and_dark_narrow_and_wide(examined: Tab, site: Site) -> None:
    faults = []
    for page in every_page(site):
        examined.page.goto(page)
        faults += faults_of(examined.page, page)
    assert not faults, "\n".join(faults)
    assert examined.outside == [] and examined.complaints == []


def test_neither_has_one_where_one_enters_and_acts(browser: Browser, tmp_path: Path) -> None:
    done = ActionResult(False, "accuracy fell")
    site = made_up_site(tmp_path, actions=Actions(lambda action: f"longhaul {action.kind}", lambda action: done))
    model = site.index.models("rl").rows[0].digest
    pages = [f"/runs/{SECOND}", f"/runs/{RUNNING}", "/schedules", f"/graph?node=artifact:{model}"]
    pages += [f"/actions?kind=tag&target={model}", f"/actions?kind=stop&target={FIRST}"]
    with served(site, "a-token-of-some-length") as address:
        tab = Tab(browser, address, reduced_motion="reduce")
        tab.page.add_init_script(path=AXE / "axe.min.js")
        tab.page.goto("/")
        faults = faults_of(tab.page, "the form for the token")
        tab.page.get_by_label("Token").fill("a-token-of-some-length")
        tab.page.get_by_role("button", name="Enter").click()
        for page in pages:
            tab.page.goto(page)
            faults += faults_of(tab.page, page)
        tab.page.goto(f"/actions?kind=tag&target={model}&detail=production")
        faults += faults_of(tab.page, "a confirmation")
        tab.page.get_by_role("button", name="Confirm: set a tag").click()
        faults += faults_of(tab.page, "what came of an action")
        expect(tab.page.get_by_role("status")).to_have_text("Not done")
        tab.context.close()
    site.index.close()
    assert not faults, "\n".join(faults)


def test_the_copy_of_axe_is_the_published_one() -> None:
    (digest,) = re.findall(r"`([0-9a-f]{64})`", (AXE / "README.md").read_text())
    assert hashlib.sha256((AXE / "axe.min.js").read_bytes()).hexdigest() == digest


def test_a_telephone_has_the_navigation_in_one_row_with_a_menu(browser: Browser, address: str) -> None:
    tab = Tab(browser, address, viewport={"width": 390, "height": 800}, java_script_enabled=False)
    tab.page.goto("/runs")
    bar = tab.page.locator(".top").bounding_box()
    assert bar and bar["height"] < 64
    expect(tab.page.get_by_role("link", name="Models", exact=True)).to_be_hidden()
    tab.page.get_by_role("button", name="Menu").click()
    tab.page.get_by_role("link", name="Models", exact=True).click()
    expect(tab.page.get_by_role("heading", name="Models", level=1)).to_be_visible()
    tab.context.close()
