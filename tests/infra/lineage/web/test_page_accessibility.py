"""The lineage page under axe-core, in light and dark, on a telephone's width and a desk's; and its navigation."""

import hashlib
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect

from infra.lineage.web.site import Site
from tests.infra.lineage.web.page_browser import Tab
from tests.infra.lineage.web.page_site import FIRST, RUNNING, SECOND, every_page

AXE = Path(__file__).parent / "axe"

RUN = """async (landmarks) => {
    document.querySelectorAll('details').forEach(each => each.open = true);
    const result = await axe.run(document, { resultTypes: ['violations'] });
    return result.violations
        .filter(each => ['serious', 'critical'].includes(each.impact) || landmarks.includes(each.id))
        .map(each => `${each.id}: ${each.nodes.slice(0, 3).map(node => node.html.slice(0, 160)).join(' | ')}`);
}"""

LANDMARKS = ["landmark-unique", "landmark-one-main", "heading-order", "page-has-heading-one"]
"""Moderate faults that were there once."""


def different_pages(site: Site) -> list[str]:
    """One page of each kind: the other runs' tabs, and the panels of most kinds of nodes, have the same templates."""
    same = re.compile(
        rf"/runs/({SECOND}|{RUNNING})\?tab=(?!stages)|/runs/{FIRST}\?tab=stages|/graph\?node=(run|source)"
    )
    return [page for page in every_page(site) if not same.match(page) and "offset=" not in page and "=no" not in page]


def test_axe_sees_no_serious_fault_at_a_telephones_and_a_desks_width(
    browser: Browser, site: Site, address: str
) -> None:
    """The narrow page is light and the wide one dark: colours hang on the scheme alone, the rest on the width."""
    tab = Tab(browser, address, reduced_motion="reduce")
    tab.page.add_init_script(path=AXE / "axe.min.js")
    faults: dict[str, Any] = {}
    for page in different_pages(site):
        tab.page.emulate_media(color_scheme="light")
        tab.page.set_viewport_size({"width": 390, "height": 900})
        tab.page.goto(page)
        if seen := tab.page.evaluate(RUN, LANDMARKS):
            faults[f"{page}, narrow and light"] = seen
        tab.page.emulate_media(color_scheme="dark")
        tab.page.set_viewport_size({"width": 1400, "height": 900})
        if seen := tab.page.evaluate(RUN, LANDMARKS):
            faults[f"{page}, wide and dark"] = seen
    tab.context.close()
    assert not faults, "\n".join(f"{page}: {seen}" for page, seen in faults.items())
    assert tab.outside == [] and tab.complaints == []


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
