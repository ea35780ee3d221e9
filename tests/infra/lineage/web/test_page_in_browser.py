"""The lineage page as headless Chromium shows it, and as it is used by keys."""

from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from infra.lineage.web.site import Site
from tests.infra.lineage.web.page_browser import Tab, served
from tests.infra.lineage.web.page_site import FIRST, RUNNING, SECOND, every_page, link_to, made_up_site, tell


def test_pages_ask_for_nothing_from_elsewhere_and_fit_a_window_of_medium_width(
    browser: Browser, site: Site, address: str
) -> None:
    tab = Tab(browser, address, viewport={"width": 800, "height": 900}, color_scheme="dark")
    for page in every_page(site):
        tab.page.goto(page)
        wide = tab.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, page
    ground = "getComputedStyle(document.body).backgroundColor"
    assert tab.page.evaluate(ground) == "rgb(19, 21, 24)"
    tab.page.emulate_media(color_scheme="light")
    assert tab.page.evaluate(ground) == "rgb(247, 247, 245)"
    tab.context.close()
    assert tab.outside == [] and tab.complaints == []


def test_hostile_texts_neither_run_nor_widen_a_page(browser: Browser, tmp_path: Path) -> None:
    site = made_up_site(tmp_path, hostile=True)
    with served(site) as address:
        tab = Tab(browser, address, viewport={"width": 800, "height": 900})
        for page in every_page(site):
            tab.page.goto(page)
            tab.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
            assert tab.page.evaluate("window.taken") is None, page
            assert tab.page.evaluate("document.querySelectorAll('img[src=x], b').length") == 0
            wide = tab.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, page
        tab.context.close()
    assert tab.outside == [] and tab.complaints == []


def test_a_table_is_searched_as_one_types_and_the_address_follows(tab: Tab) -> None:
    page = tab.page
    page.goto("/runs")
    page.keyboard.press("/")
    page.keyboard.type(SECOND[:8])
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody")).to_contain_text(SECOND)
    expect(page.get_by_role("status")).to_contain_text("1 run match")
    page.wait_for_url(f"**/runs?search={SECOND[:8]}")
    assert page.evaluate("document.activeElement.id") == "search"
    page.get_by_role("link", name="Started").click()
    page.wait_for_url("**sort=started**")
    expect(page.locator("th[aria-sort=ascending]")).to_have_count(1)


def test_what_is_typed_as_soon_as_the_page_is_there_is_searched_for(tab: Tab) -> None:
    # What scripts put off until after the page comes late on a busy machine.
    tab.page.add_init_script("const later = setTimeout; setTimeout = (call, ms = 2000) => later(call, ms)")
    tab.page.goto("/runs")
    tab.page.get_by_role("searchbox").press_sequentially(SECOND[:8])
    expect(tab.page.locator("tbody tr")).to_have_count(1)


def test_the_theme_is_kept(tab: Tab) -> None:
    page = tab.page
    page.goto("/runs")
    button = page.get_by_role("button", name="Theme: system. Change it")
    button.click()
    page.get_by_role("button", name="Theme: light. Change it").click()
    page.goto("/models")
    expect(page.get_by_role("button", name="Theme: dark. Change it")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 21, 24)"


def test_the_first_tab_stop_skips_to_the_content(tab: Tab) -> None:
    tab.page.goto("/runs")
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    tab.page.keyboard.press("Enter")
    assert tab.page.evaluate("document.activeElement.id") == "main"


def ready(page: Page) -> None:
    """Wait until the graph is drawn."""
    page.wait_for_function("() => document.getElementById('graph').cy?.nodes().length > 0")


def test_the_graph_is_walked_and_expanded_by_keys_and_every_step_has_an_address(tab: Tab) -> None:
    page = tab.page
    page.goto(link_to(f"execution:{FIRST}:rl"))
    ready(page)
    before = page.evaluate("document.getElementById('graph').cy.nodes().length")
    page.locator("#graph").focus()
    assert page.evaluate("getComputedStyle(document.getElementById('graph')).outlineStyle") == "solid"
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#panel-name")).not_to_have_text("rl")
    expect(page.locator("#graph-status")).to_contain_text("comes from")
    assert "selected=" in page.url
    chosen = page.evaluate("document.querySelector('#graph').cy.$('.selected').data()")
    assert chosen["kind"] == "artifact" and chosen["more"] > 0
    page.keyboard.press("Enter")
    page.wait_for_function(f"() => document.getElementById('graph').cy.nodes().length > {before}")
    page.wait_for_url("**expand=**")
    name = page.locator("#panel-name").text_content()
    page.reload()
    ready(page)
    assert page.evaluate("document.getElementById('graph').cy.nodes().length") > before
    assert page.locator("#panel-name").text_content() == name
    page.locator("#graph").focus()
    page.keyboard.press("Home")
    expect(page.locator("#panel-name")).to_have_text("rl")


def test_a_click_shows_a_node_and_what_is_joined_to_it(tab: Tab) -> None:
    page = tab.page
    page.goto(link_to(f"execution:{FIRST}:rl"))
    ready(page)
    before = page.evaluate("document.getElementById('graph').cy.nodes().length")
    at = page.evaluate(f"document.getElementById('graph').cy.getElementById('run:{FIRST}').renderedPosition()")
    page.locator("#graph").click(position=at)
    expect(page.locator("#panel-name")).to_have_text(FIRST)
    page.wait_for_function(f"() => document.getElementById('graph').cy.nodes().length > {before}")
    page.go_back()
    expect(page.locator("#panel-name")).to_have_text("rl")


def test_a_neighbours_link_moves_the_graph_and_the_focus(tab: Tab) -> None:
    page = tab.page
    page.goto(link_to(f"execution:{FIRST}:rl"))
    ready(page)
    page.locator("#panel a[data-node]", has_text="long_cot_sft").click()
    expect(page.locator("#panel-name")).to_contain_text("long_cot_sft")
    page.wait_for_function("() => document.activeElement.id === 'panel-name'")
    assert page.evaluate("document.getElementById('graph').cy.$('.selected').data('stage')") is None
    assert "long_cot_sft" in page.evaluate("document.getElementById('graph').cy.$('.selected').data('name')")
    page.locator("#hops").select_option("1")
    page.wait_for_url("**hops=1**")


def test_curves_of_two_runs_are_drawn_over_each_other(tab: Tab) -> None:
    page = tab.page
    page.goto(f"/compare?a={FIRST}&b={SECOND}")
    plot = page.locator('.plot[data-metric="rl/accuracy"]')
    expect(plot.locator("canvas")).to_have_count(1)
    assert "from 0.5 to 0.69" in (plot.get_attribute("aria-label") or "")
    expect(page.locator(".plot", has=page.locator("canvas")).first).to_be_visible()


def test_a_running_stage_moves_without_a_reload(browser: Browser, tmp_path: Path) -> None:
    site = made_up_site(tmp_path)
    with served(site) as address:
        tab = Tab(browser, address)
        page = tab.page
        tell(site, RUNNING, kind="task", task="rollout", total=200, unit="tokens")
        page.goto(f"/runs/{RUNNING}")
        page.evaluate("window.same = true")
        for done in (50, 150):
            tell(site, RUNNING, kind="update", task="rollout", done=done, total=200, unit="tokens")
            expect(page.locator("#live")).to_contain_text(f"{done} of 200 tokens")
        page.get_by_role("link", name="Gates", exact=True).focus()
        tell(site, RUNNING, kind="update", task="rollout", done=199, total=200, unit="tokens")
        expect(page.locator("#live")).to_contain_text("199 of 200 tokens")
        assert page.evaluate("window.same") and page.evaluate("document.activeElement.textContent") == "Gates"
        tab.context.close()
    assert tab.outside == [] and tab.complaints == []


def test_everything_is_read_without_scripts(browser: Browser, site: Site, address: str) -> None:
    tab = Tab(browser, address, java_script_enabled=False)
    tab.page.goto("/runs")
    tab.page.locator("#search").fill(SECOND)
    tab.page.get_by_role("button", name="Search").click()
    expect(tab.page.locator("tbody tr")).to_have_count(1)
    tab.page.goto(link_to(f"execution:{FIRST}:rl"))
    tab.page.locator("#panel a[data-node]", has_text="curation").click()
    expect(tab.page.locator("#panel-name")).to_contain_text("curation")
    tab.page.goto(f"/runs/{FIRST}?tab=curves")
    tab.page.get_by_role("region", name="rl over its steps", exact=True).get_by_text("As figures").click()
    expect(tab.page.get_by_role("cell", name="0.69").first).to_be_visible()
    tab.context.close()


def test_a_visitor_with_the_token_enters_by_the_form(browser: Browser, site: Site) -> None:
    with served(site, "a-token-of-some-length") as address:
        tab = Tab(browser, address)
        tab.page.goto("/models?search=rl")
        tab.page.get_by_label("Token").fill("a-token-of-some-length")
        tab.page.get_by_role("button", name="Enter").click()
        tab.page.wait_for_url("**/models?search=rl")
        expect(tab.page.get_by_role("heading", name="Models")).to_be_visible()
        tab.context.close()
    assert tab.outside == []
